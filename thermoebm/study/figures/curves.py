"""Loss, gradient variance and fidelity during training (report, figure 9, and the proposal's three figures)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thermoebm.study.figures import style
from thermoebm.study.figures.tables import Cell, Study, Undrawable, cells, has
from thermoebm.study.planning.columns import REGIMES

UPDATES = "parameter updates"
SPLITS = ("train", "test")


class Row(NamedTuple):
    """A row of panels that draw one column against another.

    Attributes:
        x, y: The columns on the axes.
        labels: The labels of the x and y axes.
        shared: Whether the panels share the y axis.
    """

    x: str
    y: str
    labels: tuple[str, str]
    shared: bool = True


def loss(study: Study) -> Figure:
    """The objective on training images, and short-run -log evidence on held-out images, which all models share."""
    wanted = [
        Row("updates", "train/loss", (UPDATES, "training loss\n(each objective's own)"), shared=False),
        Row("updates", "val/short_run_nll", (UPDATES, "short-run -log evidence\n(nats, held-out images)")),
    ]
    note = "Training losses of different objectives are not comparable, nor normalised here."
    return _grid(study, wanted, "no loss was logged", note)


def variance(study: Study) -> Figure:
    """Each gradient variance against parameter updates, on training and on test images."""
    wanted = []
    for name in study.variances(study.results):
        for split in SPLITS:
            column = study.variances(study.results, split).get(name)
            if column:
                wanted.append(Row("updates", column, (UPDATES, style.variance_label(name, split))))
    return _grid(study, wanted, "no gradient variance was logged")


def fidelity(study: Study) -> Figure:
    """Each distance to test and to training images against parameter updates."""
    found = [study.distance(study.results, kind, split) for kind in ("kernel", "frechet") for split in SPLITS[::-1]]
    wanted = [Row("updates", column, (UPDATES, style.distance_label(column))) for column in found if column]
    return _grid(study, wanted, "no distance was logged")


def fidelity_variance(study: Study) -> Figure:
    """The kernel distance against each gradient variance during training, both on training or both on test images."""
    wanted = []
    for split in SPLITS:
        distance = study.distance(study.results, "kernel", split)
        for name, column in study.variances(study.results, split).items():
            if distance:
                labels = style.variance_label(name, split), style.distance_label(distance)
                wanted.append(Row(column, distance, labels, shared=False))
    note = "Lines go along training; the large marker is its end."
    return _grid(study, wanted, "no epoch has both a gradient variance and a distance", note)


def mean_path(cell: Cell, x: str, y: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of x, mean of y and standard deviation of y (E,) over repetitions at each epoch that has both."""
    finite = cell.rows[np.isfinite(cell.rows[x]) & np.isfinite(cell.rows[y])]
    by_epoch = finite.groupby("epoch")
    sd = by_epoch[y].std().fillna(0.0)  # a single repetition has none
    return by_epoch[x].mean().to_numpy(), by_epoch[y].mean().to_numpy(), sd.to_numpy()


def _grid(study: Study, rows: Sequence[Row], otherwise: str, note: str = "") -> Figure:
    """A row of panels for each pair of columns: a panel for each regime and one for extensions."""
    rows = [row for row in rows if has(study.results, row.x) and has(study.results, row.y)]
    found = cells(study.results)
    kinds = [kind for kind in (*REGIMES, "extension") if any(cell.kind == kind for cell in found)]
    rows = [row for row in rows if any(len(mean_path(cell, row.x, row.y)[0]) for cell in found)]
    if not rows or not kinds:
        raise Undrawable(otherwise)
    looks = style.looks(found)
    longest = max(sum(cell.kind == kind for cell in found) for kind in kinds)
    heights = [1.75] * len(rows) + [0.16 * longest + 0.1]  # inches; the legends have a row of their own
    figure = style.new(1, width=max(style.COLUMN, 1.9 * len(kinds) + 0.4), height=sum(heights))
    grid = figure.add_gridspec(len(rows) + 1, len(kinds), height_ratios=heights)
    for r, row in enumerate(rows):
        shared: Axes | None = None
        for k, kind in enumerate(kinds):
            axes = figure.add_subplot(grid[r, k], sharey=shared)
            shared = (shared or axes) if row.shared else None
            _lines(axes, [cell for cell in found if cell.kind == kind], row, looks)
            axes.set_xlabel(row.labels[0])
            if k == 0:
                axes.set_ylabel(row.labels[1])
            elif row.shared:
                axes.tick_params(labelleft=False)
            if r == 0:
                axes.set_title("extensions" if kind == "extension" else kind, color=style.COLOURS[kind])
                below = figure.add_subplot(grid[-1, k])
                below.set_axis_off()
                below.legend(*axes.get_legend_handles_labels(), loc="upper center", borderaxespad=0)
    band = "Mean over repetitions" + (", ± standard deviation." if all(row.x == "updates" for row in rows) else ".")
    style.footnote(figure, f"{study.dataset}.", band, note, study.source)
    return figure


def _lines(axes: Axes, group: list[Cell], row: Row, looks: dict[str, tuple[str, str]]) -> None:
    """Draws a line for each cell."""
    for cell in group:
        x, y, sd = mean_path(cell, row.x, row.y)
        colour, marker = looks[cell.name]
        axes.plot(x, y, "-", marker=marker if len(x) <= 12 else None, markersize=2.5, color=colour, label=cell.label)
        if row.x == "updates":
            axes.fill_between(x, y - sd, y + sd, color=colour, alpha=0.15, linewidth=0)
        else:
            axes.plot(x[-1:], y[-1:], marker, markersize=5.5, color=colour)
