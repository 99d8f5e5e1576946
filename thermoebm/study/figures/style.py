"""The look of a study's figures: sizes, fonts, colours and axis labels."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from thermoebm.study.figures import labels
from thermoebm.study.figures.tables import Cell
from thermoebm.study.planning.columns import REGIMES

#: Widths of a text column and of the page, in inches. Fonts are legible at these sizes.
COLUMN, PAGE = 4.0, 7.6

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib and has ∞, ², ≤ and Greek
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": True,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
}

# Okabe & Ito (2008), legible to colour-blind readers; each regime also has a marker of its own.
COLOURS = dict(zip(REGIMES, ("#0072B2", "#D55E00", "#009E73"), strict=True)) | {"extension": "#CC79A7"}
MARKERS = dict(zip(REGIMES, ("o", "s", "^"), strict=True)) | {"extension": "D"}
#: Colours and markers of the groups of extensions, which share axes.
OVERLAYS = ("#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999", "#A08000")
OVERLAY_MARKERS = ("D", "v", "P", "X", "*", "<")
GREY = "#666666"


def new(rows: float, columns: int = 1, *, width: float = PAGE, height: float = 2.1) -> Figure:
    """An empty figure for a grid of panels, each row ``height`` inches high."""
    layout = ConstrainedLayoutEngine(w_pad=0.09)  # inches: room for half the label of the last tick
    return Figure(figsize=(width, rows * height + 0.5), layout=layout)


def shades(colour: str, count: int) -> list[str]:
    """``count`` shades of a colour, from light to dark."""
    mixed = []
    for k in range(count):
        lightness = 0.45 - 0.9 * (k / (count - 1) if count > 1 else 0.5)  # from 45 % white to 45 % black
        target = 1.0 if lightness > 0 else 0.0
        red, green, blue = ((1 - abs(lightness)) * c + abs(lightness) * target for c in to_rgb(colour))
        mixed.append(to_hex((red, green, blue)))
    return mixed


def footnote(figure: Figure, *sentences: str) -> None:
    """Writes sentences in small print below the panels."""
    text = "  ".join(sentence for sentence in sentences if sentence)
    figure.supxlabel(_wrapped(text, round(figure.get_figwidth() * 23)), x=0.01, ha="left", fontsize=6.5, color=GREY)


def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Writes FOLDER/STEM.png and .pdf; the files hold no date, so the same figure always gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: the second file reuses the layout
    for axes in figure.axes:
        labels.thin_ticks(axes, renderer)
        labels.arrange(axes, renderer)
    paths = []
    for kind, metadata in (("png", {}), ("pdf", {"CreationDate": None})):
        paths.append(folder / f"{stem}.{kind}")
        figure.savefig(paths[-1], metadata=metadata)
    return paths


def legend(axes: Axes, **how: Any) -> None:
    """A legend, if anything on the axes has a label."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**how)


def p_value(p: float) -> str:
    """A p-value as it is usually printed: ``p = .009`` or ``p < .001``."""
    if math.isnan(p):
        return "no p"
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def variance_label(name: str, split: str = "train") -> str:
    """The axis label of a gradient variance: its definition, and the images that it was measured on."""
    images = "" if split == "train" else "\n(test images)"
    return f"gradient variance,\n{name}{images}"


def distance_name(column: str) -> str:
    """The name of a distance from its column, such as ``KD[classifier:digits]∞``."""
    name = column.split("/")[-1].removesuffix("_inf")
    return "the report's FID∞\n(no Fréchet distance)" if name == "pseudo-FID" else f"{name}∞"


def distance_label(column: str) -> str:
    """The axis label of a distance: its name, and the images that the samples are compared with."""
    return f"{distance_name(column)}\nto {'test' if '/test/' in column else 'training'} images"


def _wrapped(text: str, width: int) -> str:
    lines: list[str] = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return "\n".join(line.rstrip() for line in lines)


def looks(cells: Sequence[Cell]) -> dict[str, tuple[str, str]]:
    """Cell name -> colour, in shades from light to dark, and marker: by regime, for extensions by group."""
    keys = [cell.group if cell.kind == "extension" else cell.kind for cell in cells]
    groups = list(dict.fromkeys(cell.group for cell in cells if cell.kind == "extension"))
    overlays = {g: (OVERLAYS[k % len(OVERLAYS)], OVERLAY_MARKERS[k % len(OVERLAYS)]) for k, g in enumerate(groups)}
    found: dict[str, tuple[str, str]] = {}
    for key in dict.fromkeys(keys):
        named = [cell.name for cell, of in zip(cells, keys, strict=True) if of == key]
        colour, marker = overlays[key] if key in overlays else (COLOURS[key], MARKERS[key])
        found |= {name: (shade, marker) for name, shade in zip(named, shades(colour, len(named)), strict=True)}
    return found
