"""The processes of one training, and the only ways in which they exchange tensors.

A result is in the order of the ranks, so what is computed from it is the same on all processes.
Every method raises TrainingError if another process is gone, or does not answer in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch import distributed as dist

from dartcli.errors import TrainingError, first_line


class Processes:
    """The processes of ``torch.distributed``, each of which waits ``seconds`` for the others."""

    def __init__(self, seconds: float) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.seconds = seconds
        self.poll: Callable[[], int] = lambda: 0
        """Returns the number of the signal that asked this process to stop, or 0."""
        self.signal = 0
        """The number of a signal that any process had received before the last step."""
        self.divide(0)

    def divide(self, rows: int) -> None:
        """Divide a batch of ``rows`` rows: ``mine`` are those of this process, perhaps none."""
        size, more = divmod(rows, self.count)
        self.rows, self.most = rows, size + (more > 0)
        self.sizes = [size + (rank < more) for rank in range(self.count)]
        start = sum(self.sizes[: self.rank])
        self.mine = slice(start, start + self.sizes[self.rank])

    def gather(self, values: Tensor) -> Tensor:
        """Return [processes, ...] of the ``values`` [...], which have one shape on all of them."""
        own = values.detach().contiguous()
        result = own.new_empty(self.count, *own.shape)
        try:
            dist.all_gather(list(result.unbind()), own)
        except RuntimeError as error:
            raise self._lost(error) from error
        return result

    def gather_all(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Gather several tensors, float32 or int32, in one exchange."""
        flat = torch.cat([part.contiguous().view(torch.float32).view(-1) for part in parts])
        pieces = self.gather(flat).split([part.numel() for part in parts], dim=1)
        pairs = zip(pieces, parts, strict=True)
        return [one.contiguous().view(part.dtype).view(-1, *part.shape) for one, part in pairs]

    def pad(self, values: Tensor) -> Tensor:
        """Return [most, ...]: the ``values`` [mine, ...], followed by zeros."""
        return torch.cat([values, values.new_zeros(self.most - len(values), *values.shape[1:])])

    def join(self, gathered: Tensor) -> Tensor:
        """Return [rows, ...] of the batch from [processes, most, ...] with padding."""
        pairs = zip(gathered, self.sizes, strict=True)
        return torch.cat([part[:size] for part, size in pairs])

    def check_same(self, name: str, value: float) -> None:
        """Raise TrainingError unless ``value``, called ``name``, is the same everywhere."""
        found = self.gather(torch.tensor(value, dtype=torch.float64)).tolist()
        other = [rank for rank in range(self.count) if found[rank] != found[0]]
        if other:
            raise TrainingError(
                f"{name} of process {other[0]} differs from that of process 0. All machines need "
                "the same data, versions, and kind of processor."
            )

    def broadcast(self, content: bytes = b"") -> bytes:
        """Return the ``content`` of process 0, whatever the others pass."""
        size = torch.tensor([len(content)])
        try:
            dist.broadcast(size, 0)
            data = torch.zeros(int(size), dtype=torch.uint8)
            if self.rank == 0 and content:
                data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            dist.broadcast(data, 0)
        except RuntimeError as error:
            raise self._lost(error) from error
        return data.numpy().tobytes()

    def _lost(self, error: RuntimeError) -> TrainingError:
        return TrainingError(
            f"process {self.rank} of {self.count} lost the others: one of them ended, or did not "
            f"answer for {self.seconds:g} s ({first_line(error)[:200]}). Resume the run with the "
            "same `torchrun`, or let it do so with `--max-restarts`."
        )
