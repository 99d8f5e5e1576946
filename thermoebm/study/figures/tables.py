"""A study's tables in the form that figures need: one data set at a time, ordered cells, means and deviations."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from thermoebm.runs import logged
from thermoebm.runs.logged import VARIANCES
from thermoebm.study.analysis.collect import read_table
from thermoebm.study.analysis.published import published as results_of_the_report
from thermoebm.study.analysis.selection import finite
from thermoebm.study.planning import columns
from thermoebm.study.planning.columns import REGIMES, WORDS

SOURCE = "Source: Raj & Girolami 2024, raw results, final epoch (50)."


class Undrawable(Exception):
    """A figure cannot be drawn; the sentence says why."""


@dataclass
class Cell:
    """One setting of a study, and the rows of its runs.

    Attributes:
        name: The cell's name in the study.
        label: The label of its points and curves: ``batch 75``, ``p = 6``, or the name of an extension.
        kind: One of ``columns.REGIMES``, or ``extension``.
        regime: One of ``columns.REGIMES``, for extensions too.
        group: The setting that the cell varies.
        rows: The rows of its runs, or of their epochs.
    """

    name: str
    label: str
    kind: str
    regime: str
    group: str
    rows: pd.DataFrame

    def values(self, column: str) -> np.ndarray:
        """The finite values of a column over the repetitions."""
        values = self.rows[column].to_numpy(dtype=float)
        return values[np.isfinite(values)]


@dataclass
class Study:
    """The data to draw: the finished runs of one data set.

    Attributes:
        results: A row per run and epoch; empty if there is no such table.
        final: A row per run.
        folder: The study's folder, where samples and checkpoints are; None for published results.
        source: Where the numbers come from, for the footnote.
        remarks: Sentences on what could not be drawn; the figures add to this list.
    """

    dataset: str
    results: pd.DataFrame
    final: pd.DataFrame
    folder: Path | None = None
    source: str = ""
    remarks: list[str] = field(default_factory=list)

    def remark(self, sentence: str) -> None:
        """Adds a sentence to the remarks, unless it is there already."""
        if sentence not in self.remarks:
            self.remarks.append(sentence)

    def variances(self, table: pd.DataFrame, split: str = "train") -> dict[str, str]:
        """The definitions of gradient variance that a table has numbers for, and their columns."""
        found = {}
        for name, column in VARIANCES.items():
            column = column if split == "train" else column.replace("gradient_variance/", f"gradient_variance/{split}/")
            if has(table, column):
                found[name] = column
        return found

    def distance(self, table: pd.DataFrame, kind: str, split: str = "test") -> str | None:
        """The column of a distance that a table has numbers for, or None."""
        return logged.distance(table.dropna(axis="columns", how="all").columns, kind, split)


def has(table: pd.DataFrame, column: str) -> bool:
    """Whether a table has the column, and a finite number in it."""
    return column in table and bool(np.isfinite(table[column]).any())


def read(folder: Path) -> list[Study]:
    """Reads folder/results.csv and folder/final.csv; returns a :class:`Study` for each data set.

    Raises:
        FileNotFoundError: If there is neither table.
        ValueError: If a file is no table of a study.
    """
    if not any((folder / name).is_file() for name in ("results.csv", "final.csv")):
        raise FileNotFoundError(f"{folder} has neither results.csv nor final.csv; collect the study first.")
    final, results = (_read(folder / name) for name in ("final.csv", "results.csv"))
    remarks = [
        f"There is no {name}.csv: what needs it is left out."
        for name, table in (("final", final), ("results", results))
        if table is None
    ]
    if final is None:  # a run's final value of a column is the last number there
        assert results is not None
        final = results.groupby("run", sort=False, as_index=False).last()
    if "status" in final:
        done = final["status"] == "done"
        if not done.all():
            remarks.append(f"{(~done).sum()} of {len(final)} runs are not done and left out.")
        final = final[done]
    results = final.iloc[:0] if results is None else results[results["run"].isin(final["run"])]
    names = sorted(final["dataset"].dropna().unique())
    return [
        Study(name, results[results["dataset"] == name], runs, folder, "", remarks + _not_finite(runs))
        for name in names
        for runs in [final[final["dataset"] == name]]
    ] or [Study("", results, final, folder, "", remarks)]


def _not_finite(final: pd.DataFrame) -> list[str]:
    """Sentences on the runs that lack a finite variance or distance which others have."""
    found = [column for column in VARIANCES.values() if has(final, column)]
    for kind in ("kernel", "frechet"):
        column = logged.distance(final.dropna(axis="columns", how="all").columns, kind)
        found += [column] if column else []
    told = [finite(final, {column: column})[1] for column in found]
    return [f"{sentence}." for sentence in told if sentence]


def published(like: set[str] | None = None) -> list[Study]:
    """The report's results on these data sets, or on all of its own if it has none of these."""
    table = results_of_the_report()
    names = sorted(table["dataset"].unique())
    chosen = [name for name in names if name in (like or set())] or names
    return [Study(name, table.iloc[:0], table[table["dataset"] == name], None, SOURCE) for name in chosen]


def cells(table: pd.DataFrame) -> list[Cell]:
    """The cells of a table: vanilla by batch size, then the others by power, then extensions by group."""
    found = []
    extension = columns.is_extension(table)
    for name, rows in table.groupby("cell", sort=False):
        first = rows.iloc[0]
        regime = columns.regime(rows).iloc[0]
        is_extension = bool(extension[rows.index[0]])
        label = f"batch {first['batch_size']:g}" if regime == REGIMES[0] else f"p = {first['power']:g}"
        kind = "extension" if is_extension else regime
        found.append(Cell(str(name), str(name) if is_extension else label, kind, regime, str(first["group"]), rows))
    labels = [cell.label for cell in found]
    for cell in found:
        if labels.count(cell.label) > 1:
            cell.label = cell.name
    groups = list(dict.fromkeys(cell.group for cell in found))

    def order(cell: Cell) -> tuple[int, float, float]:
        if cell.kind == "extension":
            return 3, groups.index(cell.group), 0
        first = cell.rows.iloc[0]
        return REGIMES.index(cell.regime), first["batch_size"] if cell.regime == REGIMES[0] else first["power"], 0

    return sorted(found, key=order)


def plain(table: pd.DataFrame) -> list[Cell]:
    """The cells that vary nothing besides batch size and power."""
    return [cell for cell in cells(table) if cell.kind != "extension"]


def mean_sd(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation over repetitions. One repetition has deviation 0; without any, both are nan."""
    if not len(values):
        return float("nan"), float("nan")
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _read(path: Path) -> pd.DataFrame | None:
    """Reads a table, with all columns but the text columns as numbers; None if there is no such file."""
    if not path.is_file():
        return None
    table = read_table(path)
    return pd.DataFrame(
        {name: of if name in WORDS else pd.to_numeric(of, errors="coerce") for name, of in table.items()}
    )
