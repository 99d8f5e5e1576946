"""The figure that answers whether the chains are any good: short chains against long corrected ones."""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from thermoebm.modules.diagnosis import Diagnosis, Difference

# Colour is the quantity, line and marker are the chains. Okabe & Ito (2008), legible to colour-blind readers.
_COLOURS = {"log_likelihood": "#0072B2", "energy": "#D55E00", "latents": "#555555"}
_SYMBOLS = {"log_likelihood": "ℓ", "energy": "f", "latents": "coordinates of z (worst)"}
_NAMES = {"log_likelihood": "ℓ = log p(x|z)", "energy": "energy f"}
_DENSITIES = {"posterior": "Posterior, t = 1", "prior": "Prior"}
_PALE = "#999999"
# Ticks of the axis of R-hat, which is logarithmic in R-hat - 1. Below the second, chains have settled (Vehtari et al.).
_RHATS = (1.001, 1.01, 1.1, 2.0, 11.0)
# Heights in inches: of a row with its two lines of text, of its panels, and of the figure's title.
_ROW, _PANEL, _TITLE = 3.75, 2.45, 0.4


def chain_figure(diagnoses: Mapping[str, Diagnosis], title: str) -> Figure:
    """Draws a row of four panels for each density.

    1. ℓ and f against the step, as the mean over chains and images minus that of the long chains' second half, with K
       marked: what do more steps change?
    2. The distribution of ℓ (of the prior: f) at the short chains' ends and in the long chains' second half, each image
       about the mean of its long chains.
    3. Autocorrelations in the long chains, with K marked: is a chain of K steps long?
    4. R-hat of each image's short and long chains, with the limit of 1.01.

    Args:
        diagnoses: By density, ``posterior`` and ``prior``.
        title: What has been diagnosed.
    """
    height = _TITLE + _ROW * len(diagnoses)
    figure = Figure(figsize=(13, height))
    figure.text(0.012, 1 - 0.08 / height, title, fontsize=12, fontweight="bold", va="top")
    for row, (name, diagnosis) in enumerate(diagnoses.items()):
        top = height - _TITLE - _ROW * row
        figure.text(0.012, top / height, _summary(_DENSITIES.get(name, name), diagnosis), fontsize=9, va="top")
        below = top - _ROW + 0.55
        grid = figure.add_gridspec(
            1, 4, left=0.055, right=0.985, wspace=0.27, bottom=below / height, top=(below + _PANEL) / height
        )
        for column, draw in enumerate((_means, _distributions, _autocorrelations, _rhats)):
            axes = figure.add_subplot(grid[column])
            draw(axes, diagnosis)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def _summary(density: str, diagnosis: Diagnosis) -> str:
    chains, _, images = diagnosis.short.values["energy"].shape
    count = f"{chains} chains" + f" for each of {images} images" * (images > 1)
    gaps = [f"{_SYMBOLS[name]} {_nats(diagnosis.gap(name))}" for name in diagnosis.short.values]
    more, ess = int(diagnosis.long.steps[-1]) - diagnosis.num_steps, diagnosis.scalars()["ess_per_step"]
    return (
        f"{density}: {count}.  Short: K = {diagnosis.num_steps} steps of the model's sampler.  Long: {more} steps of "
        f"MALA more, step size {diagnosis.step_size:.2g}, acceptance {diagnosis.acceptance:.2f}.\n"
        f"Short minus long (nats): {', '.join(gaps)}.  Drift of f within the second half of the long chains: "
        f"{_nats(diagnosis.drift('energy'))}.  Smallest effective sample size of long chains: {ess:.2g} per step."
    )


def _nats(difference: Difference) -> str:
    return f"{difference.mean:+.2g} ± {difference.standard_error:.1g}"


