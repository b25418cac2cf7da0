"""Train with several processes that ``torchrun`` started: one batch, one model, one answer.

Every process holds the whole model, and knows each batch from the seed. It predicts its share of
the rows. The logits are gathered, so that every process decides for the whole batch, exactly as
one process would; then the gradients of its share are gathered and summed in the order of the
ranks. A step exchanges twice, or once with ``ranking="local"``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dartcli.data.tensors import Batch
from dartcli.denoising import Decision, Observed, Strategy, objective_gradient, observe
from dartcli.denoising.processes import Processes, pack, pad_rows, unpack
from dartcli.errors import UsageError
from dartcli.models._layers import BatchNorm1d, Dropout, JointTable
from dartcli.settings import Training
from dartcli.training.program import Program, Taken

logger = logging.getLogger(__name__)


class SharedProgram(Program):
    """The computation of a step that several processes share.

    Parameters
    ----------
    models, strategy
        As for :class:`Program`; all processes have the same.
    processes
        This process and the others.
    plan
        Whether to rank the whole batch.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        strategy: Strategy,
        processes: Processes,
        plan: Training,
    ) -> None:
        super().__init__(models, strategy)
        self.processes, self.is_local = processes, plan.ranking == "local"
        layers = [layer for network in (*models, strategy) for layer in network.modules()]
        self.tables = [layer for layer in layers if isinstance(layer, JointTable)]
        known = {id(table.table) for table in self.tables}
        self.dense = [
            parameter
            for network in (*models, strategy)
            for parameter in network.parameters()
            if id(parameter) not in known
        ]
        for table in self.tables:
            table.pending = []
        for layer in layers:
            if isinstance(layer, BatchNorm1d | Dropout):
                layer.processes = processes
            elif isinstance(layer, nn.modules.batchnorm._NormBase | nn.modules.dropout._DropoutNd):
                logger.warning(
                    f"{type(layer).__name__} of the model sees only the rows of its own process, "
                    "so results depend on the number of processes. Use the layer of "
                    "`dartcli.models._layers`."
                )
        self._memory = self._versions()

    def fit(self, batch: Batch, iteration: Tensor, epoch: Tensor) -> Taken:
        """Compute a step and set the gradients of the whole batch."""
        self.processes.rows = len(batch.label)
        mine = self.processes.mine
        outputs = [model(batch.fields[mine]) for model in self.models]
        logits = [self.strategy.link(output) for output in outputs]
        seen = torch.stack([logit.detach() for logit in logits], dim=1)
        signal = seen.new_tensor([self.processes.poll()])
        if self.is_local:
            return self._fit_own(batch, iteration, epoch, logits, signal)
        found, signals = self._gather((pad_rows(seen, self.processes.most), signal))
        whole = self.processes.join_rows(found)
        self.processes.signal = int(signals.max())
        observed = [_observe(batch, slice(None), one, iteration, epoch) for one in whole.unbind(1)]
        objectives, gradients, decision = self._decide(observed, whole)
        products = [
            torch.dot(*pair) for pair in zip(logits, gradients[mine].unbind(1), strict=True)
        ]
        torch.autograd.backward(products)
        self._exchange(())
        return Taken(observed[0].loss, decision, objectives)

    def _fit_own(
        self, batch: Batch, iteration: Tensor, epoch: Tensor, logits: list[Tensor], signal: Tensor
    ) -> Taken:
        """Decide for the rows of this process alone; the loss is the mean over the batch."""
        mine, most = self.processes.mine, self.processes.most
        seen = torch.stack([logit.detach() for logit in logits], dim=1)
        observed = [_observe(batch, mine, one, iteration, epoch) for one in seen.unbind(1)]
        objective, gradients, decision = self._decide(observed, seen)
        if self._versions() != self._memory:
            raise UsageError(
                "`--ranking local` does not work with this strategy: it remembers earlier batches, "
                "and each process would remember others. Use `--ranking global`."
            )
        share = len(seen) / max(len(batch.label), 1)
        products = [
            torch.dot(logit, gradient * share)
            for logit, gradient in zip(logits, gradients.unbind(1), strict=True)
        ]
        torch.autograd.backward(products)
        columns = torch.stack((observed[0].loss, decision.weight, decision.label), dim=1)
        columns, objectives, signals = self._exchange(
            (pad_rows(columns, most), objective * share, signal)
        )
        self.processes.signal = int(signals.max())
        loss, weight, label = self.processes.join_rows(columns).unbind(1)
        return Taken(loss, Decision(weight, label), objectives.sum())

    def _decide(self, observed: list[Observed], logits: Tensor) -> tuple[Tensor, Tensor, Decision]:
        """Return the objective, its gradient by Float[N, networks] logits, and a decision."""
        with torch.no_grad():
            decisions = self.strategy.exchange(observed)
            pairs = list(map(objective_gradient, observed, logits.unbind(1), decisions))
        objective = pairs[0][0]
        for other, _ in pairs[1:]:
            objective = objective + other
        return objective, torch.stack([slope for _, slope in pairs], dim=1), decisions[0]

    @torch.no_grad()
    def _exchange(self, others: Sequence[Tensor]) -> list[Tensor]:
        """Sum the gradients of all processes, and return [processes, ...] of ``others``."""
        most = self.processes.most
        looked_up = [(table, *one) for table in self.tables for one in table.pending or ()]
        parts = [*others]
        for _, rows, gradient in looked_up:
            parts += [pad_rows(rows.to(torch.int32), most), pad_rows(gradient, most)]
        dense = [parameter for parameter in self.dense if parameter.grad is not None]
        parts += [parameter.grad for parameter in dense if parameter.grad is not None]
        found = iter(self._gather(parts))
        result = [next(found) for _ in others]
        for table in self.tables:
            pending, table.pending = table.pending or [], []
            both = [
                (
                    self.processes.join_rows(next(found)).reshape(-1).to(torch.int64),
                    self.processes.join_rows(next(found)).reshape(-1, table.table.shape[1]),
                )
                for _ in pending
            ]
            for rows, gradient in both if table.accumulates else ():
                table.add_gradient(rows, gradient)
            if both and not table.accumulates:
                rows, gradient = (torch.cat(part) for part in zip(*both, strict=True))
                table.table.grad = torch.sparse_coo_tensor(
                    rows[None], gradient, table.table.shape, check_invariants=False
                )
        for parameter in dense:
            parameter.grad = next(found).sum(0)
        return result

    def _gather(self, parts: Sequence[Tensor]) -> list[Tensor]:
        return unpack(self.processes.gather(pack(parts)), parts)

    def _versions(self) -> list[tuple[int, int]]:
        """Return what changes if a buffer of the strategy does."""
        return [(id(buffer), buffer._version) for buffer in self.strategy.buffers()]


def _observe(
    batch: Batch, rows: slice, logit: Tensor, iteration: Tensor, epoch: Tensor
) -> Observed:
    user, item = batch.fields[rows].unbind(1)[:2]
    return observe(
        logit,
        batch.label[rows],
        row=batch.row[rows],
        iteration=iteration,
        epoch=epoch,
        user=user,
        item=item,
    )
