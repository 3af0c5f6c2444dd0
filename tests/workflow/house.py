"""A copy of this checkout, and commands in it: what the tests of the whole workflow stand on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BESIDE = Path(sys.executable).parent


def environment(**more):
    """Tier smoke, the tools of this Python, git with a name, and no way out to a network."""
    unset = ("LLP_DATA", "LLP_MIRROR", "SNAKEMAKE_PROFILE")
    env = {key: value for key, value in os.environ.items() if key not in unset}
    for scheme in ("http", "https"):
        env |= {f"{scheme}_proxy": "http://127.0.0.1:9", f"{scheme.upper()}_PROXY": "http://127.0.0.1:9"}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "reader", f"GIT_{role}_EMAIL": "reader@localhost"}
    return {**env, "LLP_TIER": "smoke", "PATH": f"{BESIDE}{os.pathsep}{os.environ['PATH']}", **more}


def ours(command):
    """A command with this checkout's launcher of Snakemake."""
    return [sys.executable, "-m", "workflows.launcher", *command[1:]] if command[0] == "snakemake" else command


def run(command, folder, status=0, **more):
    """Run a command in `folder`; both streams as one text."""
    done = subprocess.run(
        ours(command),
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3000,
    )
    assert (done.returncode == 0) == (status == 0), f"{command}\n{done.stdout[-8000:]}"
    return done.stdout


def build(house):
    """Copy what git holds or would take of this checkout, and commit it there; returns the folder.

    Records of other tiers, three files of four, stay behind: tier smoke reads none.
    """
    listed = run(["git", "ls-files", "-co", "--exclude-standard", "-z"], ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not re.match("results/.*/runs/", name):
            (house / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, house / name)
    # What lacks nothing here lacks nothing there: the note goes by the content of files.
    note = ROOT / ".work" / "complete.txt"
    if note.exists():
        (house / ".work").mkdir()
        shutil.copy2(note, house / ".work")
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "copy"]):
        run(command, house)
    return house
