"""Numba without its runtime: functions and arrays that need nothing but memory, so that their machine code can be kept.

Arrays are views of addresses. Nothing allocates, and no function has a wrapper that Python could call. Where numba is
told not to compile, the same functions are Python's.
"""

import ctypes
from collections.abc import Callable, Sequence

import numpy as np

from shared.transport.machine import compiles, need_numba

need_numba("a loop")
from numba import njit, types  # noqa: E402
from numba.extending import intrinsic  # noqa: E402
from numba.np.arrayobj import make_array, populate_array  # noqa: E402
from numba.np.numpy_support import from_dtype  # noqa: E402

OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
RELAXED = {"reassoc", "contract", "nsz", "arcp", "nnan"}


def compiled(function: Callable) -> Callable:
    """Compile a loop of which every digit counts."""
    return _compiled(function) if compiles() else function


def vectorised(function: Callable) -> Callable:
    """Compile a loop whose sums may be taken in any order, of numbers."""
    return _compiled(function, fastmath=RELAXED) if compiles() else function


def _compiled(function: Callable, **more: object) -> Callable:
    return njit(**OPTIONS, **more)(function)  # type: ignore[call-overload]  # the stubs lack three of OPTIONS


@compiled
def copy(numbers, to):
    """Copy as many numbers as there is room for, into the kind of the room."""
    for i in range(len(to)):
        to[i] = numbers[i]


def _view(name: str):
    kind = from_dtype(np.dtype(name))

    @intrinsic
    def view(typingctx, address, rows, columns):
        """The array (rows, columns) at an address."""

        def build(context, builder, signature, arguments):
            return _array(context, builder, kind, arguments[0], arguments[1:])

        return types.Array(kind, 2, "C")(types.int64, types.int64, types.int64), build

    def seen(address, rows, columns):
        room = (ctypes.c_char * int(rows * columns * np.dtype(name).itemsize)).from_address(int(address))
        return np.frombuffer(room, name).reshape(rows, columns)

    return view if compiles() else seen


def _array(context, builder, kind, address, shape):
    """The contiguous array of a shape at an address."""
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind)))
    strides = [size]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(length, strides[0]))
    made = make_array(types.Array(kind, len(shape), "C"))(context, builder)
    pointer = builder.inttoptr(address, context.get_data_type(kind).as_pointer())
    populate_array(made, data=pointer, shape=shape, strides=strides, itemsize=size, meminfo=None)
    return made._getvalue()


def of_block(function: Callable, kinds: Sequence[tuple[str, int]] | None, returns: bool = True) -> Callable:
    """Return a function of an address: of what `function` reads itself, or of a block of its arguments."""
    if kinds is None:
        return lambda block: function(block)
    held = [from_dtype(np.dtype(kind)) for kind, _ in kinds]
    given = types.Tuple([types.Array(k, rank, "C") if rank else k for k, (_, rank) in zip(held, kinds, strict=True)])

    @intrinsic
    def arguments(typingctx, block):
        def build(context, builder, signature, address):
            at, values = 0, []

            def word(kind):
                nonlocal at
                place = builder.add(address[0], context.get_constant(types.int64, 8 * at))
                at += 1
                return builder.load(builder.inttoptr(place, context.get_data_type(kind).as_pointer()))

            for kind, (_, rank) in zip(held, kinds, strict=True):
                if rank:
                    place, shape = word(types.int64), [word(types.int64) for _ in range(rank)]
                    values.append(_array(context, builder, kind, place, shape))
                elif kind == types.float32:
                    values.append(context.cast(builder, word(types.float64), types.float64, kind))
                else:
                    values.append(word(kind))
            return context.make_tuple(builder, given, values)

        return given(types.int64), build

    if returns:
        return lambda block: function(*arguments(block))  # type: ignore[call-arg]  # the stubs keep typingctx

    def nothing(block):
        function(*arguments(block))
        return 0

    return nothing


doubles, floats, longs, ints, flags = map(_view, ("float64", "float32", "int64", "int32", "uint8"))
