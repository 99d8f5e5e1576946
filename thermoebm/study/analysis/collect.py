"""Rebuilds a study's tables from its run directories alone, whatever state these are in.

``results.csv`` has a row for each run and epoch, ``final.csv`` one for each run; both begin with
:data:`thermoebm.study.planning.IDENTITY`. Nothing is ever deleted: what is damaged or missing is reported in a
sentence, and the rest is collected.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from thermoebm.runs.logged import renamed
from thermoebm.runtime.files import write_text
from thermoebm.study.analysis import run_directory
from thermoebm.study.analysis.run_directory import Run
from thermoebm.study.planning.columns import IDENTITY, WORDS
from thermoebm.study.running import folder as folders

_PROGRESS = ("epoch", "updates", "seconds", "flops")
_STATE = ("status", "epochs", "updates", "seconds", "flops", "peak_memory", "device", "commit")
_ORIGIN = ("python", "torch", "lightning", "thermoebm", "attempts", "folder")


class Collected(NamedTuple):
    """Both tables, and the remarks on the runs, a sentence each."""

    results: pd.DataFrame
    final: pd.DataFrame
    told: list[str]


def collect(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Writes ``results.csv`` and ``final.csv`` to a study's folder, each atomically, and prints what is amiss.

    Raises:
        ValueError: If there are no runs, or a table cannot be written.
    """
    results, final, told = gather(folder)
    for sentence in told:
        print(sentence, flush=True)
    write_table(results, folder / "results.csv")
    write_table(final, folder / "final.csv")
    return read_tables(folder)


def gather(folder: Path) -> Collected:
    """Collects both tables without writing them.

    Raises:
        ValueError: If there are no runs.
    """
    runs: list[Run] = []
    told: list[str] = []
    directories = sorted(p for p in (folder / "runs").glob("*") if p.is_dir())
    if not directories:
        raise ValueError(f"There are no runs in {folder / 'runs'}; start them with: python -m thermoebm.study run.")
    wanted = _wanted(folder)
    for directory in directories:
        if wanted is not None and directory.name not in wanted:
            told.append(f"{directory} is of no run of the study (any more): it is left as it is, and left out.")
            continue
        run, sentences = run_directory.read(directory)
        told += sentences
        if run is not None:
            runs.append(run)
    epochs = [run.epochs.assign(**dict.fromkeys(IDENTITY)).assign(**run.identity) for run in runs if len(run.epochs)]
    results = pd.concat(epochs, ignore_index=True) if epochs else pd.DataFrame(columns=[*IDENTITY, *_PROGRESS])
    final = pd.DataFrame(
        [_final(run, folder) for run in runs], columns=None if runs else [*IDENTITY, *_STATE, *_ORIGIN]
    )
    return Collected(_ordered(results, _PROGRESS), _ordered(final, (*_STATE, *_ORIGIN)), told)


def _wanted(folder: Path) -> set[str] | None:
    """The hashes of the runs that plan.json lists; None, for all runs in the folder, if there is no plan.json."""
    plan = folders.read(folder / "plan.json")
    return None if plan is None else {run["run"] for run in plan["runs"]}


def _final(run: Run, folder: Path) -> dict[str, object]:
    """A run's row of ``final.csv``: its identity, how far it got, and the last value of every metric.

    A metric that was not finite when it was last measured is empty: its value before that is not the run's.
    """
    metrics = run.epochs.drop(columns=["epoch"])
    kept = [name for name in metrics if name not in run.spoilt]
    last = {name: values.iloc[-1] for name in kept if len(values := metrics[name].dropna())}
    train = "" if run.train is None else run.train.relative_to(folder).as_posix()
    state = {"status": run.status, "epochs": len(run.epochs), "attempts": run.attempts, "folder": train}
    memory = {"peak_memory": last.get("cost/peak_memory")}
    return {**run.identity, **state, **memory, **run.origin, **last, **run.test}


def _ordered(table: pd.DataFrame, first: tuple[str, ...]) -> pd.DataFrame:
    head = [*IDENTITY, *first]
    return table.reindex(columns=[*head, *sorted(set(table.columns) - set(head))])


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a table as CSV, atomically.

    Raises:
        ValueError: If the file cannot be written; the old one is then still there.
    """
    try:
        write_text(path, table.to_csv(index=False))
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}); the runs are unharmed: make room or repair the folder, and "
            "collect again."
        ) from error


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``results.csv`` and ``final.csv`` as they were last collected.

    Raises:
        ValueError: If a table does not exist or cannot be read.
    """
    return read_table(folder / "results.csv"), read_table(folder / "final.csv")


def read_table(path: Path) -> pd.DataFrame:
    """Reads one of a study's tables; columns of version 0.1.0 get their present names.

    Raises:
        ValueError: If the file does not exist, cannot be read or is no table of a study.
    """
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(WORDS, str), low_memory=False)
    except FileNotFoundError as error:
        raise ValueError(f"There is no {path}; make it with: python -m thermoebm.study collect.") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); collect again.") from error
    if missing := [name for name in IDENTITY if name not in table]:
        raise ValueError(f"{path} has no column {missing[0]}; collect again.")
    return table.rename(columns=renamed(table.columns))


def at_equal(results: pd.DataFrame, cost: str, budget: float | None = None) -> pd.DataFrame:
    """Every run's metrics at equal cost.

    A metric is interpolated linearly between the epochs at which it was measured, as cells differ in updates and
    operations per epoch. It is empty where its first measurement is after that cost or its last is before it.

    Args:
        results: A table like ``results.csv``.
        cost: The column of the cost: ``updates`` of the parameters, or nominal ``flops`` of training.
        budget: The cost at which runs are compared; None: the largest that all runs on a data set have reached. A run
            that has barely begun then sets the budget of all others, so give finished runs.

    Returns:
        A row for each run, with the columns of ``results``; ``epoch`` is interpolated too, and so no whole number.
    """
    return pd.DataFrame(list(_interpolated(results, cost, budget)), columns=results.columns)


def _interpolated(results: pd.DataFrame, cost: str, budget: float | None) -> Iterator[dict[str, object]]:
    metrics = [name for name in results.columns if name not in IDENTITY]
    for _, runs in results.dropna(subset=[cost]).groupby("dataset", sort=False):
        at = runs.groupby("run")[cost].max().min() if budget is None else budget
        for _, run in runs.groupby("run", sort=False):
            row = {name: run[name].iloc[0] for name in IDENTITY}
            for name in metrics:
                known = run[[cost, name]].loc[:, lambda t: ~t.columns.duplicated()].dropna().sort_values(cost)
                x, y = known[cost].to_numpy(float), known[name].to_numpy(float)
                row[name] = np.interp(at, x, y, left=np.nan, right=np.nan) if len(x) else np.nan
            yield row
