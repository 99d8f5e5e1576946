"""Grids of samples from a study's models, with the metrics below each grid (report, figures 7, 8, 11 and 20)."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imread

from thermoebm.study.figures import style
from thermoebm.study.figures.tables import Cell, Study, Undrawable, cells

#: Images along each side of a panel, and panels in a row.
SIDE, COLUMNS = 6, 4
PADDING = 4  # white pixels between the images of a grid


def samples(study: Study) -> Figure:
    """The last samples of each cell's first repetition, and the distances of that same run."""
    found = []
    for cell in cells(study.final):
        chosen = _picture(study, cell)
        if chosen is None:
            study.remark(f"{cell.label}: no samples to show.")
        else:
            found.append((cell, *chosen))
    if not found:
        raise Undrawable("no run has samples")
    rows = -(-len(found) // COLUMNS)
    figure = style.new(rows, width=style.PAGE, height=2.4)
    for k, (cell, row, path) in enumerate(found):
        axes = figure.add_subplot(rows, COLUMNS, k + 1)
        axes.imshow(first_images(_read(path), SIDE), interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"{'vanilla, ' if cell.kind == 'vanilla' else ''}{cell.label}", color=style.COLOURS[cell.kind])
        axes.text(0.5, -0.03, metrics(study, row), transform=axes.transAxes, ha="center", va="top", fontsize=6.5)
    style.footnote(
        figure,
        f"{study.dataset}: samples at the end of training of the first repetition of each cell, up to {SIDE} × {SIDE} "
        "of them, not chosen; below, that run's distances to test images.",
    )
    return figure


def metrics(study: Study, row: pd.Series) -> str:
    """A run's extrapolated distances to test images, one a line."""
    lines = []
    for kind in ("kernel", "frechet"):
        column = study.distance(study.final, kind)
        if column is not None:
            lines.append(f"{style.distance_name(column)} = {row[column]:.3g}" if np.isfinite(row[column]) else "")
    return "\n".join(line for line in lines if line)


def first_images(picture: np.ndarray, side: int) -> np.ndarray:
    """The upper left side × side images of a grid (H, W, 3); the whole picture if no white lines separate images.

    A grid does not say how many columns it has. The largest number whose separators are all white is taken.
    """
    height, width = picture.shape[:2]
    for columns in range(width // (PADDING + 1), 0, -1):
        pitch, rest = divmod(width - PADDING, columns)
        if rest or pitch <= PADDING:
            continue
        lines = np.add.outer(np.arange(columns + 1) * pitch, np.arange(PADDING)).ravel()
        if (picture[:, lines, :3] > 0.99).all():
            end = pitch * min(side, columns) + PADDING
            return picture[: min(end, height), :end, :3]
    return picture[..., :3]


def _picture(study: Study, cell: Cell) -> tuple[pd.Series, Path] | None:
    """The run with the lowest seed that has a readable picture of samples, and its last picture."""
    if study.folder is None or "folder" not in cell.rows:
        return None
    for _, row in cell.rows.sort_values("seed").iterrows():
        if not isinstance(row["folder"], str):
            continue
        folder = study.folder / row["folder"]
        tested = sorted((folder.parent / "test").glob("*/samples.png"))
        for path in [*sorted((folder / "samples").glob("epoch-*.png"), reverse=True), *tested]:
            try:
                _read(path)
            except (OSError, ValueError, SyntaxError) as error:  # PIL raises these for a damaged picture
                study.remark(f"{path} is no picture ({type(error).__name__}).")
                continue
            return row, path
    return None


def _read(path: Path) -> np.ndarray:
    """A picture as RGB (H, W, 3) in [0, 1]."""
    picture = imread(path)
    picture = picture if picture.dtype.kind == "f" else picture / 255
    return np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture[..., :3]
