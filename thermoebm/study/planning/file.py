"""Reads and checks a study file (base configs, cells of overrides, seeds) and composes its runs.

    name: digits
    configs: [../digits.yaml]            # for every run; relative to the study file; later ones win
    set: {trainer.max_epochs: 40}        # overrides of dotted fields, for every run
    seeds: [0, 1, 2]                     # the same for every cell
    retries: 1                           # of each run that fails
    evidence: short                      # what evaluate.py measures of each run; annealed costs minutes
    cells:
      - name: vanilla, batch {batch_size}
        group: batch
        configs: [../mle.yaml]           # on top of the base configs
        grid: {data.init_args.batch_size: [25, 75, 150]}
      - name: ...
        group: width
        set: {model.init_args.generator.init_args.features: 16}

A ``grid`` makes one cell for each combination of its values. In a cell's name, ``{batch_size}`` stands for the value of
the field whose last part is ``batch_size``.
"""

import itertools
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import LightningCLI

from thermoebm.study.planning.compose import compose
from thermoebm.study.planning.definitions import EVIDENCE, Cell, Run, Study, StudyError

# Fields that a cell must not set, and why: another entry of the study sets them, or the launcher does.
_TAKEN = {
    **dict.fromkeys(("seed_everything", "model.init_args.seed", "data.init_args.seed"), "the study's seeds say it"),
    "name": "a run is named by its hash",
    "variant": "a run is named by its hash",
    "runs": "--output says where a study is kept",
    "threads": "--threads of the study says it",
    "ckpt_path": "the launcher resumes what was interrupted",
    "config": "configs names files",
}


def read(path: str | Path, program: type[LightningCLI]) -> Study:
    """Reads a study file and composes its runs.

    Args:
        path: The study file.
        program: The class that train.py runs, :class:`thermoebm.cli.train.CLI`; its parser composes the runs.

    Raises:
        StudyError: If something is wrong with the file; the message is one sentence that begins with the file's path
            and names the cell, if one is at fault.
    """
    path = Path(path)
    try:
        return _study(path, program)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from error


def _study(path: Path, program: type[LightningCLI]) -> Study:
    given = _load(path)
    _known(given, {"name", "configs", "set", "seeds", "retries", "evidence", "cells"}, "the study")
    name, seeds, retries = given.get("name", path.stem), given.get("seeds"), given.get("retries", 1)
    if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
        raise StudyError(f"name is {name!r}; give one that a folder may have.")
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise StudyError(f"seeds is {seeds}; give a list of numbers of at least 0, such as [0, 1, 2].")
    if len(set(seeds)) < len(seeds):
        raise StudyError(f"seeds is {seeds}; a seed is there twice.")
    if type(retries) is not int or retries < 0:
        raise StudyError(f"retries is {retries!r}; give a number of at least 0.")
    evidence = given.get("evidence", "short")
    if evidence not in EVIDENCE:
        raise StudyError(f"evidence is {evidence!r}; choose one of {', '.join(EVIDENCE)}.")
    if not isinstance(given.get("cells"), list) or not given["cells"]:
        raise StudyError("there are no cells; give a list of them, each with a name and a group.")
    shared = _files(given, path, "the study"), _overrides(given, "set", "the study")
    cells: list[Cell] = []
    for number, entry in enumerate(given["cells"], start=1):
        for cell in _cells(entry, number, path, *shared, seeds[0], program):
            if cell.name in {other.name for other in cells}:
                raise StudyError(f"two cells are called '{cell.name}'; give each its own name.")
            cells.append(cell)
    runs, owners = [], dict[str, str]()
    for seed in seeds:
        for cell in cells:
            run_hash, config = cell.composed.seeded(seed)
            if run_hash in owners:
                raise StudyError(f"cells '{owners[run_hash]}' and '{cell.name}' are the same settings; keep one.")
            owners[run_hash] = cell.name
            runs.append(Run(name, cell.name, cell.group, seed, run_hash, config, evidence))
    return Study(name, path, tuple(cells), tuple(seeds), retries, tuple(runs))


def _load(path: Path) -> dict[str, Any]:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError("there is no such study file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"it cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise StudyError(f"it is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise StudyError("it is no study: give name, configs, seeds and cells.")
    return given


def _cells(
    entry: Any,
    number: int,
    path: Path,
    configs: list[Path],
    overrides: dict[str, Any],
    seed: int,
    program: type[LightningCLI],
) -> list[Cell]:
    """The cells of one entry: a single cell, or one for each combination of the grid's values."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise StudyError(f"cell {number} has no name; give one.")
    title = f"cell '{entry['name']}'"
    _known(entry, {"name", "group", "configs", "set", "grid"}, title)
    if not isinstance(entry.get("group"), str):
        raise StudyError(f"{title} has no group; say what it varies, for instance group: power.")
    configs = configs + _files(entry, path, title)
    overrides = overrides | _overrides(entry, "set", title)
    grid = _overrides(entry, "grid", title)
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise StudyError(f"{title}: the grid's {name} is {values!r}; give a list of values.")
    cells = []
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        name = _named(entry["name"], overrides | point, title)
        try:
            composed = compose(program, configs, overrides | point, seed)
        except StudyError as error:
            raise StudyError(f"cell '{name}': {error}") from error
        cells.append(Cell(name, entry["group"], composed))
    return cells


def _named(template: str, fields: dict[str, Any], title: str) -> str:
    """Fills in a name's template; a placeholder is the last part of the name of a field that the cell sets."""
    try:
        return template.format_map({name.split(".")[-1]: value for name, value in fields.items()})
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise StudyError(f"{title}: its name needs {error}, which is the end of no field that it sets.") from error


def _known(given: dict[str, Any], names: set[str], title: str) -> None:
    if unknown := sorted(map(str, given.keys() - names)):
        raise StudyError(f"{title} has an unknown entry '{unknown[0]}'; there are {', '.join(sorted(names))}.")


def _files(given: dict[str, Any], path: Path, title: str) -> list[Path]:
    names = given.get("configs", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StudyError(f"configs of {title} is {names!r}; give a list of files.")
    files = [path.parent / name for name in names]
    for file in files:
        if not file.is_file():
            raise StudyError(f"{title}: there is no config {file}; paths are relative to the study file.")
    return files


def _overrides(given: dict[str, Any], key: str, title: str) -> dict[str, Any]:
    overrides = given.get(key) or {}
    if not isinstance(overrides, dict) or not all(isinstance(name, str) for name in overrides):
        raise StudyError(f"{key} of {title} is {overrides!r}; give fields and their values.")
    for name in overrides:
        if name in _TAKEN:
            raise StudyError(f"{title} sets {name}: {_TAKEN[name]}; leave it out.")
    return overrides
