"""Loops in machine code: numba compiles them once, and every process after that loads them by llvmlite alone.

What numba itself keeps is a pickle, and a second of imports and look-ups in every process and every clone. Here it is
an object file, under a name that is made of the sources and the processor, in the first folder of `folders` that takes
it. Where others could have written it, it is not loaded. Loops that are kept so need nothing but memory that they are
given (`shared.transport.bare`). With NUMBA_DISABLE_JIT=1 they run as they are written, for a debugger, and slowly.
"""

import ctypes
import hashlib
import os
import stat
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from shared.files import whole

PROJECT = "llp-replications"
# What all loops are compiled by.
BASE = tuple(Path(__file__).with_name(name) for name in ("machine.py", "bare.py", "constants.py"))
KEPT = 8  # files of a name in a folder: of as many sources and processors
DIGEST = hashlib.sha256().digest_size
BLOCK = "block"  # in place of kinds: the loop takes the address of bytes that it reads itself


@dataclass(frozen=True, eq=False)
class Loops:
    """Loops that are compiled together.

    Parameters
    ----------
    name : of the file
    title : what the line on stderr says is compiled
    kinds : {name of a loop: kinds of its arguments}, as in ``"f4[3] f8[1] i8 f8"``: NumPy's letters, with the number of
        dimensions of an array, which must be contiguous; of numbers f4, f8 and i8 alone. With ``-> i8`` at the end the
        loop returns an int, else nothing. Or `BLOCK`
    found : imports numba and returns {name of a loop: function}, of the decorators of `shared.transport.bare`
    sources : all files that the functions come from
    seconds : of one core, about, to compile
    """

    name: str
    title: str
    kinds: dict[str, str]
    found: Callable[[], dict[str, Callable]]
    sources: Sequence[Path]
    seconds: int

    @cached_property
    def calls(self) -> dict[str, Callable]:
        """The loops, which Python calls with numbers, arrays and tensors of their kinds, or with bytes.

        They let go of the interpreter, run on the caller's thread and allocate nothing. It says so in a line on stderr
        if it must compile.

        Raises
        ------
        ModuleNotFoundError
            If numba is not installed.
        """
        if not compiles():
            return {name: _plain(function, self.kinds[name]) for name, function in self.found().items()}
        llvm = need_llvm(self.title)
        name = _name(llvm, self)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target(llvm))
        engine.add_object_file(llvm.ObjectFileRef.from_data(_kept(name) or _made(llvm, self, name)))
        engine.finalize_object()
        return {loop: _called(engine, loop, kinds) for loop, kinds in self.kinds.items()}


def _solve_bags() -> dict[str, Callable]:
    from shared.transport.bag_solver import solve_bags

    return {"solve_bags": solve_bags}


OWN = ("warm_start.py", "successive_paths.py", "bag_solver.py")
EXACT = Loops(
    "transport",
    "exact transport",
    {"solve_bags": BLOCK},
    _solve_bags,
    [Path(__file__).with_name(name) for name in OWN],
    10,
)


def solve_bags() -> Callable[[bytes], int]:
    """Return `bag_solver.solve_bags`, compiled or loaded."""
    return EXACT.calls["solve_bags"]


def need_numba(title: str):
    """Return numba, or say in one sentence what is missing for what `title` names.

    Numba cannot be imported with NUMBA_NUM_THREADS=0; none of its threads run here.
    """
    threads = os.environ.pop("NUMBA_NUM_THREADS", None)
    try:
        import numba
    except ModuleNotFoundError as error:
        raise _missing(title) from error
    finally:
        if threads is not None:
            os.environ["NUMBA_NUM_THREADS"] = threads
    return numba


def need_llvm(title: str):
    """Return llvmlite's binding, ready to compile; or raise as `need_numba` does."""
    try:
        import llvmlite.binding as llvm
    except ModuleNotFoundError as error:
        raise _missing(title) from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _missing(title: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"{title} is compiled by numba: pip install numba", name="numba")


def compiles() -> bool:
    """Whether numba compiles: NUMBA_DISABLE_JIT is neither set nor 0."""
    return os.environ.get("NUMBA_DISABLE_JIT", "").strip() in ("", "0")


def _called(engine, loop: str, kinds: str) -> Callable:
    """A loop as numba calls it: where its answer goes, then where an error would, which it does not raise; a block."""
    integer, address = ctypes.c_int64, ctypes.c_void_p
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(integer), address, ctypes.c_char_p)(
        engine.get_function_address(loop)
    )

    def call(block: bytes, owner: object = engine) -> int:  # who owns the code lives as long as the call
        answer = integer()
        function(answer, None, block)
        return answer.value

    return call if kinds == BLOCK else _packing(call, loop, kinds)


