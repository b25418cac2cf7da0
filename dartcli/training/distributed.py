"""The step that several processes share: each predicts its rows of a batch that all of them know.

The logits are gathered, so that every process decides for the whole batch, exactly as one process
would. Then the gradients of their rows are gathered and summed in the order of the ranks. A step
exchanges twice, or, with ``ranking="local"``, once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dartcli.data.tensors import Batch
from dartcli.denoising import Decision, Strategy, objective_gradient
from dartcli.denoising.processes import Processes
from dartcli.errors import UsageError
from dartcli.models._layers import BatchNorm1d, Dropout, JointTable
from dartcli.settings import Training
from dartcli.training.program import Program, Taken, observe_batch

logger = logging.getLogger(__name__)


class SharedProgram(Program):
    """The computation of a step by all ``processes``, which have the same models and strategy."""

    def __init__(
        self, models: Sequence[nn.Module], strategy: Strategy, processes: Processes, plan: Training
    ) -> None:
        super().__init__(models, strategy)
        self.processes, self.is_local = processes, plan.ranking == "local"
        networks = [*models, strategy]
        layers = [layer for network in networks for layer in network.modules()]
        self.tables = [layer for layer in layers if isinstance(layer, JointTable)]
        known = {id(table.table) for table in self.tables}
        every = [parameter for network in networks for parameter in network.parameters()]
        self.dense = [parameter for parameter in every if id(parameter) not in known]
        for table in self.tables:
            table.pending = []
        for layer in layers:
            if isinstance(layer, BatchNorm1d | Dropout):
                layer.processes = processes
            elif isinstance(layer, nn.modules.batchnorm._NormBase | nn.modules.dropout._DropoutNd):
                logger.warning(
                    f"{type(layer).__name__} sees only the rows of its process, so results depend "
                    "on the number of processes. Use that of `dartcli.models._layers`."
                )
        self._memory = self._versions()

    def fit(self, batch: Batch, iteration: Tensor, epoch: Tensor) -> Taken:
        """Compute a step and set the gradients of the whole batch."""
        processes = self.processes
        processes.divide(len(batch.label))
        mine, own = processes.mine, slice(None)
        part = Batch(batch.fields[mine], batch.label[mine], batch.row[mine])
        logits = [self.strategy.link(model(part.fields)) for model in self.models]
        seen = torch.stack([logit.detach() for logit in logits], dim=1)
        signal = seen.new_tensor([processes.poll()])
        share = len(seen) / max(len(batch.label), 1)
        if not self.is_local:
            found, signals = processes.gather_all([processes.pad(seen), signal])
            seen, part, own, share = processes.join(found), batch, mine, 1.0
        observed = observe_batch(part, seen.unbind(1), iteration, epoch)
        with torch.no_grad():
            decisions = self.strategy.exchange(observed)
            pairs = list(map(objective_gradient, observed, seen.unbind(1), decisions))
        objective = torch.stack([objective for objective, _ in pairs]).sum() * share
        slopes = [slope[own] * share for _, slope in pairs]
        torch.autograd.backward(list(map(torch.dot, logits, slopes)))
        loss, (weight, label) = observed[0].loss, decisions[0]
        if not self.is_local:
            self._exchange([])
        else:
            if self._versions() != self._memory:
                raise UsageError(
                    "`--ranking local` does not work with this strategy: it remembers earlier "
                    "batches, and each process would remember others. Use `--ranking global`."
                )
            columns = processes.pad(torch.stack((loss, weight, label), dim=1))
            columns, objectives, signals = self._exchange([columns, objective, signal])
            loss, weight, label = processes.join(columns).unbind(1)
            objective = objectives.sum()
        processes.signal = int(signals.max())
        return Taken(loss, Decision(weight, label), objective)

    @torch.no_grad()
    def _exchange(self, others: list[Tensor]) -> list[Tensor]:
        """Sum the gradients of all processes, and return [processes, ...] of ``others``."""
        pad, join = self.processes.pad, self.processes.join
        looked_up = [(table, *one) for table in self.tables for one in table.pending or ()]
        dense = [parameter for parameter in self.dense if parameter.grad is not None]
        parts = [*others, *(parameter.grad for parameter in dense if parameter.grad is not None)]
        for _, rows, gradient in looked_up:
            parts += [pad(rows.to(torch.int32)), pad(gradient)]
        found = iter(self.processes.gather_all(parts))
        result = [next(found) for _ in others]
        for parameter in dense:
            parameter.grad = next(found).sum(0)
        for table in self.tables:
            table.pending = None
        for table, *_ in looked_up:
            rows, gradient = join(next(found)).to(torch.int64), join(next(found))
            if table.accumulates:
                table.add_gradient(rows, gradient)
            else:
                table.add_sparse_gradient(rows, gradient)
        for table in self.tables:
            table.pending = []
        return result

    def _versions(self) -> list[tuple[int, int]]:
        """Return what changes if a buffer of the strategy does."""
        return [(id(buffer), buffer._version) for buffer in self.strategy.buffers()]
