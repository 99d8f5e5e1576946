"""Gradient variance at the end of training against batch size and power (report, figures 3, 4, 16 and 17)."""

from matplotlib.figure import Figure

from thermoebm.study.figures import style
from thermoebm.study.figures.tables import Cell, Study, Undrawable, plain
from thermoebm.study.planning.columns import REGIMES


def against_batch(study: Study) -> Figure:
    """Box plots of each variance against the batch size of the vanilla model."""
    return _boxes(study, [cell for cell in plain(study.final) if cell.regime == REGIMES[0]], "batch_size", "batch size")


def against_power(study: Study) -> Figure:
    """Box plots of each variance against the power p of the schedule."""
    return _boxes(study, [cell for cell in plain(study.final) if cell.regime != REGIMES[0]], "power", "power p")


def _boxes(study: Study, cells: list[Cell], setting: str, label: str) -> Figure:
    """A panel for each definition of variance, a box for each cell: quartiles, whiskers to 1.5 interquartile ranges.

    Every run is also a dot, so that a box of three runs does not suggest more data than there are.
    """
    variances = study.variances(study.final)
    if not cells:
        raise Undrawable(f"no run varies the {label}")
    if not variances:
        raise Undrawable("no gradient variance was measured")
    width = max(style.COLUMN, style.PAGE * len(variances) / 3)
    figure = style.new(1, width=width, height=2.4)
    for k, (name, column) in enumerate(variances.items()):
        axes = figure.add_subplot(1, len(variances), k + 1)
        for place, cell in enumerate(cells):
            values = cell.values(column)
            colour = style.COLOURS[cell.regime]
            if not len(values):
                study.remark(f"{cell.label}: no {name} variance.")
                continue
            box = {"facecolor": colour, "alpha": 0.3, "edgecolor": colour}
            lines = {"color": colour, "linewidth": 1.0}
            axes.boxplot(
                [values], positions=[place], widths=0.6, patch_artist=True, showfliers=False, manage_ticks=False,
                boxprops=box, whiskerprops=lines, capprops=lines, medianprops={"color": colour, "linewidth": 1.8},
            )  # fmt: skip
            axes.plot(
                [place] * len(values), values, style.MARKERS[cell.regime], color=colour, markersize=2.5, alpha=0.9
            )
        axes.set_xticks(range(len(cells)), [f"{cell.rows[setting].iloc[0]:g}" for cell in cells])
        axes.set(xlim=(-0.6, len(cells) - 0.4), xlabel=label, ylabel=style.variance_label(name))
        axes.set_ylim(bottom=0)
    repetitions = [len(cell.rows) for cell in cells]
    if min(repetitions) == 1:
        study.remark(f"A box against the {label} has one repetition and no width.")
    few, many = min(repetitions), max(repetitions)
    style.footnote(
        figure,
        f"{study.dataset}, end of training, {few if few == many else f'{few} to {many}'} repetitions.",
        "Box: median and quartiles; dots: runs.",
        study.source,
    )
    return figure
