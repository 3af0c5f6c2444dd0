"""Numba without its runtime: functions and arrays that need nothing but memory, so that their machine code can be kept.

Arrays are views of addresses. Nothing allocates, and no function has a wrapper that Python could call.
"""

from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
compiled = njit(**OPTIONS)
vectorised = njit(**OPTIONS, fastmath={"reassoc", "contract", "nsz", "arcp", "nnan"})


def _view(kind):
    @intrinsic
    def view(typingctx, address, rows, columns):
        """The array (rows, columns) at an address."""
        array = types.Array(kind, 2, "C")

        def build(context, builder, signature, arguments):
            at, *shape = arguments
            size = context.get_constant(types.intp, kind.bitwidth // 8)
            parts = {"shape": shape, "strides": [builder.mul(shape[1], size), size], "itemsize": size, "meminfo": None}
            made = make_array(array)(context, builder)
            pointer = context.get_value_type(types.CPointer(kind))
            populate_array(made, data=builder.inttoptr(at, pointer), **parts)
            return made._getvalue()

        return array(types.int64, types.int64, types.int64), build

    return view


doubles, floats = _view(types.float64), _view(types.float32)
longs, ints, flags = _view(types.int64), _view(types.int32), _view(types.uint8)