def _means(axes: Axes, diagnosis: Diagnosis) -> None:
    short, long = diagnosis.short, diagnosis.long
    shown: list[int] = []
    last = 0.0  # at even distances on the logarithmic axis, where late states would lie upon one another
    for i, step in enumerate(long.steps.tolist()):
        if step >= 1.03 * last:
            shown, last = [*shown, i], step
    heights = []
    for name, settled in diagnosis.judged.values.items():
        own, more = (trace.values[name].mean((0, 2)) - settled.mean() for trace in (short, long))
        axes.plot(short.steps.tolist(), own.tolist(), "--", color=_COLOURS[name], linewidth=1.3)
        steps, means = torch.cat([short.steps[-1:], long.steps[shown]]), torch.cat([own[-1:], more[shown]])
        axes.plot(steps.tolist(), means.tolist(), "-", color=_COLOURS[name], linewidth=1.3)
        heights += [own.abs().max().item(), means.abs().max().item()]
    axes.axhline(0, color=_PALE, linewidth=0.6)
    axes.set_xscale("log")
    if max(heights) > 5:
        axes.set_yscale("symlog", linthresh=1)
        low, high = axes.get_ylim()
        ticks = [sign * 10**k for k in range(7) for sign in (1, -1)]
        axes.set_yticks([0, *ticks], ["0", *(f"{tick:+,}" for tick in ticks)])
        axes.minorticks_off()
        axes.set_ylim(low, max(high, 1.5))
    _mark(axes, diagnosis)
    axes.set_title("Means: what do more steps change?", loc="left", fontsize=9)
    axes.set(xlabel="step", ylabel="minus the long chains' mean (nats)")
    lines = [Line2D([], [], color=_COLOURS[name], label=_NAMES[name]) for name in diagnosis.judged.values]
    lines.append(Line2D([], [], color=_COLOURS["latents"], linestyle="--", label="short chains"))
    lines.append(Line2D([], [], color=_COLOURS["latents"], linestyle="-", label="long chains"))
    axes.legend(handles=lines, fontsize=7.5, frameon=False, loc="lower right")


def _distributions(axes: Axes, diagnosis: Diagnosis) -> None:
    name, long = next(iter(diagnosis.judged.values.items()))
    centre = long.mean((0, 1))
    for values, style in ((diagnosis.short.values[name][:, -1:], "--"), (long, "-")):
        at = (values - centre).flatten().sort().values
        share = (torch.arange(1, len(at) + 1) / len(at)).tolist()
        axes.step(at.tolist(), share, style, where="post", color=_COLOURS[name], linewidth=1.3)
    axes.set_title(f"Distribution of {_SYMBOLS[name]} at the end", loc="left", fontsize=9)
    axes.set(xlabel=f"{_SYMBOLS[name]} minus its mean in long chains (nats)", ylabel="share below", ylim=(0, 1.01))


def _autocorrelations(axes: Axes, diagnosis: Diagnosis) -> None:
    for name in diagnosis.judged.values:
        lags, rho = diagnosis.autocorrelation(name)
        most = max(2, len(lags) // 2)  # beyond it is noise
        axes.plot(lags[1:most].tolist(), rho[1:most].tolist(), color=_COLOURS[name], linewidth=1.3)
    axes.axhline(0, color=_PALE, linewidth=0.6)
    axes.set_xscale("log")
    _mark(axes, diagnosis)
    axes.set_title("Autocorrelation of long chains", loc="left", fontsize=9)
    axes.set(xlabel="lag (steps of the long chains)", ylabel="autocorrelation", ylim=(-0.2, 1.02))


def _rhats(axes: Axes, diagnosis: Diagnosis) -> None:
    for row, name in enumerate(diagnosis.judged.rhat):
        for trace, offset, face in ((diagnosis.short, 0.02, "none"), (diagnosis.judged, 0.22, _COLOURS[name])):
            rhat = trace.rhat[name]
            excess = (rhat[rhat.isfinite()] - 1).clamp(_RHATS[0] - 1, _RHATS[-1] - 1).tolist()
            (points,) = axes.plot(
                excess, [row + offset] * len(excess), "o", color=_COLOURS[name], markersize=5, alpha=0.7
            )
            points.set(markerfacecolor=face, clip_on=False)
        axes.text(
            0.01, row - 0.2, _SYMBOLS[name], transform=axes.get_yaxis_transform(), color=_COLOURS[name], fontsize=8
        )
    axes.axvline(_RHATS[1] - 1, color=_PALE, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks([tick - 1 for tick in _RHATS], [f"{tick:g}" for tick in _RHATS])
    axes.minorticks_off()
    axes.set_yticks([])
    axes.set_title("R-hat: ○ short, ● long", loc="left", fontsize=9)
    several = diagnosis.short.z.shape[2] > 1
    axes.set(
        xlabel="R-hat of each image's chains" if several else "R-hat of all chains",
        xlim=(_RHATS[0] - 1, _RHATS[-1] - 1),
    )
    axes.set_ylim(len(diagnosis.judged.rhat) - 0.5, -0.5)


def _mark(axes: Axes, diagnosis: Diagnosis) -> None:
    """A vertical line at K."""
    axes.axvline(diagnosis.num_steps, color=_PALE, linewidth=0.8, linestyle=":")
    axes.text(diagnosis.num_steps, 1, " K", transform=axes.get_xaxis_transform(), va="top", fontsize=8, color="#555555")
