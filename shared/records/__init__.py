"""The record of a run and its store on disk, nothing else."""

from shared.records.store import OldRecord, load, read, read_index, record_path, write, write_index, write_text

__all__ = ["OldRecord", "load", "read", "read_index", "record_path", "write", "write_index", "write_text"]
