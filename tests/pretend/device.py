"""Register a device called `pretend`, which is none for torch that it knows, and holds its tensors on the host.

Training code that runs on it and finds the CPU's numbers leaves no tensor behind and calls nothing that a host alone
has. A wrapper holds a host tensor; operators are computed on that, and what comes back is wrapped. As on CUDA an
operator refuses a host tensor of one or more dimensions beside one of the device. What would wait for a real device is
counted: see `counting`.

Import this before any backward pass of the process: with the first of them torch counts its devices. An operator costs
some 30 microseconds more than on the host. torch's hook for backends in Python is experimental; `MISSING` says why the
device cannot be had.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch.utils import backend_registration

NAME = "pretend"
MISSING = ""
if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    MISSING = f"torch {torch.__version__} has no hook for a backend in Python"
elif torch.cuda.is_available():
    MISSING = "torch would take a backend in Python for its accelerator in place of CUDA; set CUDA_VISIBLE_DEVICES="
REPO = str(Path(__file__).parents[2])
aten = torch.ops.aten

COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
SHAPED_BY_VALUES = {"nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount"}
LOOKS_AT_VALUES = {"_local_scalar_dense", "equal", "is_nonzero", "_linalg_eigh", "_linalg_svd"}
FACTORIES = (
    *("arange", "arange.start", "arange.start_step", "eye", "eye.m", "full", "linspace", "ones", "zeros"),
    *("rand", "randint", "randint.low", "randn", "randperm", "scalar_tensor", "empty.memory_format", "empty_strided"),
)
# What autocast computes in the lower precision: the backend says, and here it is what the CPU's does.
LOWER = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv2d", "conv2d.padding", "conv_transpose2d.input")
# What CPU and CUDA have as one operator and torch would take apart for others, with other roundings.
WHOLE = ("silu_backward",)

_counts: Counter | None = None


@contextlib.contextmanager
def counting() -> Iterator[Counter]:
    """Count what waits for the device: yields a Counter of (kind, what, "file:line" in the repository).

    Kinds are "read", a value or a shape that the host asks for (a number, a copy to the host, a bool mask as an index,
    the places that are not zero), which waits for all work that was queued; "upload", a copy to the device that the
    host waits for, and with it for all that was queued before it; and "sent", one that it does not wait for.
    """
    global _counts
    before, _counts = _counts, Counter()
    try:
        yield _counts
    finally:
        _counts = before


def _count(kind: str, what: str) -> None:
    if _counts is None:
        return
    frame, where = sys._getframe(1), ""
    while frame and not where:
        path = frame.f_code.co_filename
        if path.startswith(REPO) and "/tests/pretend/device" not in path and "/.venv/" not in path:
            where = f"{path[len(REPO) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    _counts[kind, what, where or "backward"] += 1


class OnDevice(torch.Tensor):
    """A tensor of the device wraps one of the host, `held`."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "layout": held.layout}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, device=f"{NAME}:0", **layout)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})

    def __repr__(self, **_):
        return f"OnDevice({self.held!r})"

    def __reduce_ex__(self, protocol):
        return self.detach().cpu().__reduce_ex__(protocol)  # so a checkpoint is, read on the host

    def tolist(self):
        return self.cpu().tolist()


def _run(function, args: tuple, kwargs: dict):
    hosts: list[torch.Tensor] = []
    held = _unwrapped(args, hosts)
    held_kwargs = {name: _unwrapped(value, hosts) for name, value in kwargs.items()} if kwargs else kwargs
    name = function._schema.name[6:]
    device = kwargs.get("device")
    to_host = device is not None and torch.device(device).type != NAME
    if function in COPIES:
        _copied(function, args, kwargs, to_host)
    elif function in INDEXING:
        _indexed(name, args, hosts)
    elif hosts:
        _refuse(function, name, hosts)
    if name in SHAPED_BY_VALUES or name in LOOKS_AT_VALUES:
        _count("read", name.strip("_").replace("local_scalar_dense", "item"))
    elif name == "repeat_interleave" and kwargs.get("output_size") is None:
        _count("read", "repeat_interleave without a size")
    if device is not None and not to_host:
        held_kwargs["device"] = "cpu"
    found = function(*held, **held_kwargs)
    written = _written(function)
    if written:
        kept = [args[place] if place < len(args) else kwargs[key] for place, key in written]
        for tensor in kept:
            if type(tensor) is OnDevice and tensor.shape != tensor.held.shape:
                raise NotImplementedError(f"{function} changes a shape in place")
        return kept[0] if len(kept) == 1 else tuple(kept)
    return found if to_host else _wrapped(found)


