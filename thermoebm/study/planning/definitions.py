"""The parts of a study: cells and runs. (This module imports nothing else of the package, and so no torch.)"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class StudyError(ValueError):
    """Something is wrong with a study; the message is one sentence."""


#: The choices of evaluate.py's --evidence.
EVIDENCE = ("none", "short", "annealed")


@dataclass(frozen=True, eq=False)
class Cell:
    """Runs that differ only in their seed.

    Args:
        name: A name for readers.
        group: The setting that the cell varies: batch, power, num_temperatures, posterior_steps, eta, width, ...
        composed: The config of its runs, a :class:`thermoebm.study.planning.compose.Composed`.
    """

    name: str
    group: str
    composed: Any = field(repr=False)


@dataclass(frozen=True, eq=False)
class Run:
    """One training run.

    Args:
        study, cell, group, seed: What the run is called in its study.
        hash: The hash of its config, which is also the name of its directory.
        config: Its complete config.
        evidence: What evaluate.py measures of log p(x) at its end, one of :data:`EVIDENCE`; not a part of the hash.
    """

    study: str
    cell: str
    group: str
    seed: int
    hash: str
    config: dict[str, Any] = field(repr=False)
    evidence: str = "short"

    def __str__(self) -> str:
        return f"{self.cell}, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Study:
    """A study file, checked.

    Args:
        name: The study's name, and by default that of its folder.
        path: The study file.
        cells: The cells, in the file's order.
        seeds: The seeds that every cell is run with.
        retries: How often a failed run is tried again.
        runs: All runs, seed by seed, so that an interrupted study has every cell at its first seeds.
    """

    name: str
    path: Path
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    retries: int
    runs: tuple[Run, ...]
