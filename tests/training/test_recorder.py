"""The trace against sums written as plain loops."""

import math

import pytest
import torch

from dartcli.data.tensors import (
    FALSE_POSITIVE,
    NEGATIVE,
    TRUE_POSITIVE,
    UNKNOWN_POSITIVE,
    Epoch,
    Interactions,
)
from dartcli.denoising import Decision
from dartcli.training.recorder import Recorder, summary_table

USERS, ITEMS = 7, 5


def random_epoch(rows: int, generator: torch.Generator, *, shuffled: bool) -> Epoch:
    kind = torch.randint(0, 4, (rows,), generator=generator).to(torch.int8)
    fields = torch.stack(
        [
            torch.randint(0, USERS, (rows,), generator=generator),
            torch.randint(0, ITEMS, (rows,), generator=generator),
        ],
        dim=1,
    )
    order = torch.randperm(rows, generator=generator) if shuffled else None
    return Epoch(Interactions(fields, (kind != NEGATIVE).float(), kind), order)


def rarest(positives: list[tuple[int, int]], counts: list[int], number: int) -> set[int]:
    """Positions of the ``number`` positives with the rarest items; ties: first in the batch."""
    ranked = sorted(positives, key=lambda pair: (counts[pair[1]], pair[0]))
    return {position for position, _ in ranked[:number]}


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(("rows", "size"), [(50, 8), (48, 8), (5, 8), (1, 1)])
def test_summary_equals_sums_written_as_loops(rows: int, size: int, shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(rows)
    epoch = random_epoch(rows, generator, shuffled=shuffled)
    loss = torch.rand(rows, generator=generator)
    weight = torch.randint(0, 3, (rows,), generator=generator) / 2
    target = torch.rand(rows, generator=generator)
    counts = [3, 1, 1, 4, 2]
    trace = Recorder(rows, size)
    for step, start in enumerate(range(0, rows, size)):
        part = slice(start, start + size)
        trace.record(loss[part], Decision(weight[part], target[part]), torch.tensor(float(step)))
    summary = trace.summary(epoch, torch.tensor(counts))

    order = list(range(rows)) if epoch.order is None else epoch.order.tolist()
    for step, start in enumerate(range(0, rows, size)):
        positions = range(start, min(start + size, rows))
        kinds = {position: int(epoch.table.kind[order[position]]) for position in positions}
        item = {position: int(epoch.table.fields[order[position], 1]) for position in positions}
        positive = [position for position in positions if kinds[position] != NEGATIVE]
        discarded = {position for position in positive if weight[position] == 0}
        relabeled = {
            position for position in positive if weight[position] > 0 and target[position] < 0.5
        }
        flagged = discarded | relabeled
        false = {position for position in positive if kinds[position] == FALSE_POSITIVE}
        unknown = {position for position in positive if kinds[position] == UNKNOWN_POSITIVE}
        chosen = rarest([(position, item[position]) for position in positive], counts, len(flagged))
        expected = {
            "rows": len(positions),
            "positives": len(positive),
            "false_positives": len(false),
            "unknown_positives": sum(kinds[p] == UNKNOWN_POSITIVE for p in positions),
            "flagged": len(flagged),
            "discarded": len(discarded),
            "relabeled": len(relabeled),
            "flagged_false_positives": len(flagged & false),
            "rarest_false_positives": len(chosen & false),
            "flagged_unknown_positives": len(flagged & unknown),
            "rarest_unknown_positives": len(chosen & unknown),
        }
        assert {name: int(summary[name][step]) for name in expected} == expected
        assert float(summary["objective"][step]) == step
        groups = {
            "loss_true_positive": [p for p in positions if kinds[p] == TRUE_POSITIVE],
            "loss_false_positive": sorted(false),
            "loss_positive": positive,
            "loss_negative": [p for p in positions if kinds[p] == NEGATIVE],
        }
        for name, members in groups.items():
            found = float(summary[name][step])
            if members:
                mean = math.fsum(float(loss[p]) for p in members) / len(members)
                assert found == pytest.approx(mean, rel=1e-12)
            else:
                assert math.isnan(found)


def test_frame_counts_iterations_on_and_turns_missing_losses_into_nulls() -> None:
    trace = Recorder(3, 2)
    kept = Decision(torch.ones(2), torch.zeros(2))
    trace.record(torch.tensor([1.0, 2.0]), kept, torch.tensor(0.5))
    trace.record(torch.tensor([3.0]), Decision(torch.ones(1), torch.zeros(1)), torch.tensor(0.5))
    table = Interactions(
        torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3), torch.zeros(3).to(torch.int8)
    )
    result = summary_table(
        trace.summary(Epoch(table, None), torch.tensor([0])), epoch=2, first_iteration=11
    )
    assert result["iteration"].to_list() == [11, 12]
    assert result["epoch"].to_list() == [2, 2]
    assert result["loss_negative"].to_list() == [1.5, 3.0]
    assert result["loss_true_positive"].to_list() == [None, None]
