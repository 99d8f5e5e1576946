"""Assembles the page from its sections.

Pictures, style and script are inside the file. Its content security policy allows only that style and that script, by
their hashes, and no external source, so that no name in a study can run as code or fetch anything.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from thermoebm.runtime.files import write_text
from thermoebm.runtime.units import duration, scaled
from thermoebm.study.page import pictures, run, tables
from thermoebm.study.page.pictures import FULL, Room, Trained
from thermoebm.study.page.run import Run
from thermoebm.study.page.tables import mark

_STATES = ("done", "running", "failed", "missing", "unfinished")


def write(folder: Path, room: Room = FULL) -> Path:
    """Writes ``index.html`` of a study's folder, with room for pictures, and returns its path.

    Where the study does not have something yet (tables, claims, figures, samples, runs), a sentence says so.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no study folder {folder}: run the study first.")
    final = tables.read(folder / "final.csv", {"run", "cell", "status"})
    order = [] if final is None else list(final["cell"].unique())
    runs = run.read(folder / "runs")
    cells = run.by_cell(runs, order)
    lead, figures = pictures.figures(folder / "figures", room)
    css, js = (_template(f"page.{kind}") for kind in ("css", "js"))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = Template(_template("page.html")).substitute(
        title=escape(_title(folder, runs)),
        policy=f"default-src 'none'; base-uri 'none'; img-src data:; style-src {_hash(css)}; script-src {_hash(js)}",
        css=css,
        js=js,
        summary=_summary(folder, runs, final, lead),
        claims=_claims(folder),
        figures=figures,
        samples=_samples(cells, tables.read(folder / "results.csv", {"run", "epoch"}), room),
        runs=_runs(final, runs),
        configs=run.configs(cells),
        footer=f"Written {now} by <code>python -m thermoebm.study page</code>; needs no network and no other file.",
    )
    path = folder / "index.html"
    write_text(path, page)  # atomically: a reader sees the old page or the new one
    return path


def _template(name: str) -> str:
    return files("thermoebm.study.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The hash of a script or style, as a content security policy gives it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _title(folder: Path, runs: list[Run]) -> str:
    """The study's name from its runs; the folder's name if no run gives it."""
    return next((str(run.about["study"]) for run in runs if run.about.get("study")), folder.resolve().name)


def _facts(rows: dict[str, str]) -> str:
    """HTML of tiles, each with a name and its value, which is HTML already."""
    tiles = []
    for name, html in rows.items():
        wide = ' class="wide"' if len(html) > 40 else ""
        tiles.append(f"<div{wide}><dt>{name}</dt><dd>{html}</dd></div>")
    return f'<dl class="facts">{"".join(tiles)}</dl>'


def _listing(values: Iterable[Any]) -> str:
    """HTML of the distinct values, the most frequent first; if there are several, each with its number of runs."""
    counts = Counter(str(value) for value in values if value).most_common()
    if len(counts) == 1:
        return escape(counts[0][0])
    return "".join(f"{escape(value)}<small>{count} runs</small>" for value, count in counts) or "unknown"


def _summary(folder: Path, runs: list[Run], final: pd.DataFrame | None, lead: str) -> str:
    """HTML of what the study is, its main figure ``lead``, and its numbers."""
    final = pd.DataFrame() if final is None else final
    states = Counter(final["status"] if "status" in final else (run.status for run in runs))
    total = sum(states.values())
    seeds = {str(run.about.get("seed")) for run in runs if "seed" in run.about}
    cells = {run.cell for run in runs} | set(final.get("cell", []))
    times = [run.done["seconds"] for run in runs if isinstance(run.done.get("seconds"), int | float)]
    ended = sorted(str(run.done["finished"]) for run in runs if run.done.get("finished"))
    flops, memory = tables.numbers(final, "flops"), tables.numbers(final, "peak_memory")
    versions = [
        ", ".join(f"{name} {version}" for name, version in run.about["versions"].items())
        for run in runs
        if isinstance(run.about.get("versions"), dict)
    ]
    named = [state for state in _STATES if states[state]] + [state for state in states if state not in _STATES]
    facts = {
        "Runs": f"{states['done']} of {total} done",
        "Cells": f"{len(cells)}<small>{len(seeds)} seed{'s' if len(seeds) != 1 else ''}</small>",
        "Data": _listing(final.get("dataset", [])),
        "Time, all runs added": duration(sum(times)) if times else "none finished",
        "FLOPs of training": f"{scaled(flops.sum())}FLOP" if len(flops) else "unknown",
        "Peak memory of a run": f"{scaled(memory.max())}B" if len(memory) else "unknown",
        "Finished": f"{escape(run.moment(ended[-1]))}<small>first {escape(run.moment(ended[0]))}</small>"
        if ended
        else "not yet",
        "Device": _listing(run.about.get("device") for run in runs),
        "Versions": _listing(versions),
        "Commit": _listing(run.about.get("commit") for run in runs),
    }
    html = f"<p>{escape(_description(folder))}</p>"
    html += f"<p>{' '.join(f'{mark(state)} {states[state]}' for state in named) or 'No run has started yet.'}</p>"
    return html + lead + _facts(facts) + _failures(runs) + _again(folder)


def _description(folder: Path) -> str:
    """The comment at the beginning of the study file."""
    try:
        lines = (folder / "study.yaml").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))