def _unwrapped(value, hosts: list):
    """The host's tensors in place of the device's; those that were on the host go to `hosts`."""
    if isinstance(value, OnDevice):
        return value.held
    if isinstance(value, torch.Tensor):
        hosts.append(value)
    elif isinstance(value, list | tuple):
        return type(value)([_unwrapped(part, hosts) for part in value])
    return value


def _wrapped(value):
    if isinstance(value, torch.Tensor):
        # A wrapper knows of no bit that says conjugate or negative.
        return OnDevice(value.resolve_conj().resolve_neg())
    return type(value)([_wrapped(part) for part in value]) if isinstance(value, list | tuple) else value


@cache
def _written(function) -> list[tuple[int, str]]:
    """The arguments, by place and name, that an operator returns after writing to them."""
    schema, found = function._schema, []
    for returned in schema.returns:
        alias = returned.alias_info
        if alias is not None and alias.is_write:
            found += [
                (place, argument.name)
                for place, argument in enumerate(schema.arguments)
                if argument.alias_info is not None and argument.alias_info.before_set == alias.before_set
            ]
    return found


def _copied(function, args: tuple, kwargs: dict, to_host: bool) -> None:
    if function is aten._to_copy.default:
        source, up, down = args[0], False, to_host
        waits = not kwargs.get("non_blocking")
    else:
        target, source = args[:2]
        up = isinstance(target, OnDevice) and not isinstance(source, OnDevice)
        down = isinstance(source, OnDevice) and not isinstance(target, OnDevice)
        waits = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
    if down:
        _count("read", "copy to the host")
    elif up and source.numel():
        _count("upload" if waits else "sent", "copy to the device")


def _indexed(name: str, args: tuple, hosts: list) -> None:
    """Host indices are copied, and waited for; bool ones are looked up for their places."""
    indices = [index for index in args[1] if index is not None]
    strangers = [host for host in hosts if host.dim() and not any(host is index for index in indices)]
    if strangers:
        _refuse(None, name, strangers)
    for index in indices:
        if not isinstance(index, OnDevice):
            _count("upload", "index")
        if index.dtype in (torch.bool, torch.uint8):
            _count("read", "mask as index")


def _refuse(function, name: str, hosts: list) -> None:
    """As CUDA: a host tensor stands beside the device's only as a number, in what works element by element."""
    by_element = function is not None and (torch.Tag.pointwise in function.tags or "fill" in name)
    for host in hosts:
        if host.dim() or not by_element:
            shape = tuple(host.shape)
            raise RuntimeError(f"{name}: a tensor {shape} on the host beside those on {NAME}:0; move it there")


def _made(function, *args, **kwargs):
    """A factory, called with the device's name."""
    kwargs["device"] = "cpu"
    return OnDevice(function(*args, **kwargs))


def _copy_from(source, target, non_blocking=False):
    """What torch's own copies end in."""
    return _run(aten.copy_.default, (target, source, non_blocking), {})


def _whole(function, *args, **kwargs):
    return _run(function, args, kwargs)


def _lowered(function, *args, **kwargs):
    """An operator under autocast: its float32 tensors in the lower precision."""
    lower = torch.get_autocast_dtype(NAME)

    def cast(value):
        fits = isinstance(value, torch.Tensor) and value.dtype == torch.float32 and isinstance(value, OnDevice)
        return value.to(lower) if fits else value

    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
        return function(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})


class _Module(backend_registration._DummyBackendModule if not MISSING else object):
    """torch.pretend."""

    def is_available(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class _Hook(backend_registration._DummyPrivateUse1Hook if not MISSING else object):
    """What torch's own code asks; it must not take this for the accelerator of the machine."""

    def is_available(self) -> bool:
        return False


def _overload(name: str):
    packet, _, overload = name.partition(".")
    return getattr(getattr(aten, packet), overload or "default")


if not MISSING:
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module(), hook=_Hook())
    _library = torch.library.Library("aten", "IMPL")
    for _name in FACTORIES:
        _library.impl(_name, partial(_made, _overload(_name)), "PrivateUse1")
    _library.impl("_copy_from", _copy_from, "PrivateUse1")
    for _name in WHOLE:
        _library.impl(_name, partial(_whole, _overload(_name)), "PrivateUse1")
    _fallback = torch.library.Library("_", "IMPL")
    _fallback.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for _name in LOWER:
        _library.impl(_name, partial(_lowered, _overload(_name)), "AutocastPrivateUse1")
