"""A bag of instances is labelled as a whole, by the proportions of its classes.

A bag is ragged: one flat array of instance indices, offsets into it, one row of proportions per bag. Made bags
(n drawn without replacement) and natural ones (faces in a photo) are the same type.
"""

from shared.bags.bags import BagError, Bags
from shared.bags.check import check_bags
from shared.bags.makers import fixed_size, natural, noisy, permutation, permuted, split, variable_size
from shared.bags.segments import segment_mean, segment_softmax, segment_sum

__all__ = [
    "BagError",
    "Bags",
    "check_bags",
    "fixed_size",
    "natural",
    "noisy",
    "permutation",
    "permuted",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "split",
    "variable_size",
]
