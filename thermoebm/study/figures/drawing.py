"""The list of figures, and how they are written as PNG and PDF (report, figures 1 to 20, and the proposal's)."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from thermoebm.runtime.terminal import say
from thermoebm.study.figures import boxes, cost, curves, integrand, samples, scatter, schedules, style, tables
from thermoebm.study.figures.tables import Study, Undrawable

#: File stem -> function that draws the figure.
FIGURES: dict[str, Callable[[Study], Figure]] = {
    "01-schedules": schedules.schedules,
    "02-integrand": integrand.integrand,
    "03-variance-batch": boxes.against_batch,
    "04-variance-power": boxes.against_power,
    "05-kernel-variance": scatter.kernel,
    "06-extensions": scatter.extensions,
    "07-samples": samples.samples,
    "09-loss": curves.loss,
    "10-kernel-variance-together": scatter.together,
    "12-frechet-variance": scatter.frechet,
    "14-time": cost.time,
    "15-flops": cost.flops,
    "21-variance-iteration": curves.variance,
    "22-fidelity-iteration": curves.fidelity,
    "23-fidelity-variance-iteration": curves.fidelity_variance,
    "24-equal-flops": cost.equal,
}

#: The figures that the published results have numbers for.
PUBLISHED = tuple(stem for stem in FIGURES if stem[:2] in ("03", "04", "05", "06", "10", "12"))


def draw(folder: Path, with_published: bool = True) -> list[Path]:
    """Draws a study's figures from its tables and runs into folder/figures; prints a sentence on each one left out.

    Args:
        folder: The study's folder, with results.csv and final.csv.
        with_published: Draw the report's own results too, as STEM-published...: those of the study's data sets, or of
            all data sets if the report has none of them.

    Returns:
        The files, PNG before PDF.

    Raises:
        FileNotFoundError: If there are no tables.
        ValueError: If a table cannot be read.
    """
    studies = tables.read(folder)
    paths = _draw(studies, folder / "figures", tuple(FIGURES), "")
    if with_published:
        paths += draw_published(folder, {study.dataset for study in studies})
    return paths


def draw_published(folder: Path, datasets: set[str] | None = None) -> list[Path]:
    """Draws the report's published results into folder/figures: those of these data sets, or of all if it has none.

    Returns:
        The files, PNG before PDF.
    """
    return _draw(tables.published(datasets), folder / "figures", PUBLISHED, "-published")


def _draw(studies: list[Study], folder: Path, stems: tuple[str, ...], suffix: str) -> list[Path]:
    """Draws each figure for each data set; if there are several, file names end with the data set's name."""
    paths = []
    for study in studies:
        if study.final.empty:
            study.remark("no run is done: there is nothing to draw.")
            continue
        of = f"-{study.dataset}" if len(studies) > 1 else ""
        for stem in stems:
            name = f"{stem}{suffix}{of}"
            with matplotlib.rc_context(style.SETTINGS):
                try:
                    paths += style.save(FIGURES[stem](study), folder, name)
                except Undrawable as why:
                    study.remark(f"{name} is left out: {why}.")
    for remark in dict.fromkeys(sentence for study in studies for sentence in study.remarks):
        say(f"figures: {remark}")
    return paths
