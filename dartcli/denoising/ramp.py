"""The rate of Eq. 3 and the base of strategies that flag rows at that rate."""

from __future__ import annotations

from torch import Tensor

from dartcli import settings
from dartcli.denoising.ranking import compute_rank_keys, count_share, find_top_keys, mask_highest
from dartcli.denoising.strategy import Context, Observed, Strategy
from dartcli.errors import UsageError


def compute_rate(iteration: Tensor, t_i: Tensor, t_m: Tensor, tau_m: Tensor) -> Tensor:
    """Return Float64[], the rate ``tau(T) = max(min((T - t_i) / t_m * tau_m, tau_m), 0)`` (Eq. 3).

    The rate is 0 up to iteration ``t_i``, then rises linearly and reaches ``tau_m`` another ``t_m``
    iterations later. ``iteration`` is Int[] and the others Float64[] on its device: in float64,
    ``floor(tau * n)`` is what Python computes. ``t_m`` must be positive.
    """
    return ((iteration - t_i) / t_m * tau_m).clamp_(min=0.0).clamp_(max=tau_m)


class RampStrategy(Strategy):
    """Base of strategies whose flagging rate rises linearly (Eq. 3).

    Raises
    ------
    UsageError
        If ``t_m`` is 0, or an option counts epochs and the length of an epoch is unknown.
    """

    class Options(settings.Options):
        """The ramp, with the thesis's names and defaults."""

        tau_m: settings.Share = 0.02
        """Highest flagging rate, reached t_i + t_m iterations after the start."""
        t_i: settings.Duration = 0
        """Iterations, or epochs as 2ep, before anything is flagged."""
        t_m: settings.Duration = 5000
        """Iterations, or epochs as 3ep, over which the rate rises from 0 to tau_m; above 0."""

    options: Options
    t_i: Tensor
    t_m: Tensor
    tau_m: Tensor

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        t_i = settings.iterations(options.t_i, context.iterations_per_epoch)
        t_m = settings.iterations(options.t_m, context.iterations_per_epoch)
        if t_m <= 0:
            raise UsageError(
                f"strategy.t_m is {options.t_m!r}: the rate must rise over more than 0 iterations. "
                "Use 1 to start at the maximum rate."
            )
        is_known = isinstance(options.tau_m, float)
        self.most = float(options.tau_m) if is_known else 1.0
        """Upper bound of the rate."""
        tau_m = self.most if is_known else 0.0
        for name, value in {"t_i": t_i, "t_m": t_m, "tau_m": tau_m}.items():
            self.register_constant(name, value)

    def compute_rate(self, iteration: Tensor) -> Tensor:
        """Return Float64[], the rate in Int[] ``iteration``; see :func:`compute_rate`."""
        return compute_rate(iteration, self.t_i, self.t_m, self.tau_m)

    def flag_highest(self, observed: Observed, score: Tensor, ranked: Tensor) -> Tensor:
        """Return Bool[N], the ``floor(tau(T) * n)`` highest scores of the n ``ranked`` rows.

        ``score`` is Float[N], not negative, and ``ranked`` Bool[N]; ties are broken by row.
        """
        keys = compute_rank_keys(score, observed.row, ranked, nonnegative=True)
        top_keys = find_top_keys(keys, self.most * len(keys))
        count = count_share(self.compute_rate(observed.iteration), ranked.sum())
        return mask_highest(top_keys, keys, count)
