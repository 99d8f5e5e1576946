"""Shows the progress of a study: a table that is redrawn on a terminal; elsewhere a line for each change."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, linear_regression
from typing import TextIO

from thermoebm.runtime.units import duration
from thermoebm.study.planning.definitions import Run, Study
from thermoebm.study.running import folder

# Seconds between two drawings of the table.
_REDRAW = 1.0


class Board:
    """Shows the progress of a launcher's runs.

    Args:
        study: The study.
        output: Its folder.
        slots: The number of runs at a time.
        cost: Gives a run's relative cost, from which the time left is estimated.
        stream: The stream that progress is written to.
    """

    def __init__(
        self,
        study: Study,
        output: Path,
        slots: int,
        cost: Callable[[Run], float] = lambda run: 1.0,
        stream: TextIO = sys.stdout,
    ) -> None:
        self.study = study
        self.output = output
        self.slots = slots
        self.cost = cost
        self.stream = stream
        self.finished: set[Run] = set()
        self.running: dict[Run, float] = {}  # the start of each running run, by time.monotonic()
        self.failed: dict[Run, str] = {}
        self._notes: list[str] = []
        self._waited_for: set[Run] = set()
        self._lines = 0
        self._drawn = 0.0

    # Events that the launcher reports

    def started(self, run: Run) -> None:
        self.running[run] = time.monotonic()
        self._say(f"{run}: started")

    def done(self, run: Run) -> None:
        self.finished.add(run)
        if self.running.pop(run, None) is not None:
            self._say(f"{run}: done in {duration(seconds_of(self._place(run)) or 0)}")

    def again(self, run: Run, reason: str) -> None:
        self.running.pop(run, None)
        self._say(f"{run}: failed and is tried again: {reason}")

    def fail(self, run: Run, reason: str) -> None:
        self.running.pop(run, None)
        self.failed[run] = reason
        self._say(f"{run}: FAILED: {reason}")

    def elsewhere(self, run: Run) -> None:
        self.running.pop(run, None)
        if run not in self._waited_for:
            self._waited_for.add(run)
            self._say(f"{run}: another process works on it; it is looked at again later")

    # Display

    def show(self, last: bool = False) -> None:
        """On a terminal, redraws the table from time to time; elsewhere, prints what has changed."""
        if not self.stream.isatty():
            notes, self._notes = self._notes, []
            for note in notes:
                print(f"{time.strftime('%H:%M:%S')} {note}", file=self.stream)
            if notes:
                print(f"{' ' * 9}{self.summary()}", file=self.stream, flush=True)
            return
        if not last and not self._notes and time.monotonic() < self._drawn + _REDRAW:
            return
        self._drawn = time.monotonic()
        width, height = shutil.get_terminal_size()
        above = f"\033[{self._lines}A\033[J" if self._lines else ""
        kept = [note for note in self._notes if "FAILED" in note or "tried again" in note]
        self._notes = []
        table = [self.summary(), *self._now()][: max(2, height - 2)]
        self._lines = len(table)
        self.stream.write(above + "".join(f"{line}\n" for line in kept))
        self.stream.write("".join(f"{line[: width - 1]}\n" for line in table))
        self.stream.flush()

    def summary(self) -> str:
        """How many runs are done, running and failed, and the estimated time left, in one line."""
        parts = [f"{len(self.finished)} of {len(self.study.runs)} runs done", f"{len(self.running)} running"]
        parts.append(f"{len(self.failed)} failed")
        left = self.seconds_left()
        if left and len(self.finished) + len(self.failed) < len(self.study.runs):
            parts.append(f"about {duration(left)} left")
        return f"{self.study.name}: {', '.join(parts)}"

    def seconds_left(self) -> float | None:
        """Estimated from what finished runs of the same cell took, else by cost; None before any run has finished."""
        taken = {run: seconds for run in self.finished if (seconds := seconds_of(self._place(run)))}
        if not taken:
            return None
        by_cost = _line([self.cost(run) for run in taken], list(taken.values()))
        rest = 0.0
        for run in self.study.runs:
            if run not in self.finished and run not in self.failed:
                alike = [seconds for other, seconds in taken.items() if other.cell == run.cell]
                passed = time.monotonic() - self.running[run] if run in self.running else 0.0
                rest += max((fmean(alike) if alike else by_cost(self.cost(run))) - passed, 0.0)
        return rest / self.slots

    def _now(self) -> list[str]:
        lines = []
        for run, since in self.running.items():
            epochs = f"epoch {folder.epoch(self._place(run))} of {run.config['trainer']['max_epochs']}"
            lines.append(f"  running  {run}: {epochs}, {duration(time.monotonic() - since)}")
        return lines + [f"  failed   {run}: {reason}" for run, reason in self.failed.items()]

    def _say(self, note: str) -> None:
        self._notes.append(note)

    def _place(self, run: Run) -> Path:
        return self.output / "runs" / run.hash


def _line(costs: list[float], seconds: list[float]) -> Callable[[float], float]:
    """The least-squares line of seconds against cost.

    If all costs are equal, or if slope or intercept is negative, it is a line through the origin instead.
    """
    if len(set(costs)) > 1:
        slope, start = linear_regression(costs, seconds)
        if slope >= 0 and start >= 0:
            return lambda cost: start + slope * cost
    return lambda cost: cost * sum(seconds) / sum(costs)


def status(study: Study, output: Path) -> list[str]:
    """A table of how many runs of each cell are in which state, then a line for each failed or running run."""
    counts = {cell.name: Counter[str]() for cell in study.cells}
    told = []
    for run in study.runs:
        place = output / "runs" / run.hash
        state, reason = state_of(place)
        counts[run.cell][state] += 1
        if state == folder.FAILED:
            told.append(f"{run}: {reason}")
        elif state == folder.RUNNING:
            epochs = f"epoch {folder.epoch(place)} of {run.config['trainer']['max_epochs']}"
            told.append(f"{run}: running, {epochs}")
    states = (folder.DONE, folder.RUNNING, folder.FAILED, folder.MISSING)
    total = sum(counts.values(), Counter[str]())
    rows = [("cell", *states), *((name, *(str(c[s] or "") for s in states)) for name, c in counts.items())]
    rows.append(("all", *(str(total[s]) for s in states)))
    return [*aligned(rows), "", *told] if told else aligned(rows)


def state_of(place: Path) -> tuple[str, str]:
    """A run's state, and if it failed, the reason; a damaged directory counts as a failure."""
    try:
        state = folder.state(place)
        reason = str((folder.read(place / "FAILED") or {}).get("reason", "")) if state == folder.FAILED else ""
        folder.read(place / "run.json")
    except folder.Damaged as error:
        return folder.FAILED, str(error)
    return state, reason


def seconds_of(place: Path) -> float | None:
    """Seconds that a finished run took over all attempts; None if unknown."""
    try:
        seconds = (folder.read(place / "DONE") or {}).get("seconds")
    except folder.Damaged:
        return None
    return float(seconds) if isinstance(seconds, int | float) else None


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Formats rows as lines with aligned columns: the first is left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "   ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
