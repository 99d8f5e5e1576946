"""Reads one run's directory in whatever state it is: finished, running, failed, not begun or damaged."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from thermoebm.runs.logged import renamed
from thermoebm.runs.settings import at, settings
from thermoebm.study.planning.columns import IDENTITY
from thermoebm.study.running import folder

# Metrics of single parameter tensors, such as gradient_variance/per_parameter/total/energy.layers.0.weight.
_OF_A_TENSOR = re.compile(r"gradient_variance/.*/\w+\.")


@dataclass(frozen=True)
class Run:
    """The data read from a run's directory.

    Args:
        identity: The columns of IDENTITY.
        status: The state of the run, as the launcher sees it. A run that has begun and has neither DONE nor FAILED is
            ``running``, whether or not a process works on it.
        epochs: A row for each epoch: ``epoch`` (from 1), ``updates``, ``seconds`` and ``flops`` of training so far, and
            every metric.
        train: The folder that train.py made last, or None.
        attempts: The number of attempts; None if not recorded.
        origin: Device, commit and versions.
        test: The metrics that evaluate.py measured, their names prefixed with ``test/``.
        spoilt: The metrics whose last logged value is not finite; what they were before is not their final value.
    """

    identity: dict[str, Any]
    status: Literal["done", "running", "failed", "missing"]
    epochs: pd.DataFrame
    train: Path | None
    attempts: int | None
    origin: dict[str, Any]
    test: dict[str, float]
    spoilt: frozenset[str] = frozenset()


def read(directory: Path) -> tuple[Run | None, list[str]]:
    """The run, or None if its ``run.json`` cannot be read; and the remarks on it, a sentence each."""
    told: list[str] = []
    plan = _json(directory / "run.json", told, "leave it out, or run it again under a study file that plans it")
    if plan is None:
        return None, told or [f"{directory} has no run.json: it is no run, and left out."]
    identity = {name: plan.get(name) for name in IDENTITY} | settings(plan.get("config"))
    identity |= {"run": plan.get("run") or directory.name, "seed": plan.get("seed")}
    label = f"Run {identity['run']} ({identity['cell']}, seed {identity['seed']})"
    end, marker = folder.ended(directory)
    train = folder.trained(directory)
    epochs, spoilt = _epochs(train / "metrics.csv", told) if train else (_no_epochs(), frozenset[str]())
    if spoilt:
        more = f" and {len(spoilt) - 3} more" if len(spoilt) > 3 else ""
        told.append(f"{label}: the last value of {', '.join(sorted(spoilt)[:3])}{more} is not finite.")
    wanted = at(plan, "config.trainer.max_epochs")
    if end == folder.DONE:
        told += _missing_epochs(label, epochs, wanted, train)
        status: Literal["done", "running", "failed", "missing"] = "done"
    elif end == folder.FAILED:
        status = "failed"
        told.append(f"{label} has failed after {len(epochs)} epochs: {marker.get('reason', 'no reason is given')}")
    elif train is None:
        status = "missing"
        told.append(f"{label} has not begun.")
    else:
        status = "running"
        told += [
            f"{label} is not finished: {len(epochs)} of {wanted} epochs.",
            *_missing_epochs(label, epochs, 0, train),
        ]
    origin = {name: plan.get(name) for name in ("device", "commit")}
    origin |= {name: at(plan, f"versions.{name}") for name in ("python", "torch", "lightning", "thermoebm")}
    test = _test(directory / "test" / "metrics.json", told)
    return Run(identity, status, epochs, train, marker.get("attempts"), origin, test, spoilt), told


def _json(path: Path, told: list[str], advice: str) -> dict[str, Any] | None:
    """Reads a JSON object; None if there is no file, or if it is damaged, which adds a sentence to ``told``."""
    try:
        return folder.read(path)
    except folder.Damaged:
        told.append(f"{path} is damaged: {advice}.")
        return None


def _no_epochs() -> pd.DataFrame:
    return pd.DataFrame(columns=["epoch", "updates", "seconds", "flops"], dtype=float)


def _epochs(path: Path, told: list[str]) -> tuple[pd.DataFrame, frozenset[str]]:
    """The rows of ``metrics.csv`` by epoch: the mean of metrics logged at several steps; single values unchanged.

    An unfinished epoch, which is a last one without its cost, is left out. In the file an empty cell was not measured
    and ``nan`` was: the mean of an epoch with one is nan as well. Also returns the metrics whose last logged value is
    not finite.
    """
    if not path.is_file():
        return _no_epochs(), frozenset()
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False).fillna("")
        text = text.rename(columns=renamed(text.columns))
        table = text.apply(pd.to_numeric, errors="coerce").astype(float)
        logged, spoilt = text.ne(""), text.isin(["nan", "NaN"])
        damaged = [str(name) for name in table if (table[name].isna() & logged[name] & ~spoilt[name]).any()]
        whole = table.dropna(subset=["step", "epoch"])
        if len(whole) < len(table):
            damaged.append(f"{len(table) - len(whole)} row(s) without step or epoch")
    except (ValueError, KeyError, OSError) as error:
        told.append(f"{path} cannot be read ({' '.join(str(error).split())}): its run has no epochs in the tables.")
        return _no_epochs(), frozenset()
    if damaged:
        told.append(f"{path} is damaged ({', '.join(damaged[:3])}): what is no number there is left empty.")
    by_epoch = whole.loc[:, [not _OF_A_TENSOR.match(name) for name in whole]].groupby("epoch")
    epochs = by_epoch.mean().drop(columns="step")
    logged, spoilt = (of.loc[whole.index, list(epochs)].groupby(whole["epoch"]).any() for of in (logged, spoilt))
    epochs = epochs.mask(spoilt)
    cost = {name: epochs.get(f"cost/{name}", pd.Series(float("nan"), epochs.index)) for name in ("seconds", "flops")}
    epochs.insert(0, "updates", by_epoch["step"].max() + 1)
    epochs.insert(1, "seconds", cost["seconds"].cumsum())
    epochs.insert(2, "flops", cost["flops"])
    if cost["flops"].notna().any():
        epochs = epochs.loc[: cost["flops"].last_valid_index()]
    last = {name: values.iloc[-1] for name in logged if len(values := epochs[name][logged[name]])}
    epochs.index = epochs.index.astype(int) + 1
    not_finite = frozenset(name for name, value in last.items() if not math.isfinite(value))
    return epochs.rename_axis("epoch").reset_index(), not_finite


def _missing_epochs(label: str, epochs: pd.DataFrame, wanted: Any, train: Path | None) -> list[str]:
    """A sentence on the epochs that should be there but have no row, or no cost where others have it."""
    there = epochs[epochs["flops"].notna()] if epochs["flops"].notna().any() else epochs
    last = max([int(wanted or 0), *there["epoch"].astype(int)])
    missing = sorted(set(range(1, last + 1)) - set(there["epoch"].astype(int)))
    if not missing:
        return []
    spans = pd.Series(missing).groupby([epoch - i for i, epoch in enumerate(missing)])
    named = ", ".join(f"{s.min()}" if len(s) == 1 else f"{s.min()} to {s.max()}" for _, s in spans)
    where = "it has no folder of training" if train is None else f"{train / 'metrics.csv'} lacks them"
    return [f"{label}: epoch(s) {named} of {last} are missing, {where}; the others are collected."]


def _test(path: Path, told: list[str]) -> dict[str, float]:
    """The numbers in the single row that evaluate.py wrote, without those of single tensors."""
    whole = _json(path, told, "the run has no test metrics; evaluate it again")
    if whole is None:
        return {}
    rows = whole.get("results")
    if not (isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], dict)):
        told.append(f"{path} has not one row of results: the run has no test metrics; evaluate it again.")
        return {}
    numbers = {name: float(v) for name, v in rows[0].items() if isinstance(v, int | float) and not isinstance(v, bool)}
    test = {f"test/{name}": value for name, value in numbers.items() if not _OF_A_TENSOR.match(name)}
    present = renamed(f"test/{name}" for name in rows[0])  # of all names: that of the method is no number
    return {present.get(name, name): value for name, value in test.items()}