def _packing(call: Callable[[bytes], int], loop: str, kinds: str) -> Callable:
    """The loop with its arguments in a block: of an array the address and the shape."""
    wanted = kinds_of(kinds)
    form = struct.Struct("=" + "".join("q" * (1 + rank) if rank else _word(kind) for kind, rank in wanted))

    def packed(*arguments):
        words, held = [], []
        for (kind, rank), given in zip(wanted, arguments, strict=True):
            if not rank:
                words.append(given)
                continue
            if hasattr(given, "data_ptr"):
                fits, place = given.is_contiguous() and given.device.type == "cpu", given.data_ptr()
            else:
                fits, place = given.flags.c_contiguous, given.__array_interface__["data"][0]
            shape = given.shape
            if not fits or len(shape) != rank or _kind_of(given.dtype) != kind:
                raise TypeError(f"{loop} takes contiguous {kind}[{rank}] on the host, not {given.dtype} {tuple(shape)}")
            words += (place, *shape)
            held.append(given)
        return call(form.pack(*words))

    return packed


def kinds_of(kinds: str) -> list[tuple[str, int]]:
    """Return (letter and bytes of numbers, number of dimensions) of every kind."""
    parts = (kind.rstrip("]").partition("[") for kind in kinds.partition("->")[0].split())
    return [(kind, int(rank or 0)) for kind, _, rank in parts]


def _word(kind: str) -> str:
    return {"i8": "q", "f8": "d", "f4": "d"}[kind]


@cache
def _kind_of(dtype: object) -> str:
    """The letter and bytes of a dtype of NumPy or torch."""
    import numpy as np

    found = np.dtype(str(dtype).removeprefix("torch."))
    return f"{found.kind}{found.itemsize}"


def _plain(function: Callable, kinds: str) -> Callable:
    """A loop that is not compiled, called as if it were."""
    import numpy as np

    def call(*arguments):
        if kinds == BLOCK:
            held = ctypes.create_string_buffer(arguments[0], len(arguments[0]))
            arguments = (ctypes.addressof(held),)
        given = [value.numpy() if hasattr(value, "data_ptr") else value for value in arguments]
        with np.errstate(all="ignore"):
            return int(function(*given) or 0)

    return call


def folders() -> list[Path]:
    """Return where object files may lie: a cache of the user, or the checkout, or a temporary folder."""
    said = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    own = [Path(said) / PROJECT] if os.path.isabs(said) else []
    temporary = Path(tempfile.gettempdir()) / f"{PROJECT}-{os.geteuid()}"
    return [*own, Path(__file__).parents[2] / ".work" / "machine", temporary]


def _name(llvm, loops: Loops) -> str:
    import llvmlite

    key = hashlib.sha256()
    for part in (llvmlite.__version__, llvm.get_process_triple(), *_processor(llvm), str(loops.kinds)):
        key.update(part.encode() + b"\0")
    for source in (*BASE, *loops.sources):
        key.update(source.read_bytes() + b"\0")
    return f"{loops.name}-{key.hexdigest()[:32]}.o"


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


def _made(llvm, loops: Loops, name: str) -> bytes:
    """Compile, and keep the object file where it can be kept."""
    print(f"compiling {loops.title}, once, about {loops.seconds} s", file=sys.stderr, flush=True)
    code, alone = _compiled(llvm, loops)
    for folder in folders() if alone else []:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(folder.stat()):
                continue
            with whole(folder / name) as part:
                part.write_bytes(hashlib.sha256(code).digest() + code)
                part.chmod(0o600)
            for old in sorted(folder.glob(f"{loops.name}-*.o"), key=os.path.getmtime)[:-KEPT]:
                old.unlink(missing_ok=True)
            return code
        except OSError:
            continue
    print(f"{loops.title}: compiled by each process, no folder keeps it; NUMBA_CACHE_DIR may name one", file=sys.stderr)
    return code


def _compiled(llvm, loops: Loops) -> tuple[bytes, bool]:
    """The object file, and whether it needs nothing that a process without numba lacks."""
    numba = need_numba(loops.title)
    from shared.transport import bare

    functions, linked = loops.found(), llvm.parse_assembly("")
    for loop, kinds in loops.kinds.items():
        made = bare.of_block(
            functions[loop], None if kinds == BLOCK else kinds_of(kinds), kinds == BLOCK or "->" in kinds
        )
        made = numba.njit(**bare.OPTIONS)(made)
        made.compile((numba.types.int64,))
        (overload,) = made.overloads.values()
        module = llvm.parse_assembly(overload.library.get_llvm_str())
        module.get_function(overload.fndesc.llvm_func_name).name = loop
        linked.link_in(module)
    # LLVM's own become calls of libm and libc, which every process has.
    alone = all(function.name.startswith("llvm.") for function in linked.functions if function.is_declaration)
    return _target(llvm).emit_object(linked), alone


if __name__ == "__main__":
    solve_bags()
