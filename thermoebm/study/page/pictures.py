"""The pictures of a study's page, as data URIs: figures with captions, and grids of samples over epochs."""

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image


class Room(NamedTuple):
    """How large the pictures of a page may be.

    Args:
        figures, samples: The most bytes of all figures and of all grids of samples, as base64.
        width: Pixels to which wider pictures are reduced; None: as they were drawn.
    """

    figures: int
    samples: int
    width: int | None


FULL = Room(8_000_000, 20_000_000, None)
#: For a page that is kept in a repository: pictures are not larger than they are shown two in a row on 1,500 pixels.
SMALL = Room(800_000, 250_000, 720)
#: The most epochs of a run whose samples are shown.
MOST_EPOCHS = 21
#: A file of at most so many bytes is included unchanged; a larger one as WebP, if that is smaller. WebP blurs lines and
#: letters, so the limit for figures is higher.
_LARGE_GRID, _LARGE_FIGURE = 60_000, 300_000

#: Stem of a figure's file -> its title, and a description of what it shows.
CAPTIONS = {
    "01-schedules": ("Temperature schedules", "t_i = (i / N_t)^p: a large p puts the temperatures near the prior."),
    "02-integrand": (
        "Integrand and its bins",
        "E_t[log p(x|z)] against the temperature t, and the trapezium's bins, whose area is the estimate.",
    ),
    "03-variance-batch": ("Gradient variance against batch size", "Models trained by maximum likelihood."),
    "04-variance-power": (
        "Gradient variance against the schedule's power p",
        "Models trained by thermodynamic integration.",
    ),
    "05-kernel-variance": (
        "Kernel distance against gradient variance",
        "A point for each cell with its standard deviations, and a quadratic fit for each regime.",
    ),
    "06-extensions": (
        "Extensions",
        "Cells that vary N_t, K, η or the width, over the fits of the runs that vary batch size and power.",
    ),
    "07-samples": ("Samples", "Generated images and their distances to real ones."),
    "09-loss": ("Loss", "Training loss against the epoch."),
    "10-kernel-variance-together": (
        "Kernel distance against gradient variance, all regimes",
        "The points of all regimes in one plot.",
    ),
    "12-frechet-variance": (
        "Fréchet distance against gradient variance",
        "A point for each cell with its standard deviations, and a quadratic fit for each regime.",
    ),
    "12-frechet-variance-published": (
        "The report's FID against gradient variance",
        "What the report's code calls FID, which is no Fréchet distance: it subtracts a product of Cholesky factors.",
    ),
    "14-time": ("Time", "Seconds of training for each cell."),
    "15-flops": ("FLOPs", "Floating-point operations of training for each cell, counted."),
    "21-variance-iteration": ("Gradient variance against iteration", "As training goes on, for each cell."),
    "22-fidelity-iteration": ("Distance to real images against iteration", "On training and on test images."),
    "23-fidelity-variance-iteration": (
        "Distance to real images against gradient variance",
        "At each measured epoch, on training and on test images.",
    ),
    "24-equal-flops": (
        "Cells at equal updates and at equal FLOPs",
        "Distances along training, and each cell's at the budget that most cells were measured before and after.",
    ),
}


#: The figures that may stand for a whole study, the best first.
MAIN = ("10-kernel-variance-together", "05-kernel-variance", "12-frechet-variance", "04-variance-power", "09-loss")


def data_uri(path: Path, large: int = _LARGE_GRID, width: int | None = None) -> tuple[str, int, int]:
    """A picture's data URI and its width and height in pixels; its file may be compressed and the picture reduced.

    Args:
        path: The picture's file.
        large: Bytes above which a file is compressed.
        width: Pixels to which a wider picture is reduced; the picture is then compressed in any case.

    Raises:
        OSError: If the file is not a readable picture.
    """
    content, kind = path.read_bytes(), "png"
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        size = image.size
        if len(content) > large or width is not None:
            shown = image.convert("RGB")
            if width is not None and image.width > width:
                shown = shown.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
                size = shown.size
            # Without loss, grids of magnified pixels take half of what they take with it.
            ways: list[dict[str, Any]] = [{"quality": 85}] if width is None else [{"quality": 65}, {"lossless": True}]
            for way in ways:
                smaller = io.BytesIO()
                shown.save(smaller, "WEBP", method=6, **way)
                if smaller.tell() < len(content):
                    content, kind = smaller.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *size


