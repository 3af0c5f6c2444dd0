"""Eight numbers at once, for compiled loops over eight bags or eight states: a type of numba's, and what it can do.

A loop over them is written as one over numbers, and no compiler has to find out that neighbours do not depend on each
other. LLVM makes of eight what the processor has.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, overload, register_model

from shared.transport.bare import compiled

WIDTH = 8
BYTES = 8 * WIDTH
_EIGHT, _BITS = (ir.VectorType(kind, WIDTH) for kind in (ir.DoubleType(), ir.IntType(64)))
_LEAST = -708.0  # below it e^x is no normal number, and here 0
_TO_TWOS, _LN2_HIGH, _LN2_LOW = 1 / math.log(2), 6.93147180369123816490e-01, 1.90821492927058770002e-10
_WHOLE = 1.5 * 2**52  # added and taken away again, it rounds to whole numbers
_TAYLOR = tuple(1 / math.factorial(i) for i in range(13, -1, -1))  # to 4e-18 where |x| <= ln(2) / 2


class _Lanes(types.Type):
    """Eight float64."""


lanes = _Lanes("lanes")


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _EIGHT)


def _of_one(kind: types.Type, build: Callable) -> Callable:
    @intrinsic
    def function(typingctx, x):
        return lanes(kind), lambda context, builder, signature, values: build(builder, *values)

    return function


def _of_two(build: Callable) -> Callable:
    @intrinsic
    def function(typingctx, x, y):
        return lanes(lanes, lanes), lambda context, builder, signature, values: build(builder, *values)

    return function


def _all_are(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    first = builder.insert_element(ir.Constant(_EIGHT, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))


def _at(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, _EIGHT.as_pointer())


def _power(builder: ir.IRBuilder, shifted: ir.Value) -> ir.Value:
    """2^k of k + `_WHOLE`, whose last bits are those of k."""
    exponent = builder.add(builder.bitcast(shifted, _BITS), ir.Constant(_BITS, [1023] * WIDTH))
    return builder.bitcast(builder.shl(exponent, ir.Constant(_BITS, [52] * WIDTH)), _EIGHT)


load = _of_one(types.int64, lambda builder, address: builder.load(_at(builder, address), align=8))
fill = _of_one(types.float64, _all_are)
power = _of_one(lanes, _power)
greater = _of_two(lambda builder, x, y: builder.select(builder.fcmp_unordered(">", x, y), x, y))  # NaN if x is
_sum = _of_two(lambda builder, x, y: builder.fadd(x, y))
_difference = _of_two(lambda builder, x, y: builder.fsub(x, y))
_product = _of_two(lambda builder, x, y: builder.fmul(x, y))
_quotient = _of_two(lambda builder, x, y: builder.fdiv(x, y))


@intrinsic
def store(typingctx, address, x):
    """Write eight numbers to an address."""

    def build(context, builder, signature, values):
        builder.store(values[1], _at(builder, values[0]), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, lanes), build


@intrinsic
def fused(typingctx, x, y, z):
    """x y + z, rounded once where the processor can."""

    def build(context, builder, signature, values):
        kind = ir.FunctionType(_EIGHT, [_EIGHT] * 3)
        return builder.call(get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{WIDTH}f64"), values)

    return lanes(lanes, lanes, lanes), build


@intrinsic
def where(typingctx, mask, x):
    """x where the eight integers at the address `mask` are -1, and 0 where they are 0."""

    def build(context, builder, signature, values):
        bits = builder.load(builder.inttoptr(values[0], _BITS.as_pointer()), align=8)
        return builder.bitcast(builder.and_(bits, builder.bitcast(values[1], _BITS)), _EIGHT)

    return lanes(types.int64, lanes), build


@intrinsic
def zero_below(typingctx, x, least, y):
    """y, and 0 where x is below `least`."""

    def build(context, builder, signature, values):
        x, least, y = values
        return builder.select(builder.fcmp_ordered("<", x, least), ir.Constant(_EIGHT, [0.0] * WIDTH), y)

    return lanes(lanes, lanes, lanes), build


def _means(operation: Callable, function: Callable) -> None:
    @overload(operation)
    def of_lanes(x, y):
        return (lambda x, y: function(x, y)) if x is lanes and y is lanes else None


_means(operator.add, _sum)
_means(operator.sub, _difference)
_means(operator.mul, _product)
_means(operator.truediv, _quotient)


@compiled
def exp(x):
    """e^x of lanes of at most 0, to two units in the last place; NaN of NaN."""
    shifted = fused(x, fill(_TO_TWOS), fill(_WHOLE))
    k = shifted - fill(_WHOLE)
    rest = fused(k, fill(-_LN2_LOW), fused(k, fill(-_LN2_HIGH), x))
    series = fill(_TAYLOR[0])
    for term in _TAYLOR[1:]:
        series = fused(series, rest, fill(term))
    return zero_below(x, fill(_LEAST), series * power(shifted))