def _failures(runs: list[Run]) -> str:
    """HTML of why runs failed, and of which files are missing or damaged."""
    lines = [
        f'<li><a href="#run-{escape(run.name)}">{escape(run.cell)}, {escape(run.seed)}</a>: '
        f"{escape(str(run.failed.get('reason') or 'no reason was written'))}</li>"
        for run in runs
        if run.status == "failed"
    ]
    html = f'<h3>Failed runs</h3><ul class="failures">{"".join(lines)}</ul>' if lines else ""
    return html + "".join(f'<p class="warn">{escape(problem)}</p>' for run in runs for problem in run.problems)


def _again(folder: Path) -> str:
    """HTML of the command that runs the study, and of the study file."""
    try:
        text = (folder / "study.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return '<p class="note">The study file is not in this folder.</p>'
    return (
        "<p>Made by <code>python -m thermoebm.study run study.yaml</code>, with this file:</p>"
        f'<details><summary>study.yaml</summary><pre tabindex="0">{escape(text)}</pre></details>'
    )


def _claims(folder: Path) -> str:
    table = tables.read(folder / "claims.csv", {"statement", "verdict"})
    if table is None or table.empty:
        return "<p>No claims have been checked: run the study's <code>claims</code>.</p>"
    verdicts = Counter(table["verdict"])
    counts = " ".join(f"{mark(verdict)} {count}" for verdict, count in sorted(verdicts.items()) if verdict)
    return f"<p>{counts}</p>{tables.claims(table)}"


def _samples(cells: dict[str, list[Run]], results: pd.DataFrame | None, room: Room) -> str:
    """HTML of the grids of samples, each with the distances to real images that ``results`` has at its epoch."""
    notes: dict[str, dict[int, str]] = {}
    if results is not None:
        names = tables.distances(results)
        for row in results.to_dict("records"):
            said = [f"{name} {tables.number(row[column])}" for column, name in names.items() if row[column]]
            if (epoch := tables.number(row["epoch"])).isdecimal():
                notes.setdefault(row["run"], {})[int(epoch)] = ", ".join(said)
    return pictures.samples(
        {
            cell: [Trained(run.seed, path, notes.get(run.name, {})) for run in members if (path := run.trained)]
            for cell, members in cells.items()
        },
        room,
    )


def _runs(final: pd.DataFrame | None, runs: list[Run]) -> str:
    if final is None or final.empty:
        return "<p>No table of runs yet: run the study's <code>collect</code>.</p>"
    return tables.runs(final, (run.name for run in runs))
