"""Refuse operations that would make the CPU wait for a GPU, on any device."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.is_nonzero,
    aten.equal,
    aten.allclose,
    aten._unique,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.repeat_interleave,
    aten.bincount,
}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index}
# on a CPU these dispatch no operator, so they are found by their Python names
TO_HOST = {Tensor.cpu, Tensor.tolist, Tensor.numpy, Tensor.__array__}


class _NoCopiesToHost(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func in TO_HOST:
            raise AssertionError(f"{func.__name__} waits for the device")
        return func(*args, **(kwargs or {}))


class NoSync(TorchDispatchMode):
    """Refuse ``.item()``, Boolean indexing, nonzero, and copies to or from the host.

    ``torch.tensor(number)`` and ``new_tensor`` count as copies from the host: to a GPU the number
    is copied from pageable memory, which waits and cannot be captured in a CUDA graph.
    ``torch.full`` and ``new_full`` fill on the device and are allowed.

    Raises
    ------
    AssertionError
        If an operation would wait.
    """

    def __enter__(self) -> Self:
        self.to_host = _NoCopiesToHost()
        self.to_host.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.to_host.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in WAITS:
            raise AssertionError(f"{func} waits for the device")
        if packet is aten.lift_fresh:
            raise AssertionError(f"{func} copies from the host and waits for the device")
        if packet in INDEXED:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                raise AssertionError(f"{func} with a Boolean mask waits for the device")
        if _copies_to_host(packet, args, kwargs):
            raise AssertionError(f"{func} copies to the host and waits for the device")
        return func(*args, **kwargs)


def _copies_to_host(packet: Any, args: Any, kwargs: Any) -> bool:
    if packet is aten._to_copy:
        source, target = args[0].device, torch.device(kwargs.get("device") or args[0].device)
    elif packet is aten.copy_:
        source, target = args[1].device, args[0].device
    else:
        return False
    return source.type != "cpu" and target.type == "cpu"
