"""What torch hands to the two halves of an operator with a gradient of its own, which torch's stubs do not tell."""

from typing import Protocol

from torch import Tensor


class Context(Protocol):
    """The first argument of `forward` and `backward`; what an operator keeps for the way back is a subclass's."""

    needs_input_grad: tuple[bool, ...]

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]: ...

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...

    def mark_non_differentiable(self, *tensors: Tensor) -> None: ...

    def set_materialize_grads(self, value: bool) -> None: ...
