"""One optimisation step, three ways: as written, compiled for a CPU, captured for a GPU.

The way is chosen by the number of the step alone, so that a training gives the same bytes whenever
it is repeated. Nothing in a step waits for the device.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from dartcli.data.batches import Batch
from dartcli.denoising import Decision, Strategy, denoised_loss, observe
from dartcli.errors import first_line
from dartcli.layers import JointTable
from dartcli.settings import Training

PAYS_AFTER: Final = 20_000
"""Eager steps on a CPU before ``compile="auto"`` compiles. Compiling takes 4 to 20 seconds, which
is what so many steps of a small model would gain: at worst it doubles the overhead, and a short
training never pays it."""
WARM_UP: Final = {"cpu": 1, "cuda": 3}
"""Eager steps that are needed first: they make Adam's state, and a GPU's library handles."""

P = ParamSpec("P")
R = TypeVar("R")

State = dict[str, Tensor]
"""Tensors by name."""

Engine = Literal["eager", "compiled", "cuda graph"]


class Taken(NamedTuple):
    """What a step did."""

    loss: Tensor
    """Float[B], loss of each row against its recorded label, of the first network."""
    decision: Decision
    """Of the first network."""
    objective: Tensor
    """Float[], the optimised loss, without gradient."""


@dataclass(frozen=True)
class Program:
    """What a step computes: predict, observe, decide (Algorithm 1 of the thesis)."""

    models: Sequence[nn.Module]
    """On one device."""
    strategy: Strategy
    """On the same device."""

    def forward(self, batch: Batch, iteration: Tensor, epoch: Tensor) -> Taken:
        """Return the step's losses and decision; the objective carries its gradient."""
        logits = [self.strategy.link(model(batch.fields)) for model in self.models]
        observed = [
            observe(
                logit,
                batch.label,
                row=batch.row,
                iteration=iteration,
                epoch=epoch,
                user=batch.fields[:, 0],
                item=batch.fields[:, 1],
            )
            for logit in logits
        ]
        with torch.no_grad():
            decisions = self.strategy.exchange(observed)
        loss = denoised_loss(logits[0], decisions[0])
        for logit, decision in zip(logits[1:], decisions[1:], strict=True):
            loss = loss + denoised_loss(logit, decision)
        return Taken(observed[0].loss, decisions[0], loss)


