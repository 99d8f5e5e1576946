"""The evidence against the number of steps: where the estimate settles, and both bounds on simulated images."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thermoebm.applications.evidence.bidirectional import Bounds
from thermoebm.modules.annealed import Evidence, mean_and_error


def evidence_figure(evidence: Evidence, bounds: Sequence[Bounds], short_run: float | None = None) -> Figure:
    """Draws the estimates of all trials, and what their chains say of themselves.

    Args:
        evidence: Of real images.
        bounds: Of simulated ones; empty: none are drawn.
        short_run: Mean of the short-run evidence of the same images, in nats.
    """
    figure = Figure(figsize=(4.4 * (3 if bounds else 2), 3.9), layout="constrained")
    real, trust, *rest = figure.subplots(1, 3 if bounds else 2)
    steps = [trial.steps for trial in evidence.trials]
    means = [mean_and_error(trial.images) for trial in evidence.trials]
    _errorbar(real, steps, means, "annealed, a lower bound in expectation", "C0", "o-")
    if short_run is not None:
        real.axhline(short_run, color="C7", linestyle=":", label="short chains")
    last = means[-1][0]
    real.set_title(f"{len(evidence.images.value)} held-out images: {last:.2f} nats", fontsize=10)
    spreads = [trial.images.spread.quantile(0.5).item() for trial in evidence.trials]
    sizes = [trial.images.effective_size.quantile(0.5).item() for trial in evidence.trials]
    trust.plot(steps, spreads, "s-", color="C3", label="spread of log w (nats)")
    trust.axhline(1, color="C3", linestyle=":", linewidth=0.8)
    trust.plot(steps, sizes, "^-", color="C2", label=f"effective size of {evidence.settings.chains} chains")
    trust.set_ylim(bottom=0)
    trust.set_title("of the median image", fontsize=10)
    for axes in rest:
        for name, label, colour in (("upper", "backward, an upper bound", "C1"), ("lower", "forward", "C0")):
            values = [mean_and_error(getattr(bound, name)) for bound in bounds]
            _errorbar(axes, [bound.steps for bound in bounds], values, label, colour, "o-")
        gap, error = bounds[-1].gap
        count = len(bounds[-1].lower.value)
        axes.set_title(f"{count} simulated images: gap {gap:.2f} ± {error:.2f} nats", fontsize=10)
    for axes in (real, trust, *rest):
        axes.set_xscale("log", base=2)
        axes.set_xticks(steps, [str(n) for n in steps])
        axes.minorticks_off()
        axes.set_xlabel("number of temperatures N")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    for axes in (real, *rest):
        axes.set_ylabel("log p(x)  (nats per image)")
    return figure


def _errorbar(
    axes: Axes, steps: Sequence[int], values: Sequence[tuple[float, float]], label: str, colour: str, style: str
) -> None:
    means, errors = zip(*values, strict=True)
    axes.errorbar(steps, means, errors, fmt=style, color=colour, capsize=3, markersize=4, label=label)