def caption(stem: str) -> tuple[str, str]:
    """Title and description of a figure, by the longest known stem that its own starts with; the rest is appended."""
    known = max((name for name in CAPTIONS if stem == name or stem.startswith(f"{name}-")), key=len, default="")
    if not known:
        return stem.replace("-", " ").replace("_", " "), ""
    title, description = CAPTIONS[known]
    rest = stem.removeprefix(known).strip("-").replace("-", " ")
    return (f"{title} ({rest})" if rest else title), description


def figures(folder: Path, room: Room = FULL) -> tuple[str, str]:
    """HTML of the study's main figure, and of all others in the order of their names, those of published results last.

    The main figure is the first of :data:`MAIN` that was drawn, or else the study's first figure.
    """
    drawn: dict[bool, dict[str, str]] = {False: {}, True: {}}  # whether they show the published results -> figures
    problems, spent = [], 0
    for path in sorted(folder.glob("*.png"), key=lambda path: ("-published" in path.stem, path.stem)):
        try:
            source, width, height = data_uri(path, _LARGE_FIGURE, room.width)
        except (OSError, SyntaxError, ValueError):  # PIL raises these for a damaged file
            problems.append(f"{path.name} is not a readable picture; draw the figures again.")
            continue
        if spent + len(source) > room.figures:
            problems.append(f"{path.name} is left out to keep this page small; it is in the folder figures.")
            continue
        spent += len(source)
        title, description = (escape(text) for text in caption(path.stem))
        drawn["-published" in path.stem][path.stem] = (
            f'<figure><button type="button" class="enlarge" aria-label="Enlarge: {title}">'
            f'<img src="{source}" width="{width}" height="{height}" alt="{title}. {description}"></button>'
            f"<figcaption><strong>{title}</strong>{description}</figcaption></figure>"
        )
    notes = "".join(f'<p class="note">{escape(problem)}</p>' for problem in problems)
    if not any(drawn.values()):
        return "", "<p>No figures have been drawn: run the study's <code>figures</code>.</p>" + notes
    stem = next((stem for main in MAIN for stem in drawn[False] if stem.startswith(main)), next(iter(drawn[False]), ""))
    first = drawn[False].pop(stem, "")
    lead = f'<div class="lead">{first}</div>' if first else ""
    own, published = (f'<div class="figures">{"".join(some.values())}</div>' if some else "" for some in drawn.values())
    told = '<p>The main one is in the <a href="#summary">summary</a>.</p>' if first else ""
    return lead, told + own + ("<h3>The published results, drawn alike</h3>" if published else "") + published + notes


def grids(train_folder: Path) -> dict[int, Path]:
    """Epoch -> file of its grid of samples, in the order of epochs."""
    found = {}
    for path in (train_folder / "samples").glob("epoch-*.png"):
        if match := re.fullmatch(r"epoch-(\d+)", path.stem):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def evenly(epochs: list[int], count: int) -> list[int]:
    """At most ``count`` (2 or more) evenly spaced ones of ``epochs``, the first and the last included."""
    if len(epochs) <= count:
        return epochs
    return [epochs[round(index * (len(epochs) - 1) / (count - 1))] for index in range(count)]


