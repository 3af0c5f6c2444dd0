"""Hold the record of a run and its store on disk, nothing else."""

from shared.records.store import (
    OldRecord,
    load_record,
    read_index,
    read_records,
    record_path,
    write_index,
    write_record,
    write_text,
)

__all__ = [
    "OldRecord",
    "load_record",
    "read_index",
    "read_records",
    "record_path",
    "write_index",
    "write_record",
    "write_text",
]
