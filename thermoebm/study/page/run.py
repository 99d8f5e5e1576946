"""Reads for the page what a study's folder holds on each run: run.json, DONE, FAILED and the folder of its training."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import yaml

from thermoebm.runtime.units import duration
from thermoebm.study.page.tables import mark
from thermoebm.study.running import folder as folders


@dataclass
class Run:
    """One directory of ``runs``; ``problems`` has a sentence on each file that could not be read.

    ``status`` is ``done``, ``failed`` or ``unfinished``; ``done`` and ``failed`` are what was written when it ended so.
    """

    folder: Path
    status: str = "unfinished"
    about: dict[str, Any] = field(default_factory=dict)
    done: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run's hash, which is its directory's name."""
        return self.folder.name

    @property
    def cell(self) -> str:
        return str(self.about.get("cell") or "unknown cell")

    @property
    def seed(self) -> str:
        return f"seed {self.about.get('seed', 'unknown')}"

    @property
    def trained(self) -> Path | None:
        """The folder that train.py made last, or None."""
        return folders.trained(self.folder)


def read(folder: Path) -> list[Run]:
    """The runs of a study, ordered by seed and then by hash; damaged ones are included."""
    found = []
    for path in sorted(path for path in folder.glob("*") if path.is_dir()):
        run = Run(path)
        run.about = _about(run)
        end, told = folders.ended(path)
        if end == folders.DONE:
            run.status, run.done = "done", told
        elif end == folders.FAILED:
            run.status, run.failed = "failed", told
        found.append(run)
    return sorted(found, key=lambda run: str(run.about.get("seed", "")).zfill(9))


def _about(run: Run) -> dict[str, Any]:
    """The content of run.json; if it cannot be read, nothing, and a sentence for ``problems``."""
    try:
        content = folders.read(run.folder / "run.json")
    except folders.Damaged:
        content = None
    if content is None:
        run.problems.append(
            f"run.json of run {run.name} is missing or damaged: its config and environment are unknown."
        )
    return content or {}


def by_cell(runs: list[Run], order: list[str]) -> dict[str, list[Run]]:
    """Groups runs by cell: first the cells in ``order``, then the others by name."""
    cells = dict.fromkeys([*order, *sorted({run.cell for run in runs})])
    grouped = {cell: [run for run in runs if run.cell == cell] for cell in cells}
    return {cell: members for cell, members in grouped.items() if members}


def command(parts: Any) -> str:
    """A command as one line."""
    return " ".join(str(part) for part in parts) if isinstance(parts, list) else str(parts or "")


def moment(text: str) -> str:
    """An ISO time to the minute, in UTC if it states its time zone; other text unchanged."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return time.strftime("%Y-%m-%d %H:%M") if time.tzinfo is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _details(run: Run, first: Run) -> str:
    versions = run.about.get("versions") or {}
    rows = {
        "Reason": run.failed.get("reason", ""),
        "Attempts": (run.done or run.failed).get("attempts", ""),
        "Finished": moment(str(run.done.get("finished", ""))),
        "Time": duration(run.done["seconds"]) if isinstance(run.done.get("seconds"), int | float) else "",
        "Commit": run.about.get("commit") or "",
        "Device": run.about.get("device") or "",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items())
        if isinstance(versions, dict)
        else "",
        "Folder": f"runs/{run.name}",
    }
    html = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in rows.items() if value != "")
    html = f'<dl class="about">{html}</dl>'
    html += "".join(f'<p class="warn">{escape(problem)}</p>' for problem in run.problems)
    if line := command(run.about.get("command")):
        html += f'<pre tabindex="0" aria-label="Command">{escape(line)}</pre>'
    config = run.about.get("config")
    if config and run is not first and _without_seed(config) == _without_seed(first.about.get("config")):
        html += f"<p>Its config is that of {escape(first.seed)}, but for the seed.</p>"
    elif config:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        html += f'<pre tabindex="0" aria-label="Config">{escape(text)}</pre>'
    title = f'{escape(run.seed)} <span class="code">{escape(run.name)}</span> {mark(run.status)}'
    return f'<details id="run-{escape(run.name)}"><summary>{title}</summary>{html}</details>'


def _without_seed(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {name: value for name, value in config.items() if name not in ("seed_everything", "name")}


def configs(cells: dict[str, list[Run]]) -> str:
    """HTML with a fold for each cell, and in it a fold for each run with its environment, command and config."""
    html = []
    for cell, runs in cells.items():
        count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        inner = "".join(_details(run, runs[0]) for run in runs)
        html.append(f'<details><summary>{escape(cell)} <span class="quiet">{count}</span></summary>{inner}</details>')
    return "".join(html) or "<p>No run has started yet.</p>"
