"""The `snakemake` command of this environment: Snakemake, with a bare `--cores`, or none, read as `--cores all`.

Since Snakemake 8 `snakemake all --cores` is an error, though its help still says that N may be omitted. It also removes
the lock that a killed Snakemake has left, for which plain Snakemake wants to be called with `--unlock`.
`python -m workflows.launcher --install` puts this in place of the `snakemake` beside that Python.
"""

import inspect
import os
import platform
import sys
from pathlib import Path

# Not a plain shebang, which allows no space and no long path: sh finds the Python beside this file.
HEADER = """#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
# Snakemake, with a bare `--cores` read as `--cores all`; written by workflows/launcher.py.
import os
import platform
import sys
from pathlib import Path
"""

FOOTER = """

if __name__ == "__main__":
    sys.exit(launch())
"""


def translate(arguments):
    """Give a `--cores` or `-c` without a number the number `all`; leave the rest, and what follows `--`."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    translated = []
    for option, following in zip(options, options[1:] + ["-"], strict=False):
        bare = option in ("--cores", "-c") and following.startswith("-")
        translated += [option, "all"] if bare else [option]
    return translated + arguments[len(options) :]


def complete(arguments, environ):
    """Add `--cores all` where neither an option, nor a profile or an executor that may, says how much runs at once."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    said = ("--cores", "-c", "--jobs", "-j", "--executor", "-e", "--profile", "--workflow-profile")
    told = any(option.startswith(said) for option in options) or environ.get("SNAKEMAKE_PROFILE")
    return options + ([] if told else ["--cores", "all"]) + arguments[len(options) :]


def unlock(folder):
    """Remove the lock of a Snakemake that this launcher started on this host and that lives no more.

    `holder` in the folder says which process that is; of a lock that is older nothing is known, and it stays. Returns
    whether `holder` names this process from now on.
    """
    holder, me = Path(folder, "holder"), f"{os.getpid()} {platform.node()}"
    try:
        process, host = holder.read_text(encoding="utf-8").split(" ", 1)
        if host != platform.node():
            if any(Path(folder, "locks").glob("*.lock")):
                return False
            raise ValueError("whoever it was holds nothing")
        os.kill(int(process), 0)
        command = Path(f"/proc/{process}/cmdline")
        if not command.exists() or any(name in command.read_bytes() for name in (b"snakemake", b"workflows.launcher")):
            return False
    except PermissionError:  # it lives, and is another person's
        return False
    except (OSError, ValueError):
        pass
    since = holder.stat().st_mtime if holder.exists() else float("inf")
    left = [lock for lock in Path(folder, "locks").glob("*.lock") if lock.stat().st_mtime >= since]
    try:
        for lock in left:
            lock.unlink()
        if left:
            print("snakemake: the call before was killed; its lock is removed", file=sys.stderr)
        if not Path("Snakefile").exists():
            return False
        holder.parent.mkdir(exist_ok=True)
        holder.write_text(me, encoding="utf-8")
    except OSError:  # the folder is another person's, or read-only: Snakemake says what it cannot do there
        return False
    return True


def launch():
    from snakemake.cli import main

    holds = unlock(".snakemake")
    arguments = translate(sys.argv[1:])
    if arguments != sys.argv[1:]:
        print("snakemake: --cores without a number, read as --cores all", file=sys.stderr)
    sys.argv[1:] = complete(arguments, os.environ)
    try:
        return main()
    finally:
        if holds:
            Path(".snakemake", "holder").unlink(missing_ok=True)


def install(folder):
    """Replace `folder`/snakemake."""
    script = "\n\n".join([HEADER, *map(inspect.getsource, (translate, complete, unlock, launch))]) + FOOTER
    new = Path(folder, "snakemake.new")
    new.write_text(script, encoding="utf-8")
    new.chmod(0o755)
    os.replace(new, Path(folder, "snakemake"))


if __name__ == "__main__":
    install(Path(sys.executable).parent) if sys.argv[1:] == ["--install"] else sys.exit(launch())
