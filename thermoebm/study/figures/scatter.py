"""Fidelity against gradient variance at the end of training (report, figures 5, 6, 10, 12, 13, 18 and 19)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thermoebm.study.analysis.quadratic import Quadratic, fit
from thermoebm.study.figures import style
from thermoebm.study.figures.labels import PointLabel
from thermoebm.study.figures.tables import Cell, Study, Undrawable, cells, mean_sd, plain
from thermoebm.study.planning.columns import REGIMES

SMALL_PRINT = (
    "Mean ± standard deviation over repetitions, in both directions; faint points: runs, to which the curves are "
    "fitted. p: F test of the curve against a constant; p of x²: against a straight line."
)


def kernel(study: Study) -> Figure:
    """The kernel distance, a panel for each regime."""
    return _separate(study, "kernel")


def frechet(study: Study) -> Figure:
    """The Fréchet distance, a panel for each regime."""
    return _separate(study, "frechet")


def together(study: Study) -> Figure:
    """The kernel distance, all regimes on one pair of axes."""
    variances, distance = _columns(study, "kernel")
    found = plain(study.final)
    figure = style.new(1, width=max(style.COLUMN, 2.55 * len(variances)), height=2.9)
    for k, (name, variance) in enumerate(variances.items()):
        axes = figure.add_subplot(1, len(variances), k + 1)
        for regime in _regimes(found):
            group = [cell for cell in found if cell.regime == regime]
            quadratic = _draw(axes, study, group, variance, distance)
            text = regime if quadratic is None else f"{regime}: R² {quadratic.r2:.2f}, {style.p_value(quadratic.p)}"
            axes.plot([], [], style.MARKERS[regime], linestyle="-", color=style.COLOURS[regime], label=text)
        axes.set(xlabel=style.variance_label(name), ylabel=style.distance_label(distance))
        style.legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    style.footnote(figure, f"{study.dataset}.", SMALL_PRINT.split(" p of")[0].rstrip(";") + ".", study.source)
    return figure


def extensions(study: Study) -> Figure:
    """Cells that vary N_t, K, η or the width, over the cells of their regime, with their baseline circled."""
    variances, distance = _columns(study, "kernel")
    found = cells(study.final)
    added = [cell for cell in found if cell.kind == "extension"]
    if not added:
        raise Undrawable("no run varies anything besides batch size and power")
    looks = style.looks(found)
    regimes = _regimes(added)
    longest = max(sum(cell.regime == regime for cell in added) for regime in regimes)
    figure = style.new(len(variances), width=max(style.COLUMN, 2.55 * len(regimes)), height=2.3)
    figure.set_figheight(figure.get_figheight() + 0.14 * longest)
    for row, (name, variance) in enumerate(variances.items()):
        for k, regime in enumerate(regimes):
            axes = figure.add_subplot(len(variances), len(regimes), row * len(regimes) + k + 1)
            over = [cell for cell in added if cell.regime == regime]
            base = [cell for cell in plain(study.final) if cell.regime == regime]
            for cell in base:
                _errorbars(axes, cell, variance, distance, style.COLOURS[regime], style.MARKERS[regime])
            for cell in over:
                _errorbars(axes, cell, variance, distance, *looks[cell.name], label=cell.label)
            for cell in baselines(base, over):
                x, y = (mean_sd(values)[0] for values in _pairs(cell, variance, distance))
                axes.plot([x], [y], "o", markersize=13, fillstyle="none", color="black", markeredgewidth=0.9)
            _annotate(axes, base, variance, distance)
            axes.set_xlabel(style.variance_label(name))
            if k == 0:
                axes.set_ylabel(style.distance_label(distance))
            if row == 0:
                axes.set_title(regime, color=style.COLOURS[regime])
                style.legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.12))
    note = "Circled: the baseline of the extensions. Mean ± standard deviation over repetitions."
    style.footnote(figure, f"{study.dataset}.", note, study.source)
    return figure


def baselines(base: list[Cell], added: list[Cell]) -> list[Cell]:
    """The cells that extensions start from: those of the same power, or for vanilla ones the same batch size."""

    def setting(cell: Cell) -> tuple[object, ...]:
        first = cell.rows.iloc[0]
        return cell.regime, first["batch_size"] if cell.regime == REGIMES[0] else first["power"]

    wanted = {setting(cell) for cell in added}
    return [cell for cell in base if setting(cell) in wanted]


def _separate(study: Study, kind: str) -> Figure:
    """A row of panels for each definition of variance, a panel with its quadratic fit for each regime."""
    variances, distance = _columns(study, kind)
    found = plain(study.final)
    regimes = _regimes(found)
    figure = style.new(len(variances), width=max(style.COLUMN, 2.55 * len(regimes)), height=2.3)
    for row, (name, variance) in enumerate(variances.items()):
        for k, regime in enumerate(regimes):
            axes = figure.add_subplot(len(variances), len(regimes), row * len(regimes) + k + 1)
            group = [cell for cell in found if cell.regime == regime]
            quadratic = _draw(axes, study, group, variance, distance)
            _annotate(axes, group, variance, distance)
            title = f"{regime}\n"
            if quadratic is not None:
                title += (
                    f"R² {quadratic.r2:.2f}, F test {style.p_value(quadratic.p)}\n"
                    f"x²: {style.p_value(quadratic.curvature_p)}, vertex {quadratic.vertex:.2g}"
                )
            else:
                title += "too few different points\nfor a fit"
            axes.set_title(title, color=style.COLOURS[regime])
            axes.set_xlabel(style.variance_label(name))
            if k == 0:
                axes.set_ylabel(style.distance_label(distance))
    style.footnote(figure, f"{study.dataset}.", SMALL_PRINT, study.source)
    return figure


def _columns(study: Study, kind: str) -> tuple[dict[str, str], str]:
    """The columns of the variances and of the distance to draw."""
    distance, variances = study.distance(study.final, kind), study.variances(study.final)
    if distance is None:
        raise Undrawable(f"no {'kernel' if kind == 'kernel' else 'Fréchet'} distance to test images was measured")
    if not variances:
        raise Undrawable("no gradient variance was measured")
    if not any(len(_pairs(cell, column, distance)[0]) for cell in plain(study.final) for column in variances.values()):
        raise Undrawable("no run has both a gradient variance and a distance")
    return variances, distance


def _regimes(found: list[Cell]) -> list[str]:
    return [regime for regime in REGIMES if any(cell.regime == regime for cell in found)]


def _pairs(cell: Cell, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Both columns over the runs of a cell that have both numbers."""
    both = cell.rows[[x, y]].to_numpy(dtype=float)
    both = both[np.isfinite(both).all(1)]
    return both[:, 0], both[:, 1]


