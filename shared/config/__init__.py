"""Configuration: tiers, values with their sources in sections, and the runs they span."""

from shared.config.files import ConfigError, repository
from shared.config.plan import Run, find, papers_of, plan, read_config
from shared.config.spec import Spec, SpecError
from shared.config.tiers import Tier, default_tier, load_tier, papers, tiers

__all__ = [
    "ConfigError",
    "Run",
    "Spec",
    "SpecError",
    "Tier",
    "default_tier",
    "find",
    "load_tier",
    "papers",
    "papers_of",
    "plan",
    "read_config",
    "repository",
    "tiers",
]
