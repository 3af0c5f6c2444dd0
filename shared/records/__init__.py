"""Run specs, run records and where they came from; tables, figures and verdicts are functions of records alone."""

from shared.records.code import code_hash, sources
from shared.records.config import (
    ConfigError,
    Run,
    Tier,
    default_tier,
    load_tier,
    papers_of,
    read_config,
    repository,
    specs,
    tiers,
)
from shared.records.store import read, read_index, record_path, tidy, write

__all__ = [
    "ConfigError",
    "Run",
    "Tier",
    "code_hash",
    "default_tier",
    "load_tier",
    "papers_of",
    "read",
    "read_config",
    "read_index",
    "record_path",
    "repository",
    "sources",
    "specs",
    "tidy",
    "tiers",
    "write",
]
