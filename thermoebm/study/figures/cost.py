"""The cost of training, and the distance that cells reach at equal cost (report, figures 14 and 15)."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

from thermoebm.study.analysis.collect import at_equal
from thermoebm.study.figures import style
from thermoebm.study.figures.curves import UPDATES, mean_path
from thermoebm.study.figures.tables import Cell, Study, Undrawable, cells, has, mean_sd, plain
from thermoebm.study.planning.columns import IDENTITY

FLOPS = "training FLOPs (nominal)"


def time(study: Study) -> Figure:
    """Seconds of training of each cell, in total and per update."""
    return _bars(study, "seconds", "training time (s)", "time of an update (ms)", 1e3)


def flops(study: Study) -> Figure:
    """Floating-point operations of training of each cell, in total and per update."""
    return _bars(study, "flops", FLOPS, "FLOPs of an update", 1.0)


def _bars(study: Study, column: str, label: str, label_each: str, scale: float) -> Figure:
    """Bars of a cost, in total and per update: mean and standard deviation over repetitions."""
    if not has(study.final, column):
        raise Undrawable(f"no run has its {column}")
    found = [cell for cell in cells(study.final) if len(cell.values(column))]
    figure = style.new(1, width=style.PAGE, height=0.21 * len(found) + 0.6)
    each = has(study.final, "updates")
    for k, name in enumerate((label, label_each)[: 1 + each]):
        axes = figure.add_subplot(1, 1 + each, k + 1)
        for place, cell in enumerate(found):
            values = cell.rows[column] * scale / cell.rows["updates"] if k else cell.rows[column]
            mean, sd = mean_sd(values[np.isfinite(values)].to_numpy())
            axes.barh(place, mean, xerr=sd, color=style.COLOURS[cell.kind], height=0.7, error_kw={"elinewidth": 0.8})
        axes.set_yticks(range(len(found)), [cell.label for cell in found] if k == 0 else [])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel(name)
    axes = figure.axes[0]
    for kind in dict.fromkeys(cell.kind for cell in found):
        axes.plot([], [], "s", color=style.COLOURS[kind], label=kind)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    counted = " FLOPs are counted by running the operations, loops included." if column == "flops" else ""
    device = study.final.get("device")
    on = "" if device is None else f" Devices: {', '.join(sorted(set(device.dropna().astype(str))))}."
    style.footnote(figure, f"{study.dataset}. Mean ± standard deviation over repetitions.{counted}{on}")
    return figure


class Budget(NamedTuple):
    """A cost at which cells are compared, and the distances that they reach at this cost.

    Attributes:
        cost: The budget.
        reached: Cell name -> the distance of each repetition, interpolated between the measurements around it.
    """

    cost: float
    reached: dict[str, np.ndarray]


def at_budget(found: list[Cell], cost: str, distance: str) -> Budget:
    """The distance of each cell at the cost before and after which most cells were measured, the largest if several.

    Nothing is extrapolated: a cell that was measured only before or only after this cost is left out.
    """
    spans = {}
    for cell in found:
        rows = cell.rows[[*IDENTITY, cost, distance]].replace([np.inf, -np.inf], np.nan).dropna(subset=[cost, distance])
        if len(rows):
            costs = rows.groupby("run")[cost]
            spans[cell.name] = (costs.min().max(), costs.max().min(), rows)
    if not spans:
        raise Undrawable(f"no epoch has both {cost} and a distance")

    def covered(budget: float) -> int:
        return sum(low <= budget <= high for low, high, _ in spans.values())

    budget = max((high for _, high, _ in spans.values()), key=lambda high: (covered(high), high))
    reached = {
        name: at_equal(rows, cost, budget)[distance].to_numpy(float)
        for name, (low, high, rows) in spans.items()
        if low <= budget <= high
    }
    return Budget(budget, reached)


def equal(study: Study) -> Figure:
    """The kernel distance against updates and against FLOPs, and each cell's distance at one budget of each."""
    distance = study.distance(study.results, "kernel")
    if distance is None:
        raise Undrawable("no kernel distance to test images was logged along training")
    costs = [(name, label) for name, label in (("updates", UPDATES), ("flops", FLOPS)) if has(study.results, name)]
    if not costs:
        raise Undrawable("neither updates nor flops were logged")
    found = plain(study.results)
    figure = style.new(len(costs), width=style.PAGE, height=max(2.2, 0.2 * len(found) + 0.6))
    for row, (cost, label) in enumerate(costs):
        budget = at_budget(found, cost, distance)
        axes = figure.add_subplot(len(costs), 2, 2 * row + 1)
        _curves(axes, found, cost, distance)
        axes.axvline(budget.cost, color=style.GREY, linestyle=":", linewidth=1)
        axes.set(xlabel=label, ylabel=style.distance_label(distance))
        if cost == "flops":
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(9, 9)))
            axes.xaxis.set_minor_formatter(NullFormatter())  # its labels would overlap
        axes = figure.add_subplot(len(costs), 2, 2 * row + 2)
        _dots(axes, found, budget)
        axes.set_xlabel(
            f"{style.distance_name(distance)} at {_scientific(budget.cost)} {'updates' if row == 0 else 'FLOPs'}"
        )
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    note = "Dotted: the budget of the panel beside it. Between two measurements the distance is interpolated."
    style.footnote(figure, f"{study.dataset}. Mean ± standard deviation over repetitions.", note)
    return figure


def _curves(axes: Axes, found: list[Cell], cost: str, distance: str) -> None:
    looks = style.looks(found)
    for cell in found:
        colour, marker = looks[cell.name]
        x, y, sd = mean_path(cell, cost, distance)
        axes.plot(x, y, "-", marker=marker, markersize=3, color=colour, label=cell.label)
        axes.fill_between(x, y - sd, y + sd, color=colour, alpha=0.12, linewidth=0)


def _dots(axes: Axes, found: list[Cell], budget: Budget) -> None:
    """A point for each cell, or a note if the cell was not measured on both sides of the budget."""
    looks = style.looks(found)
    for place, cell in enumerate(found):
        colour, marker = looks[cell.name]
        values = budget.reached.get(cell.name)
        if values is None:
            word = "not measured before and after it"
            axes.text(0.02, place, word, transform=axes.get_yaxis_transform(), va="center",
                      fontsize=6.5, color=style.GREY)  # fmt: skip
            continue
        mean, sd = mean_sd(values)
        axes.errorbar([mean], [place], xerr=[sd], fmt=marker, color=colour, capsize=2)
    axes.set_yticks(range(len(found)), [cell.label for cell in found])
    axes.set_ylim(len(found) - 0.4, -0.6)


def _scientific(number: float) -> str:
    if number < 1e5:
        return f"{number:.0f}"
    exponent = int(np.floor(np.log10(number)))
    return f"{number / 10**exponent:.2g}·10$^{{{exponent}}}$"
