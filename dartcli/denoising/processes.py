"""The processes of one training, and the only ways in which they exchange tensors.

Every exchange gathers the same number of values from every process, in the order of their ranks,
so what is computed from the result is the same on all of them, and the same in every run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from dartcli.errors import TrainingError, first_line


class Processes:
    """The processes of ``torch.distributed``'s default group.

    Parameters
    ----------
    seconds
        How long each of them waits for the others.
    """

    def __init__(self, seconds: float) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.seconds = seconds
        self.rows = 0
        """Rows of the current batch, over all processes."""
        self.poll: Callable[[], int] = lambda: 0
        """Returns the number of the signal that asked this process to stop, or 0."""
        self.signal = 0
        """The number of a signal that any process had received before the last step."""

    @property
    def mine(self) -> slice:
        """The rows of the current batch that this process computes."""
        return self.share(self.rank)

    def share(self, rank: int) -> slice:
        """Return the rows of the current batch of process ``rank``: as many as others, or one more.

        With fewer rows than processes, the last ones have none.
        """
        size, more = divmod(self.rows, self.count)
        start = rank * size + min(rank, more)
        return slice(start, start + size + (rank < more))

    @property
    def most(self) -> int:
        """Rows of the largest share of the current batch."""
        return -(-self.rows // self.count)

    def gather(self, values: Tensor) -> Tensor:
        """Return [processes, ...] of the ``values`` [...], which have one shape on all processes.

        Raises
        ------
        TrainingError
            If another process is gone, or does not answer in time.
        """
        own = values.detach().contiguous()
        result = own.new_empty(self.count, *own.shape)
        try:
            dist.all_gather(list(result.unbind()), own)
        except RuntimeError as error:
            raise self._lost(error) from error
        return result

    def gather_rows(self, values: Tensor) -> Tensor:
        """Return [rows, ...] of the current batch, from the share [share, ...] of each process."""
        return self.join_rows(self.gather(pad_rows(values, self.most)))

    def join_rows(self, gathered: Tensor) -> Tensor:
        """Return [rows, ...] from [processes, most, ...], without the padding."""
        if self.rows == self.count * self.most:
            return gathered.flatten(0, 1)
        shares = [self.share(rank) for rank in range(self.count)]
        sizes = [share.stop - share.start for share in shares]
        return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])

    def check_same(self, name: str, *values: float) -> None:
        """Raise TrainingError unless ``values``, called ``name``, are the same everywhere."""
        found = self.gather(torch.tensor(values, dtype=torch.float64))
        other = [
            rank for rank in range(self.count) if found[rank].ne(found[0]).any()
        ]  # NaN differs from NaN, but is refused before
        if other:
            raise TrainingError(
                f"{name} of process {other[0]} differs from that of process 0. All machines need "
                "the same data, versions, and kind of processor."
            )

    def broadcast(self, value: Any = None, content: bytes = b"") -> tuple[Any, bytes]:
        """Return the JSON ``value`` and ``content`` of process 0, whatever the others pass."""
        head = json.dumps([value, len(content)]).encode()
        size = torch.tensor([len(head), len(content)])
        try:
            dist.broadcast(size, 0)
            data = torch.empty(int(size.sum()), dtype=torch.uint8)
            if self.rank == 0:
                data.copy_(torch.frombuffer(bytearray(head + content), dtype=torch.uint8))
            dist.broadcast(data, 0)
        except RuntimeError as error:
            raise self._lost(error) from error
        found = data.numpy().tobytes()
        return json.loads(found[: int(size[0])])[0], found[int(size[0]) :]

    def _lost(self, error: RuntimeError) -> TrainingError:
        return TrainingError(
            f"process {self.rank} of {self.count} lost the others: one of them ended, or did not "
            f"answer for {self.seconds:g} s ({first_line(error)[:200]}). Resume the run with the "
            "same `torchrun`, or let it do so with `--max-restarts`."
        )


def pad_rows(values: Tensor, rows: int) -> Tensor:
    """Return [rows, ...]: ``values``, followed by zeros."""
    if len(values) == rows:
        return values
    return torch.cat([values, values.new_zeros(rows - len(values), *values.shape[1:])])


def pack(parts: Sequence[Tensor]) -> Tensor:
    """Return Float[N], the float32 and int32 tensors ``parts`` one after the other."""
    return torch.cat([part.contiguous().view(torch.float32).view(-1) for part in parts])


def unpack(gathered: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """Return [processes, ...] of each of ``parts`` from the gathered result of :func:`pack`."""
    pieces = gathered.split([part.numel() for part in parts], dim=1)
    return [
        piece.contiguous().view(part.dtype).view(len(gathered), *part.shape)
        for piece, part in zip(pieces, parts, strict=True)
    ]