def _encode(files: dict[int, Path], budget: int, width: int | None) -> list[tuple[int, str]]:
    """(epoch, data URI) of evenly spaced epochs: as many as fit into ``budget`` bytes, but at least two.

    A file that is no readable picture is left out.
    """
    pictures = {}
    for epoch in evenly(list(files), MOST_EPOCHS):
        try:
            pictures[epoch] = data_uri(files[epoch], width=width)[0]
        except (OSError, SyntaxError, ValueError):
            continue
    count = len(pictures)
    while count > 2 and sum(len(pictures[epoch]) for epoch in evenly(list(pictures), count)) > budget:
        count -= 1
    return [(epoch, pictures[epoch]) for epoch in evenly(list(pictures), count)]


@dataclass(frozen=True)
class Trained:
    """A run of a cell: its name, such as "seed 0", the folder of its training, and a note on each epoch."""

    name: str
    folder: Path
    notes: Mapping[int, str]


def samples(cells: dict[str, list[Trained]], room: Room = FULL) -> str:
    """HTML of two sliders side by side, each over the epochs of one run of a chosen cell."""
    chosen: list[dict[str, Any]] = []
    without, runs, pictures = [], 0, 0
    for cell, trained in cells.items():
        found = [(run, files) for run in trained if (files := grids(run.folder))]
        runs += len(found)
        pictures += sum(len(files) for _, files in found)
        run, files = max(found, key=lambda pair: len(pair[1]), default=(None, {}))  # the first run with the most epochs
        encoded = _encode(files, room.samples // len(cells), room.width)
        if run is None or not encoded:
            without.append(cell)
            continue
        noted = [(epoch, uri, run.notes.get(epoch, "")) for epoch, uri in encoded]
        chosen.append({"name": f"{cell}, {run.name}", "pictures": noted})
    missing = f'<p class="note">No samples yet: {escape(", ".join(without))}.</p>' if without else ""
    if not chosen:
        return "<p>No run has drawn samples yet.</p>" + missing
    # Only `<` could end the script element that holds the data.
    data = json.dumps(chosen, separators=(",", ":")).replace("<", "\\u003c")
    blocks = "".join(_slider(chosen, index) for index in sorted({0, len(chosen) - 1}))
    left_out = _left_out(sum(len(run["pictures"]) for run in chosen), pictures, runs - len(chosen))
    return (
        "<p>Images generated from the same noise at each epoch.</p>"
        f'<div class="pair">{blocks}</div>{left_out}{missing}'
        f'<script type="application/json" id="sample-data">{data}</script>'
    )


def _slider(chosen: list[dict[str, Any]], index: int) -> str:
    """HTML of a menu of runs, with run ``index`` chosen, and of the slider at that run's last epoch."""
    options = "".join(
        f"<option{' selected' if at == index else ''}>{escape(run['name'])}</option>" for at, run in enumerate(chosen)
    )
    epoch, source, note = chosen[index]["pictures"][-1]
    name = chosen[index]["name"]
    alt, said = f"Samples of {name} after epoch {epoch}", f"{name}, epoch {epoch}{note and ': '}{note}"
    return (
        '<div class="sample-grids"><div class="slider needs-script" hidden>'
        f'<label for="sample-run-{index}">Run</label><select id="sample-run-{index}">{options}</select>'
        f'<label for="sample-epoch-{index}">Epoch <output></output></label>'
        f'<input type="range" id="sample-epoch-{index}" min="0" step="1"></div>'
        f'<figure><img src="{source}" alt="{escape(alt)}"><figcaption>{escape(said)}</figcaption></figure></div>'
    )


def _left_out(shown: int, pictures: int, runs: int) -> str:
    """A note that only ``shown`` of all ``pictures`` are on the page, and none of those of ``runs`` further runs."""
    if shown == pictures:
        return ""
    others = f", those of {runs} further run{'s' if runs > 1 else ''} among them" if runs else ""
    return (
        f'<p class="note">One run of each cell is here, with {shown} of the {pictures} grids. The rest{others}, is in '
        "<code>runs/*/*/samples</code>: left out to keep this page small, or not readable.</p>"
    )
