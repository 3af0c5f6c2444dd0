"""What `make lint` asks of the workflow: Snakemake's own linter and formatter find nothing."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command):
    beside = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": beside + os.pathsep + os.environ["PATH"], "LLP_TIER": "smoke"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def test_snakemake_lint_is_clean():
    """A reader who knows Snakemake runs this first, and so does `make lint`."""
    done = run("snakemake", "--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_formatted():
    done = run("snakefmt", "--check", "Snakefile", "workflows")
    assert done.returncode == 0, run("snakefmt", "--diff", "Snakefile", "workflows").stdout
