"""The processes of one training, and the only ways in which they exchange tensors.

Every exchange gathers the same number of values from every process, in the order of their ranks,
so what is computed from the result is the same on all of them, and the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

    def gather_all(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Gather several tensors, float32 or int32, in one exchange."""
        flat = torch.cat([part.contiguous().view(torch.float32).view(-1) for part in parts])
        pieces = self.gather(flat).split([part.numel() for part in parts], dim=1)
        return [
            piece.contiguous().view(part.dtype).view(self.count, *part.shape)
            for piece, part in zip(pieces, parts, strict=True)
        ]

    def join_rows(self, gathered: Tensor) -> Tensor:
        """Return [rows, ...] of the current batch from [processes, most, ...] with padding."""
        shares = [self.share(rank) for rank in range(self.count)]
        sizes = [share.stop - share.start for share in shares]
        return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])

    def check_same(self, name: str, *values: float) -> None:
        """Raise TrainingError unless ``values``, called ``name``, are the same everywhere."""
        found = self.gather(torch.tensor(values, dtype=torch.float64)).tolist()
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
            data = torch.empty(int(size), dtype=torch.uint8)
            if self.rank == 0 and content:
                data.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
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


def pad_rows(values: Tensor, rows: int) -> Tensor:
    """Return [rows, ...]: ``values``, followed by zeros."""
    if len(values) == rows:
        return values
    return torch.cat([values, values.new_zeros(rows - len(values), *values.shape[1:])])
