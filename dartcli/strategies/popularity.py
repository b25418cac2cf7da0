"""A yardstick that looks at no loss: weight positives by how popular item and user are."""

from __future__ import annotations

from torch import Tensor

from dartcli import settings
from dartcli.denoising import Context, Decision, Observed, Strategy
from dartcli.errors import UsageError


class Popularity(Strategy):
    """Weight ``item_count ** a * user_count ** b`` for positives, with mean 1; negatives weigh 1.

    Counts are those of the training positives. Whether it helps is a property of the data: it does
    where popular items are liked (films), and harms where they are clickbait (news).
    """

    class Options(settings.Options):
        """Exponents of the two counts."""

        a: float = 1.0
        """Exponent of the item's number of training positives; 0 = not used."""
        b: float = 0.0
        """Exponent of the user's number of training positives; 0 = not used."""

    options: Options
    item_weight: Tensor
    user_weight: Tensor

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        table = context.table
        if table is None:
            raise UsageError(
                "the strategy popularity needs statistics of the training interactions; pass "
                "table=dartcli.TrainingTable(...)."
            )
        item_weight = table.item_counts.clamp(min=1).double() ** options.a
        user_weight = table.user_counts.clamp(min=1).double() ** options.b
        positive = table.label > 0
        mean = (item_weight[table.item] * user_weight[table.user])[positive].mean()
        self.register_buffer("item_weight", (item_weight / mean).float())
        self.register_buffer("user_weight", user_weight.float())

    def decide(self, observed: Observed) -> Decision:
        """Return the popularity weight for positives and 1 for negatives."""
        if observed.item is None or observed.user is None:
            raise UsageError("the strategy popularity needs the user and item of each row.")
        weight = self.item_weight[observed.item] * self.user_weight[observed.user]
        positive = observed.label > 0
        return Decision(weight.where(positive, weight.new_ones(())), observed.label)


STRATEGY = Popularity
