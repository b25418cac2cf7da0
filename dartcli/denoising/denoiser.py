"""Use a denoising strategy as the loss function of your own training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

import torch
from torch import Tensor, nn
from torch import distributed as dist

from dartcli import catalog
from dartcli.denoising.inputs import Inputs, Notices, check_values, gather, is_watched, to_column
from dartcli.denoising.loss import bce, denoised_loss, observe
from dartcli.denoising.strategy import Context, Decision, Observed, Strategy, TrainingTable
from dartcli.errors import UsageError
from dartcli.settings import validate

Reduction = Literal["mean", "none"]


@dataclass(frozen=True)
class LastDecision:
    """The decision of the last call on the rows of this process, without gradient."""

    weight: Tensor
    """Float[N], as trained on."""
    label: Tensor
    """Float[N], the training target."""
    recorded: Tensor
    """Float[N], the label that was passed."""

    def counts(self) -> dict[str, int]:
        """Return ``rows``, ``positives``, ``discarded``, and ``relabeled`` positives.

        Reading them waits for the device.
        """
        positive = self.recorded > 0.5
        discarded = positive & (self.weight == 0)
        relabeled = positive & (self.label < 0.5) & ~discarded
        return {
            "rows": len(self.weight),
            "positives": int(positive.sum()),
            "discarded": int(discarded.sum()),
            "relabeled": int(relabeled.sum()),
        }


class Denoiser(nn.Module):
    """Strategy that is called like a loss: ``loss = denoise(logits, labels)``.

    It is an ``nn.Module``: move it with ``.to(device)``, save it with ``state_dict()``, and pass
    its ``parameters()`` to the optimizer if the strategy has any. Everything is computed in float32
    at least, also under autocast. In evaluation mode and in :meth:`decide`, neither the memory of
    the strategy nor the count of steps changes. See :func:`strategy` for the parameters.
    """

    steps: Tensor
    trusted: Tensor | None

    def __init__(
        self,
        rule: Strategy,
        *,
        inputs: Inputs = "logits",
        reduction: Reduction = "mean",
        trusted: Tensor | None = None,
        group: Any = None,
    ) -> None:
        super().__init__()
        self.rule = rule
        self.inputs: Inputs = inputs
        self.reduction = reduction
        self.group = dist.group.WORLD if group is True else group
        self.last: LastDecision | None = None
        """The decision of the last call of :meth:`forward`, and its counts."""
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("trusted", trusted, persistent=False)
        self._notices = Notices()
        self._is_first = True

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        iteration: int | Tensor | None = None,
        sample_weight: Tensor | None = None,
        **ids: Any,
    ) -> Tensor:
        """Return the loss to optimize: Float[], ``sum(weight * bce) / count(weight > 0)``.

        Parameters
        ----------
        logits : Float[N] or Float[N, 1]
            The model's outputs before any sigmoid; after it with ``inputs="probabilities"``.
        labels : Float, Int or Bool of the same shape
            Recorded labels, 0 or 1.
        iteration : int or Int[], optional
            Number of the step, from 1; a tensor must be on the device of the logits. By default,
            the calls in training mode are counted on the device. With gradient accumulation, pass
            the number of the optimizer's step.
        sample_weight : Float[N], optional
            Multiplies the weight of each row; 0 leaves it out of the loss and of the count, but
            not of the ranking.
        **ids
            ``epoch`` (int or Int[], from 1; default: from ``iterations_per_epoch``), ``row``,
            ``user`` and ``item`` (Int[N]), if the strategy needs them. Without ``row``, ties in the
            loss are broken by position.

        Returns
        -------
        Float[]
            Zero, with zero gradient, if every row is discarded or the batch is empty. With
            ``reduction="none"``, Float[N]: ``weight * bce``.

        Raises
        ------
        UsageError
            If shapes differ, a value is out of range, or the strategy needs something that is
            missing. On a GPU, values are checked in the first call only; in a compiled step never.
        """
        if iteration is None and self.training:
            self.steps.add_(1)
        with torch.autocast(logits.device.type, enabled=False):
            linked, whole, mine = self._observe(logits, labels, iteration, **ids)
            decision = self._decide(whole, keep_state=not self.training)
            if sample_weight is not None:
                factor = to_column("sample weights", sample_weight, len(linked)).to(linked.dtype)
                factor, _ = self._gather(factor)
                decision = decision._replace(weight=decision.weight * factor)
            local = Decision(decision.weight[mine], decision.label[mine])
            recorded = to_column("labels", labels).detach()
            self.last = LastDecision(local.weight, local.label, recorded)
            if self.reduction == "none":
                return local.weight * bce(linked, local.label)
            if self.group is None:
                return denoised_loss(linked, local)
            return self._share(linked, local, decision)

    def decide(
        self, logits: Tensor, labels: Tensor, *, iteration: int | Tensor | None = None, **ids: Any
    ) -> Decision:
        """Return how :meth:`forward` would train on each row; nothing changes.

        Without ``iteration``, it is the next one.
        """
        iteration = self.steps + 1 if iteration is None else iteration
        with torch.autocast(logits.device.type, enabled=False):
            _, whole, mine = self._observe(logits, labels, iteration, **ids)
            decision = self._decide(whole, keep_state=True)
        return Decision(decision.weight[mine], decision.label[mine])

    def _decide(self, observed: _Whole, *, keep_state: bool) -> Decision:
        with torch.no_grad():
            before = [buffer.clone() for buffer in self.rule.buffers()] if keep_state else []
            weight, label = self.rule.decide(observed.view)
            if keep_state:
                for buffer, kept in zip(self.rule.buffers(), before, strict=True):
                    buffer.copy_(kept)
            if observed.trusted is not None:
                known = ~observed.trusted.isnan()
                weight = weight.masked_fill(known, 1.0)
                label = torch.where(known, observed.trusted, label)
        return Decision(weight, label)

    def _share(self, linked: Tensor, local: Decision, whole: Decision) -> Tensor:
        """Return the loss of all processes, with this one's gradient times their number.

        Averaging gradients over the processes then gives the gradient of the whole batch.
        """
        kept = (whole.weight > 0).sum().clamp(min=1)
        own = (local.weight * bce(linked, local.label)).sum() / kept
        total = own.detach().clone()
        dist.all_reduce(total, group=self.group)
        scaled = own * dist.get_world_size(self.group)
        return scaled + (total - scaled.detach())

    def _observe(
        self,
        logits: Tensor,
        labels: Tensor,
        iteration: int | Tensor | None,
        *,
        epoch: int | Tensor | None = None,
        row: Tensor | None = None,
        user: Tensor | None = None,
        item: Tensor | None = None,
    ) -> tuple[Tensor, _Whole, slice]:
        """Return the logits with gradient, what the strategy sees, and the place of our rows."""
        outputs = to_column(self.inputs, logits)
        if not outputs.is_floating_point():
            raise UsageError(f"{self.inputs} are {outputs.dtype}. They must be floats.")
        # sums of float16 overflow at 65,504 rows, and bfloat16 makes ties of distinct losses
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        label = to_column("labels", labels, len(outputs)).to(outputs.dtype)
        if iteration is None:
            iteration = self.steps if self.training else self.steps.clamp(min=1)
        step = torch.as_tensor(iteration, device=outputs.device)
        given = {"row": row, "user": user, "item": item}
        if is_watched(outputs, first=self._is_first):
            table = self.rule.context.table
            check_values(outputs, label, step, given, inputs=self.inputs, table=table)
            self._notices.look(self.rule, outputs, label, self.inputs, is_alone=self.group is None)
            self._is_first = False
        if self.inputs == "probabilities":
            outputs = torch.logit(outputs, eps=1e-7)
        linked = self.rule.link(outputs)
        trusted, label = self._replace_trusted(label, row)
        seen, mine = self._gather(linked.detach())
        if row is None:
            row = torch.arange(len(seen), device=seen.device)[mine]
        view = observe(
            seen,
            self._gather(label)[0],
            row=self._gather(row)[0],
            iteration=step,
            epoch=self._find_epoch(step, epoch),
            user=None if user is None else self._gather(user)[0],
            item=None if item is None else self._gather(item)[0],
        )
        return linked, _Whole(view, None if trusted is None else self._gather(trusted)[0]), mine

    def _gather(self, values: Tensor) -> tuple[Tensor, slice]:
        if self.group is None:
            return values, slice(None)
        return gather(values, self.group)

    def _replace_trusted(self, label: Tensor, row: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """Return Float[N] trusted labels (NaN = none), and the labels that the strategy sees."""
        if self.trusted is None:
            return None, label
        if row is None:
            raise UsageError("trusted labels are given by row. Pass `row=`.")
        trusted = self.trusted[row].to(label.dtype)
        known = ~trusted.isnan()
        return trusted, torch.where(known, (trusted >= 0.5).to(label.dtype), label)

    def _find_epoch(self, iteration: Tensor, epoch: int | Tensor | None) -> Tensor:
        if epoch is not None:
            return torch.as_tensor(epoch, device=iteration.device)
        length = self.rule.context.iterations_per_epoch
        if length is not None:
            return (iteration - 1) // length + 1
        if self.rule.needs_epoch:
            raise UsageError(
                "the strategy changes with the epoch. Pass `epoch=` in each call, or create it "
                "with `iterations_per_epoch=`."
            )
        return torch.ones_like(iteration)


@dataclass(frozen=True)
class _Whole:
    """What the strategy sees of the batch of all processes."""

    view: Observed
    trusted: Tensor | None


def strategy(
    name: str,
    *,
    iterations_per_epoch: int | None = None,
    table: TrainingTable | None = None,
    inputs: Inputs = "logits",
    reduction: Reduction = "mean",
    trusted: Tensor | None = None,
    group: Any = None,
    **options: Any,
) -> Denoiser:
    """Return the strategy ``name`` as a loss for your own training loop.

    Parameters
    ----------
    name : str
        A strategy of the catalog, such as ``"dart"``.
    iterations_per_epoch : int, optional
        Needed if an option counts epochs, such as ``t_m="3ep"``, or the strategy changes with the
        epoch and the calls do not pass it.
    table : TrainingTable, optional
        Training interactions, for strategies that use their statistics; ids are checked with it.
    inputs : "logits" or "probabilities"
        What the model's outputs are.
    reduction : "mean" or "none"
        Return one loss, or the weighted loss of each row.
    trusted : Float[rows], optional
        Trusted label of each training row, 0 to 1, and NaN where there is none. Such a row is
        trained on with that label, whatever the strategy decides; ``row`` must be passed.
    group : torch.distributed process group or True, optional
        Rank the batches of all processes (True: of the default group) as one, as
        DistributedDataParallel needs: the loss and the average of the gradients are those of one
        process with the whole batch. Without it, a batch is what this process passes.
    **options
        The strategy's own options, such as ``r=0.5``.

    Raises
    ------
    UsageError
        If there is no such strategy or option, or the strategy cannot be used as a loss: it needs
        known false positives, a clean sample, several networks, or several stages.

    Examples
    --------
    >>> import torch, dartcli
    >>> denoise = dartcli.strategy("dart", r=0.5, tau_m=0.5, t_i=0, t_m=1)
    >>> logits = torch.tensor([-2.0, 3.0, 1.0, -1.0, 0.5], requires_grad=True)
    >>> labels = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    >>> denoise.decide(logits, labels).label  # the first row is relabeled
    tensor([0., 1., 1., 1., 0.])
    """
    for value, allowed in ((inputs, Inputs), (reduction, Reduction)):
        if value not in get_args(allowed):
            raise UsageError(f"{value!r} is not one of {', '.join(get_args(allowed))}.")
    if trusted is not None and bool(((trusted < 0) | (trusted > 1)).any()):
        raise UsageError("a trusted label is not in 0 to 1. Use NaN where there is none.")
    kind = _load_loss(name)
    context = Context(iterations_per_epoch=iterations_per_epoch, table=table)
    rule = _check_study(name, kind(validate(kind.Options, options, "strategy"), context))
    return Denoiser(rule, inputs=inputs, reduction=reduction, trusted=trusted, group=group)


def _load_loss(name: str) -> type[Strategy]:
    """Return the class of a strategy that needs no more than a batch."""
    kind: type[Strategy] = catalog.load("strategies", name)
    if kind.reads_noisy:
        raise UsageError(
            f"cannot use the strategy {name!r} as a loss: it only prepares the training table. "
            "Drop or relabel the known false positives in your own data."
        )
    if kind.needs_study or kind.networks > 1 or kind.stages > 1:
        reason = (
            "inspects the training between epochs"
            if kind.needs_study
            else f"trains {kind.networks} networks at once"
            if kind.networks > 1
            else f"needs {kind.stages} trainings in a row"
        )
        _refuse(name, reason)
    return kind


def _check_study(name: str, rule: Strategy) -> Strategy:
    """Return a strategy whose options need no more than a batch; refuse others."""
    if rule.needs_study:
        _refuse(name, "inspects the training between epochs if an option is 'auto'")
    return rule


def _refuse(name: str, reason: str) -> NoReturn:
    raise UsageError(
        f"cannot use the strategy {name!r} as a loss: it {reason}. "
        f"Use `dart train --strategy {name}`."
    )
