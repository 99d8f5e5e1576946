"""The temperatures of a study's schedules (report, figure 1)."""

import pandas as pd
from matplotlib.figure import Figure

from thermoebm.schedules import power_law
from thermoebm.study.figures import style
from thermoebm.study.figures.tables import Study, Undrawable, plain
from thermoebm.study.planning.columns import REGIMES


def powers(final: pd.DataFrame) -> list[tuple[float, int, str]]:
    """(p, N_t, regime) of the schedules, ordered by p, of cells that vary nothing besides batch size and power."""
    found = [cell for cell in plain(final) if cell.regime != REGIMES[0]]
    rows = [(cell.rows.iloc[0], cell.regime) for cell in found]
    rows = [(row, of) for row, of in rows if row[["power", "num_temperatures"]].notna().all()]
    if not rows:
        raise Undrawable("no run has a power-law schedule")
    return [(float(row["power"]), int(row["num_temperatures"]), regime) for row, regime in rows]


def colours(schedules: list[tuple[float, int, str]]) -> list[str]:
    """A colour for each schedule, in shades of its regime's colour."""
    shades = {
        regime: style.shades(style.COLOURS[regime], sum(r == regime for *_, r in schedules)) for regime in REGIMES
    }
    return [shades[regime].pop(0) for *_, regime in schedules]


def schedules(study: Study) -> Figure:
    """The temperatures t_i = (i/N_t)^p against i, a line for each power."""
    found = powers(study.final)
    figure = style.new(1, width=style.COLUMN, height=2.8)
    axes = figure.add_subplot()
    for (power, number, regime), colour in zip(found, colours(found), strict=True):
        axes.plot(power_law(number, power).tolist(), f"{style.MARKERS[regime]}-", color=colour, label=f"p = {power:g}")
    axes.set(xlabel="index i", ylabel="temperature t$_i$ = (i/N$_t$)$^p$")
    numbers = sorted({number for _, number, _ in found})
    style.footnote(figure, f"{study.dataset}. N$_t$ = {', '.join(map(str, numbers))} intervals.")
    style.legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