def _draw(axes: Axes, study: Study, group: list[Cell], x: str, y: str) -> Quadratic | None:
    """Draws the points, error bars and quadratic of one regime; returns the fit, or None if there is none."""
    for cell in group:
        colour = style.COLOURS[cell.regime]
        runs = _pairs(cell, x, y)
        axes.plot(*runs, style.MARKERS[cell.regime], color=colour, alpha=0.25, markersize=3, markeredgewidth=0)
        _errorbars(axes, cell, x, y, colour, style.MARKERS[cell.regime])
    points = np.concatenate([np.stack(_pairs(cell, x, y)) for cell in group], axis=1)
    try:
        quadratic = fit(*points)
    except ValueError as error:
        study.remark(f"No curve for {group[0].regime} against {x.removeprefix('gradient_variance/')}: {error}")
        return None
    grid = np.linspace(points[0].min(), points[0].max(), 200)
    axes.plot(grid, quadratic(grid), "--", color=style.COLOURS[group[0].regime], linewidth=1.0)
    return quadratic


def _errorbars(axes: Axes, cell: Cell, x: str, y: str, colour: str, marker: str, label: str | None = None) -> None:
    """Draws a cell's mean, with its standard deviations in both directions."""
    (mean_x, sd_x), (mean_y, sd_y) = (mean_sd(values) for values in _pairs(cell, x, y))
    if np.isfinite(mean_x):
        axes.errorbar(
            [mean_x], [mean_y], xerr=[sd_x], yerr=[sd_y], fmt=marker, color=colour, capsize=2, elinewidth=0.8,
            label=label,
        )  # fmt: skip


def _annotate(axes: Axes, group: list[Cell], x: str, y: str) -> None:
    """Writes each cell's label beside its mean."""
    axes.margins(0.15)
    for cell in group:
        (mean_x, sd_x), (mean_y, sd_y) = (mean_sd(values) for values in _pairs(cell, x, y))
        if np.isfinite(mean_x):
            axes.add_artist(PointLabel(cell.label, mean_x, mean_y, sd_x, sd_y)).set_clip_on(False)