class Stepper:
    """Takes the steps of one training.

    Parameters
    ----------
    program
        What a step computes.
    plan
        Batch size, optimiser, and whether to compile.
    device
        The device of the models and the data.
    capture
        Records a function without arguments as a graph of the device and returns what replays it;
        None where the device has no graphs.
    """

    def __init__(
        self,
        program: Program,
        plan: Training,
        device: torch.device,
        *,
        capture: Callable[[Callable[[], None]], Callable[[], None]] | None = None,
    ) -> None:
        self.program, self.plan, self.device = program, plan, device
        self.optimizer = Optimizer(program, plan, device)
        self.iteration = torch.zeros((), dtype=torch.int64, device=device)
        self.epoch = torch.zeros((), dtype=torch.int64, device=device)
        self.steps = 0
        self.engine: Engine = "eager"
        """How the last full batch was stepped."""
        self.remark: str | None = None
        """Why steps are eager where something faster was asked for."""
        self.capture = capture or (cuda_graph if device.type == "cuda" else None)
        self._fast: Callable[[Batch], Taken] | None = None
        self._eager_steps = self._eager_for()
        self._side: Any = None

    def __call__(self, batch: Batch) -> Taken:
        """Fit one mini-batch."""
        self.steps += 1
        full = len(batch.label) == self.plan.batch_size
        if full and self._eager_steps is not None and self.steps > self._eager_steps:
            return self._faster(batch)
        if full:
            self.engine = "eager"
        with self._beside():
            return self.eager(batch)

    def state(self) -> dict[str, Tensor]:
        """Return all that further steps depend on, by name; views, not copies."""
        result = {"counter.iteration": self.iteration, "counter.epoch": self.epoch}
        for name, network in self._networks().items():
            result |= named(f"{name}.", network.state_dict())
        return result | self.optimizer.state()

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take back what :meth:`state` returned, after ``steps`` steps; before the first step."""
        self.steps = steps
        self.iteration.copy_(state["counter.iteration"])
        self.epoch.copy_(state["counter.epoch"])
        for name, network in self._networks().items():
            network.load_state_dict(part(state, f"{name}."))
        self.optimizer.restore(state)

    def _networks(self) -> dict[str, nn.Module]:
        models = {f"model.{number}": model for number, model in enumerate(self.program.models)}
        return {**models, "strategy": self.program.strategy}

    def eager(self, batch: Batch) -> Taken:
        """Fit one mini-batch as the program is written."""
        self.iteration += 1
        taken = self.program.forward(batch, self.iteration, self.epoch)
        self.optimizer.step(taken.objective)
        return taken._replace(objective=taken.objective.detach())

    def _eager_for(self) -> int | None:
        """Return the number of the last eager step; None = all are."""
        wanted = self.plan.compile
        if wanted == "off" or self.plan.optimizer != "adam":
            if wanted == "on":
                self.remark = (
                    f"the optimiser {self.plan.optimizer} cannot be compiled; every step is eager."
                )
            return None
        if wanted == "auto" and self.capture is None:
            return PAYS_AFTER
        return WARM_UP["cpu" if self.capture is None else "cuda"]

    def _faster(self, batch: Batch) -> Taken:
        if self._fast is not None:
            return self._fast(batch)
        made: Captured | Compiled
        try:
            if self.capture is not None:
                made, engine = Captured(self.eager, batch, self.capture), "cuda graph"
            else:
                made, engine = Compiled(self), "compiled"
            with warnings.catch_warnings():
                # the translator warns of its own parts
                warnings.simplefilter("ignore")
                taken = made(batch)
        except Exception as error:
            # nothing of the step was done yet: what fails is to translate it
            self._eager_steps = None
            self.remark = f"every step is eager: {first_line(error)}."
            return self.eager(batch)
        self._fast, self.engine = made, engine  # type: ignore[assignment]
        return taken

    @contextlib.contextmanager
    def _beside(self) -> Iterator[None]:
        """Run the block on a stream of its own where a graph will be captured later."""
        if self.device.type != "cuda" or self._eager_steps is None:
            yield
            return
        main = torch.cuda.current_stream(self.device)
        self._side = self._side or torch.cuda.Stream(self.device)
        self._side.wait_stream(main)
        with torch.cuda.stream(self._side):
            yield
        main.wait_stream(self._side)


class Optimizer:
    """Adam on every parameter; or, as ``sparse-adam``, on the rows of tables that a batch touches.

    Adam's L2 penalty is coupled (part of the gradient). ``sparse-adam`` neither decays nor moves
    a row that no interaction of the batch belongs to: other semantics, less memory traffic.
    """

    def __init__(self, program: Program, plan: Training, device: torch.device) -> None:
        networks = [*program.models, program.strategy]
        self.weight_decay = plan.weight_decay
        self.tables: list[nn.Parameter] = []
        if plan.optimizer == "sparse-adam":
            layers = [layer for network in networks for layer in network.modules()]
            joint = [layer for layer in layers if isinstance(layer, JointTable)]
            for layer in joint:
                layer.sparse_gradient = True
            self.tables = [layer.table for layer in joint]
        known = {id(table) for table in self.tables}
        self.parameters = [
            parameter
            for network in networks
            for parameter in network.parameters()
            if id(parameter) not in known
        ]
        self.adam = torch.optim.Adam(
            self.parameters,
            lr=plan.learning_rate,
            weight_decay=plan.weight_decay,
            fused=True,
            capturable=device.type == "cuda",
        )
        self.sparse = None
        if self.tables:
            self.sparse = torch.optim.SparseAdam(self.tables, lr=plan.learning_rate)

    def step(self, objective: Tensor) -> None:
        """Move every parameter against the gradient of ``objective``."""
        objective.backward()
        self.adam.step()
        if self.sparse is not None:
            for table in self.tables:
                if table.grad is not None:
                    table.grad = self._decayed(table, table.grad)
            self.sparse.step()
        for parameter in (*self.parameters, *self.tables):
            parameter.grad = None  # zero_grad() takes 20 microseconds for it

    def state(self) -> dict[str, Tensor]:
        """Return the moments and counts of every parameter that was stepped, by number."""
        return {
            f"{name}.{number}.{key}": torch.as_tensor(value)
            for name, kind in self._kinds().items()
            for number, one in kind.state_dict()["state"].items()
            for key, value in one.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` returned."""
        for name, kind in self._kinds().items():
            found: dict[int, dict[str, Any]] = {}
            for place, value in part(state, f"{name}.").items():
                number, key = place.split(".")
                # sparse Adam counts with a number of Python
                counted = name == "sparse" and key == "step"
                found.setdefault(int(number), {})[key] = int(value) if counted else value
            kind.load_state_dict({**kind.state_dict(), "state": found})

    def _kinds(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam": self.adam} | ({"sparse": self.sparse} if self.sparse else {})

    def _decayed(self, table: nn.Parameter, gradient: Tensor) -> Tensor:
        gradient = gradient.coalesce()
        rows = gradient.indices()[0]
        values = gradient.values() + self.weight_decay * table.detach()[rows]
        result: Tensor = torch.sparse_coo_tensor(
            gradient.indices(), values, gradient.shape, is_coalesced=True, check_invariants=False
        )
        return result


class Compiled:
    """The program and its gradients as one C++ function; Adam as the library has it.

    Compiled for one thread whatever the machine has, so the bytes depend on no number of cores;
    dropout draws what the eager step would draw.
    """

    def __init__(self, stepper: Stepper) -> None:
        import torch._dynamo.config

        if not any(shutil.which(name) for name in (os.environ.get("CXX"), *COMPILERS) if name):
            raise OSError(f"no C++ compiler was found ({', '.join(COMPILERS)}, or CXX)")
        # the gradients are part of the program
        torch._dynamo.config.trace_autograd_ops = True
        self.stepper = stepper
        self.parameters: list[Tensor] = [*stepper.optimizer.parameters]
        group = stepper.optimizer.adam.param_groups[0]
        self.rates: Any = {
            "lr": group["lr"],
            "beta1": group["betas"][0],
            "beta2": group["betas"][1],
            "weight_decay": group["weight_decay"],
            "eps": group["eps"],
            "amsgrad": False,
            "maximize": False,
        }
        states = [stepper.optimizer.adam.state[parameter] for parameter in self.parameters]
        self.counts = [state["step"] for state in states]
        self.means = [state["exp_avg"] for state in states]
        self.squares = [state["exp_avg_sq"] for state in states]
        program, parameters = stepper.program, self.parameters

        def gradients(
            fields: Tensor, label: Tensor, row: Tensor, iteration: Tensor, epoch: Tensor
        ) -> tuple[Taken, tuple[Tensor, ...]]:
            taken = program.forward(Batch(fields, label, row), iteration, epoch)
            found = torch.autograd.grad(taken.objective, parameters)
            return taken._replace(objective=taken.objective.detach()), found

        self.gradients = torch.compile(
            _with_own_code(gradients),
            fullgraph=True,
            dynamic=False,
            options={
                "cpp.threads": 1,
                "fallback_random": True,
                # they would be kept in a folder for temporary files that other users know
                "cpp_cache_precompile_headers": False,
            },
        )

    def __call__(self, batch: Batch) -> Taken:
        """Fit one mini-batch."""
        stepper = self.stepper
        iteration = stepper.iteration + 1
        taken, gradients = self.gradients(
            batch.fields, batch.label, batch.row, iteration, stepper.epoch
        )
        # nothing is changed before this: where translating fails, the step is taken eagerly
        stepper.iteration.copy_(iteration)
        with torch.no_grad():
            torch._foreach_add_(self.counts, 1)
            torch._fused_adam_(
                self.parameters,
                gradients,
                self.means,
                self.squares,
                [],
                self.counts,
                **self.rates,
            )
        return taken


COMPILERS: Final = ("g++", "clang++", "c++", "cl")


class Captured:
    """A step recorded once as a graph of the device, then replayed: one launch for all of it."""

    def __init__(
        self,
        step: Callable[[Batch], Taken],
        batch: Batch,
        capture: Callable[[Callable[[], None]], Callable[[], None]],
    ) -> None:
        self.batch = Batch(batch.fields.clone(), batch.label.clone(), batch.row.clone())

        def recorded() -> None:
            self.taken = step(self.batch)

        self.replay = capture(recorded)

    def __call__(self, batch: Batch) -> Taken:
        """Fit one mini-batch of the size of the first."""
        self.batch.fields.copy_(batch.fields)
        self.batch.label.copy_(batch.label)
        self.batch.row.copy_(batch.row)
        self.replay()
        loss, decision, objective = self.taken
        # the next replay writes into the same memory
        kept = Decision(decision.weight.clone(), decision.label.clone())
        return Taken(loss.clone(), kept, objective.clone())


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Record ``step`` as a CUDA graph and return what replays it.

    Raises
    ------
    RuntimeError
        If the step waits for the device, or does something else that a graph cannot hold.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def named(prefix: str, tensors: Mapping[Any, Tensor]) -> State:
    """Return the tensors under their names (or numbers) with ``prefix`` before them."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def part(tensors: Mapping[str, Tensor], prefix: str) -> State:
    """Return the tensors whose names begin with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _with_own_code(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` with a code object of its own.

    Compiled code is kept by code object; there, one training after the other in a process would
    fill it up.
    """
    own = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        closure=function.__closure__,
    )
    return cast("Callable[P, R]", own)
