"""Exact transport in machine code: numba compiles it once, and every process after that loads it by llvmlite alone.

What numba itself keeps is a pickle, and a second of imports and look-ups in every process. Here it is an object file,
under a name that is made of the sources and the processor, in the first folder of `folders` that takes it. Where others
could have written it, it is not loaded.
"""

import ctypes
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from shared.files import whole

PROJECT = "llp-replications"
SOURCES = ("machine.py", "bare.py", "warm_start.py", "successive_paths.py")
SECONDS = 10  # of one core, about, to compile
KEPT = 8  # files in a folder: of as many sources and processors
DIGEST = hashlib.sha256().digest_size


@cache
def solve_bags() -> Callable[[int, int, bytes, int, int], int]:
    """Return `successive_paths.solve_bags`, whose problem is given as bytes.

    It says so in a line on stderr if it must compile.

    Raises
    ------
    ModuleNotFoundError
        If numba is not installed.
    """
    try:
        import llvmlite.binding as llvm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("exact transport is compiled by numba: pip install numba") from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name = _name(llvm)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target(llvm))
    engine.add_object_file(llvm.ObjectFileRef.from_data(_kept(name) or _made(llvm, name)))
    engine.finalize_object()
    return _called(engine)


def _called(engine) -> Callable[[int, int, bytes, int, int], int]:
    """The function, as numba calls it: where the answer goes, then where an error would, which it does not raise."""
    integer, address = ctypes.c_int64, ctypes.c_void_p
    kinds = ctypes.POINTER(integer), address, integer, integer, ctypes.c_char_p, address, integer
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)(engine.get_function_address("solve_bags"))

    def solve_bags(first, last, problem, room, available):
        answer = integer()
        function(answer, None, first, last, problem, room, available)
        return answer.value

    solve_bags.engine = engine  # owns the code
    return solve_bags


def folders() -> list[Path]:
    """Return where object files may lie: a cache of the user, or the checkout, or a temporary folder."""
    said = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    own = [Path(said) / PROJECT] if os.path.isabs(said) else []
    temporary = Path(tempfile.gettempdir()) / f"{PROJECT}-{os.geteuid()}"
    return [*own, Path(__file__).parents[2] / ".work" / "machine", temporary]


def _name(llvm) -> str:
    import llvmlite

    key = hashlib.sha256()
    for part in (llvmlite.__version__, llvm.get_process_triple(), *_processor(llvm)):
        key.update(part.encode() + b"\0")
    for source in SOURCES:
        key.update(Path(__file__).with_name(source).read_bytes() + b"\0")
    return f"transport-{key.hexdigest()[:32]}.o"


def _processor(llvm) -> tuple[str, str]:
    try:
        return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # not known on every system
        return "generic", ""


def _target(llvm):
    cpu, features = _processor(llvm)
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )


def _kept(name: str) -> bytes | None:
    return next(filter(None, (_read(folder, name) for folder in folders())), None)


def _read(folder: Path, name: str) -> bytes | None:
    """An object file that is whole, and that this user alone could have written."""
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=place), "rb") as file:
                trusted = _is_ours(os.fstat(place)) and _is_ours(os.fstat(file.fileno()))
                content = file.read() if trusted else b""
        finally:
            os.close(place)
    except OSError:
        return None
    digest, code = content[:DIGEST], content[DIGEST:]
    return code if code and hashlib.sha256(code).digest() == digest else None


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _made(llvm, name: str) -> bytes:
    """Compile, and keep the object file where it can be kept."""
    print(f"compiling exact transport, once, about {SECONDS} s", file=sys.stderr, flush=True)
    code, alone = _compiled(llvm)
    for folder in folders() if alone else []:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(folder.stat()):
                continue
            with whole(folder / name) as part:
                part.write_bytes(hashlib.sha256(code).digest() + code)
                part.chmod(0o600)
            for old in sorted(folder.glob("transport-*.o"), key=os.path.getmtime)[:-KEPT]:
                old.unlink(missing_ok=True)
            return code
        except OSError:
            continue
    print(
        "exact transport is compiled by each process: no folder keeps it; NUMBA_CACHE_DIR may name one", file=sys.stderr
    )
    return code


def _compiled(llvm) -> tuple[bytes, bool]:
    """The object file, and whether it needs nothing that a process without numba lacks."""
    numba = _numba()
    from shared.transport import bare, successive_paths

    integer = numba.types.int64
    made = numba.njit(integer(*[integer] * 5), **bare.OPTIONS)(successive_paths.solve_bags.py_func)
    (overload,) = made.overloads.values()
    module = llvm.parse_assembly(overload.library.get_llvm_str())
    module.get_function(overload.fndesc.llvm_func_name).name = "solve_bags"
    # LLVM's own become calls of libm and libc, which every process has.
    alone = all(function.name.startswith("llvm.") for function in module.functions if function.is_declaration)
    return _target(llvm).emit_object(module), alone


def _numba():
    """Numba, which cannot be imported with NUMBA_NUM_THREADS=0; none of its threads run here."""
    threads = os.environ.pop("NUMBA_NUM_THREADS", None)
    try:
        import numba
    finally:
        if threads is not None:
            os.environ["NUMBA_NUM_THREADS"] = threads
    return numba


if __name__ == "__main__":
    solve_bags()
