"""The `snakemake` command of this environment: Snakemake, with a bare `--cores` read as `--cores all`.

Since Snakemake 8 `snakemake all --cores` is an error, though its help still says that N may be omitted. It also removes
the lock that a killed Snakemake has left, for which plain Snakemake wants to be called with `--unlock`.
`python -m workflows.launcher --install` puts this in place of the `snakemake` beside that Python.
"""

import inspect
import os
import sys
from pathlib import Path

# Not a plain shebang, which allows no space and no long path: sh finds the Python beside this file.
HEADER = """#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
# Snakemake, with a bare `--cores` read as `--cores all`; written by workflows/launcher.py.
import os
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


def unlock(folder):
    """Remove the lock of a Snakemake started here that lives no more; note that this process has the next one."""
    holder, locks = Path(folder, "holder"), Path(folder, "locks")
    try:
        process = int(holder.read_text(encoding="utf-8"))
        command = Path(f"/proc/{process}/cmdline")
        os.kill(process, 0)
        if not command.exists() or b"snakemake" in command.read_bytes():
            return
    except (OSError, ValueError):
        pass
    left = list(locks.glob("*.lock")) if holder.exists() else []
    for lock in left:
        lock.unlink(missing_ok=True)
    if left:
        print("snakemake: the call before was killed; its lock is removed", file=sys.stderr)
    if Path("Snakefile").exists():
        holder.parent.mkdir(exist_ok=True)
        holder.write_text(str(os.getpid()), encoding="utf-8")


def launch():
    from snakemake.cli import main

    unlock(".snakemake")
    arguments = translate(sys.argv[1:])
    if arguments != sys.argv[1:]:
        print("snakemake: --cores without a number, read as --cores all", file=sys.stderr)
    sys.argv[1:] = arguments
    return main()


def install(folder):
    """Replace `folder`/snakemake."""
    script = "\n\n".join([HEADER, *map(inspect.getsource, (translate, unlock, launch))]) + FOOTER
    new = Path(folder, "snakemake.new")
    new.write_text(script, encoding="utf-8")
    new.chmod(0o755)
    os.replace(new, Path(folder, "snakemake"))


if __name__ == "__main__":
    install(Path(sys.executable).parent) if sys.argv[1:] == ["--install"] else sys.exit(launch())
