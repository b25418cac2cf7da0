"""A mode in which anything that would make the CPU wait for a GPU is refused, on any device."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.is_nonzero,
    aten.equal,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.repeat_interleave,
    aten.bincount,
}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index}


class NoSync(TorchDispatchMode):
    """Raises AssertionError on ``.item()``, boolean indexing, nonzero, copies to the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        packet = func.overloadpacket
        if packet in WAITS:
            raise AssertionError(f"{func} waits for the device")
        if packet in INDEXED:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                raise AssertionError(f"{func} with a boolean mask waits for the device")
        result = func(*args, **(kwargs or {}))
        if packet in (aten._to_copy, aten.copy_):
            source = args[1] if packet is aten.copy_ else args[0]
            if source.device.type != "cpu" and result.device.type == "cpu":
                raise AssertionError(f"{func} copies to the host")
        return result
