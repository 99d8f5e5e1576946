"""What a study is made of. (Without the rest of the package: a launcher starts at once and imports no torch.)"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class StudyError(ValueError):
    """Something is wrong with a study; the message is one sentence."""


@dataclass(frozen=True, eq=False)
class Cell:
    """Runs that differ in their seed only.

    Args:
        name: For people.
        group: What it varies: batch, power, num_temperatures, posterior_steps, eta, width, ...
        composed: Its config, a :class:`thermoebm.study.planning.compose.Composed`.
    """

    name: str
    group: str
    composed: Any = field(repr=False)


@dataclass(frozen=True, eq=False)
class Run:
    """One training.

    Args:
        study, cell, group, seed: What it is called.
        hash: Of its config, and the name of its directory.
        config: The whole of it.
    """

    study: str
    cell: str
    group: str
    seed: int
    hash: str
    config: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.cell}, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Study:
    """A study file, checked.

    Args:
        name: What its folder is called.
        path: The file.
        cells: In the file's order.
        seeds: Of every cell.
        retries: How often a run that failed is tried again.
        runs: All, seed by seed, so that a study that is interrupted has whole comparisons.
    """

    name: str
    path: Path
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    retries: int
    runs: tuple[Run, ...]
