"""Carry trained weights over to a model with other users and items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dartcli.errors import UsageError
from dartcli.models._layers import JointTable
from dartcli.training.configuration import Configuration


def carry_over(
    weights: Mapping[str, Tensor], sizes: Sequence[int], model: nn.Module, sources: Sequence[Tensor]
) -> None:
    """Copy trained weights into ``model``; rows without a source keep their initial weights.

    Parameters
    ----------
    weights
        State of the trained model.
    sizes
        Its number of codes of each field.
    model
        A model of the same class and options, with other numbers of codes.
    sources
        Per field Long[size in ``model``]: the code in the trained model, or -1.

    Raises
    ------
    UsageError
        If the weights are not those of such a model, or its tables are no :class:`JointTable`.
    """
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    rows = [
        torch.where(one < 0, -1, one + start) for one, start in zip(sources, starts, strict=True)
    ]
    source = torch.cat(rows)
    tables = {
        f"{name}.table".removeprefix("."): module
        for name, module in model.named_modules()
        if isinstance(module, JointTable)
    }
    state = model.state_dict()
    result = {}
    for name, fresh in state.items():
        trained = weights.get(name)
        if name in tables and trained is not None and trained.shape[1:] == fresh.shape[1:]:
            place = source.to(fresh.device)
            known = place >= 0
            result[name] = fresh.clone()
            result[name][known] = trained.to(fresh.device)[place[known]]
        elif trained is not None and trained.shape == fresh.shape:
            result[name] = trained
        else:
            raise UsageError(
                f"cannot carry over the weights `{name}`: they do not fit the model. Use a run of "
                "the same model and options."
            )
    model.load_state_dict(result)


def add_mean_rows(
    model: nn.Module,
    configuration: Configuration,
    sizes: Sequence[int],
    known: Mapping[str, npt.NDArray[np.bool_]],
) -> nn.Module:
    """Return a copy of ``model`` in which the code after the last of a field is its mean value.

    Its weights are the mean of those of the ``known`` values: field -> Bool[values]. ``sizes`` are
    the numbers of codes of the fields of ``model``.
    """
    device = next(model.parameters()).device
    larger = [len(of_field) + 1 for of_field in known.values()]
    with torch.random.fork_rng([]):
        result = configuration.model(larger, configuration.model_options).to(device).eval()
    kept = [torch.cat([torch.arange(size - 1), torch.tensor([-1])]) for size in larger]
    carry_over(model.state_dict(), sizes, result, kept)
    with torch.no_grad():
        for module in result.modules():
            if isinstance(module, JointTable):
                for start, of_field in zip(module.offsets.tolist(), known.values(), strict=True):
                    rows = module.table[start : start + len(of_field)]
                    chosen = rows[torch.from_numpy(of_field).to(device)]
                    module.table[start + len(of_field)] = chosen.double().mean(dim=0)
    return result
