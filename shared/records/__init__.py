"""Hold the record of a run and its store on disk, nothing else."""

from shared.records.store import (
    Kept,
    OldRecord,
    find_record,
    load_record,
    read_index,
    read_records,
    record_path,
    write_index,
    write_record,
)

__all__ = [
    "Kept",
    "OldRecord",
    "find_record",
    "load_record",
    "read_index",
    "read_records",
    "record_path",
    "write_index",
    "write_record",
]
