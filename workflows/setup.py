"""Set-up: makes `.venv` from requirements/lock.txt and compiles exact transport, or says in one sentence why not.

Any Python from 3.8 can run this; it looks for the right one. A stamp is removed first and written last, so
that an environment whose making was interrupted, or whose lock has changed since, never passes as finished.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENV = ROOT / ".venv"
UV = ROOT / ".work" / "uv"
LOCK = ROOT / "requirements" / "lock.txt"
UV_LOCK = ROOT / "requirements" / "uv.txt"
LAUNCHER = ROOT / "workflows" / "launcher.py"

OLDEST, NEWEST = (3, 11), (3, 12)
NEEDED_GB = 8
AGAIN = "then run `make setup` again."

# `fewest` gives every Python the same version of a package.
COMPILE = """pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes
             --no-header --no-annotate --no-emit-index-url --override requirements/overrides.txt"""


def main(arguments):
    if arguments == ["--lock"]:
        lock()
    elif not finished():
        python = choose_python(candidates(os.environ))
        if not ENV.exists():
            require_disk(free_gb([ROOT, cache_folder(os.environ)]))
        fill(install_uv(python), python)
        print("setup: finished; `source .venv/bin/activate` to work in the environment.")


def lock():
    """Resolve the inputs, keeping every pin that still fits; delete a package's line to move it on."""
    uv = install_uv(choose_python(candidates(os.environ)))
    # Slurm's and the peers of benchmarks are installed beside the lock; the latter ask for versions that it has left.
    beside = {"slurm": ["--constraint", LOCK], "bench": ["--constraint", LOCK, "--no-deps"]}
    for name in ("uv", "lock", "slurm", "bench"):
        run([uv, *COMPILE.split(), *beside.get(name, []), f"requirements/{name}.in", "-o", f"requirements/{name}.txt"])


def mark():
    return ENV / ".lock-sha256"


def stamp():
    """What a finished environment was made from: the lock, and the launcher that is copied into it."""
    return hashlib.sha256(LOCK.read_bytes() + LAUNCHER.read_bytes()).hexdigest()


def finished():
    return has_python() and mark().is_file() and mark().read_text(encoding="utf-8") == stamp()


def has_python():
    return (ENV / "bin" / "python").exists()


def candidates(environ):
    """The Python that PYTHON names, or all on PATH: a pyenv shim may exist, fail, and hide one that works."""
    if environ.get("PYTHON"):
        return [environ["PYTHON"]]
    folders = [folder for folder in environ["PATH"].split(os.pathsep) if Path(folder) != ENV / "bin"]
    paths = [Path(folder, name) for name in ("python3.12", "python3.11", "python3") for folder in folders]
    return [str(path) for path in paths if os.access(str(path), os.X_OK)]


def version_of(python):
    """(major, minor), or None if it does not run or, as on a bare Debian, cannot make environments."""
    probe = "import ensurepip, sys, venv; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", probe], capture_output=True, encoding="utf-8", errors="replace")
    except OSError:
        return None
    return None if answer.returncode else tuple(int(part) for part in answer.stdout.split())


def choose_python(paths):
    seen = []
    for path in paths:
        version = version_of(path)
        if version and OLDEST <= version <= NEWEST:
            return path
        seen.append("{} ({})".format(path, "{}.{}".format(*version) if version else "unfit to make environments"))
    stop(
        f"Python 3.11 or 3.12 is needed, and there is {', '.join(seen) or 'none'}: install one (on Debian "
        "with python3-venv), or name it with `make setup PYTHON=/path/to/python3.12`."
    )


def cache_folder(environ):
    """Where uv keeps what it downloads; the environment is linked to it where the file system allows."""
    return Path(environ.get("UV_CACHE_DIR") or environ.get("XDG_CACHE_HOME") or Path.home())


def free_gb(folders):
    """Free gigabytes by folder; of one that does not exist yet, its nearest parent's."""
    existing = [next(path for path in (folder, *folder.parents) if path.exists()) for folder in folders]
    return {str(folder): shutil.disk_usage(str(folder)).free / 1e9 for folder in existing}


def require_disk(free):
    for folder, gigabytes in free.items():
        if gigabytes < NEEDED_GB:
            stop(
                f"Not enough disk: the environment needs {NEEDED_GB} GB and {folder} has {gigabytes:.1f} GB "
                f"free; make room, {AGAIN}"
            )


def install_uv(python):
    """The pinned uv, apart from `.venv`: what first needs the network leaves the environment untouched."""
    uv = UV / "bin" / "uv"
    pin = re.search(r"uv==(\S+)", UV_LOCK.read_text(encoding="utf-8")).group(1)
    if subprocess.getoutput(f"'{uv}' --version").split()[1:2] != [pin]:
        run([python, "-m", "venv", "--clear", UV])
        pip = [UV / "bin" / "python", "-m", "pip", "install", "--quiet", "--retries", "1"]
        run([*pip, "--require-hashes", "-r", UV_LOCK])
    return uv


def fill(uv, python):
    """Make `.venv` hold the lock and nothing else; without a stamp it may be half installed: make it anew."""
    known = has_python() and mark().is_file()
    mark().unlink(missing_ok=True)
    if not known:
        # Relocatable, so that the clone can be moved.
        run([uv, "venv", "--quiet", "--clear", "--relocatable", "--python", python, ENV])
    inside = ENV / "bin" / "python"
    # Two packages come as source only; what builds them is locked as well.
    locked = ["--require-hashes", "--build-constraints", LOCK, LOCK]
    run([uv, "pip", "sync", "--python", inside, *locked], show=True)
    run([inside, "-m", "workflows.launcher", "--install"])
    run([inside, "-m", "workflows.compiling"], show=True)  # which says so where it compiles
    mark().write_text(stamp(), encoding="utf-8")


def run(command, show=False):
    """Run a command in the repository's root; stop with a sentence if it fails."""
    command = [str(part) for part in command]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    process = subprocess.Popen(command, cwd=str(ROOT), **pipe)
    output = ""
    for line in process.stdout:
        output += line
        if show:
            print(line, end="", flush=True)
    if process.wait():
        stop(explain(Path(command[0]).name, output))


def explain(tool, output):
    offline = "name resolution|name or service|dns error|connection|error sending request|timed out|unreachable"
    if re.search(offline, output, re.IGNORECASE):
        return f"No network: the locked packages could not be downloaded; connect, {AGAIN}"
    last = (output.strip().splitlines() or ["no message"])[-1].strip()
    return f"{tool} failed ({last}); mend that, {AGAIN}"


def stop(sentence):
    sys.exit("setup: " + sentence)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        stop("Stopped; `make setup` goes on from what was downloaded.")
