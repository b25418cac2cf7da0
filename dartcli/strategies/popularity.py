"""Popularity: a baseline that weights positives by the counts of item and user, not by loss."""

from __future__ import annotations

from torch import Tensor

from dartcli import settings
from dartcli.denoising import Context, Decision, Observed, Strategy


class Popularity(Strategy):
    """Weight positives by ``item_count ** a * user_count ** b``, scaled to mean 1.

    Counts are of training positives, and at least 1; negatives have weight 1. It helps on data in
    which popular items are liked (films), and harms if they are clickbait (news).
    """

    class Options(settings.Options):
        """Exponents of the two counts."""

        a: float = 1.0
        """Exponent of the item's number of training positives; 0 ignores it."""
        b: float = 0.0
        """Exponent of the user's number of training positives; 0 ignores it."""

    options: Options
    item_weight: Tensor
    user_weight: Tensor

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        table = context.require_table("the strategy popularity")
        item_weight = table.item_counts.clamp(min=1).double() ** options.a
        user_weight = table.user_counts.clamp(min=1).double() ** options.b
        positive = table.label > 0
        mean = (item_weight[table.item] * user_weight[table.user])[positive].mean()
        self.register_buffer("item_weight", (item_weight / mean).float())
        self.register_buffer("user_weight", user_weight.float())

    def decide(self, observed: Observed) -> Decision:
        """Return the popularity weight for positives, 1 for negatives, and the record.

        Raises
        ------
        UsageError
            If the batch has no users or items.
        """
        user, item = observed.require_entities("the strategy popularity")
        weight = self.item_weight[item] * self.user_weight[user]
        positive = observed.label > 0
        return Decision(weight.where(positive, weight.new_ones(())), observed.label)


STRATEGY = Popularity
