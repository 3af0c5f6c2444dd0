"""From records to tables: rows, means over seeds, csv, markdown."""
