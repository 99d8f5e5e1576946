"""Prepares a study's folder before anything runs, and tells how the study file differs from the existing runs."""

import contextlib
import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from thermoebm.runtime.files import write_text
from thermoebm.study.planning.compose import WITHOUT_EFFECT
from thermoebm.study.planning.definitions import Run, Study, StudyError
from thermoebm.study.running import folder


def prepare(study: Study, output: Path) -> None:
    """Makes a directory with its config for each run; of an existing run, only the names are updated.

    Raises:
        StudyError: If the folder cannot be written.
    """
    try:
        (output / "runs").mkdir(parents=True, exist_ok=True)
        _keep(study.path, output)
        commit = _commit()
        for run in study.runs:
            place = output / "runs" / run.hash
            place.mkdir(exist_ok=True)
            with contextlib.suppress(folder.Damaged):  # reported when the launcher comes to this run
                _describe(run, place, commit)
        wanted = [{"run": run.hash, "cell": run.cell, "group": run.group, "seed": run.seed} for run in study.runs]
        folder.write(output / "plan.json", {"study": study.name, "runs": wanted})
    except OSError as error:
        sentence = f"{output} cannot be written ({error.strerror or error}); make room or name another with --output."
        raise StudyError(sentence) from error


def _keep(path: Path, output: Path) -> None:
    """Keeps the current study file as study.yaml; an earlier version is renamed to study-1.yaml, study-2.yaml, ..."""
    kept, today = output / "study.yaml", path.read_text(encoding="utf-8")
    if kept.exists():
        if kept.read_text(encoding="utf-8", errors="replace") == today:
            return
        number = next(i for i in itertools.count(1) if not (output / f"study-{i}.yaml").exists())
        kept.rename(output / f"study-{number}.yaml")
    write_text(kept, today)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that train.py's parser takes for a number but PyYAML does not, such as the hash 2065760e61."""


_FLOAT = re.compile(r"[-+]?\d[\d_]*[eE][-+]?\d+$")
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))


def _describe(run: Run, place: Path, commit: str | None) -> None:
    called = {"study": run.study, "run": run.hash, "cell": run.cell, "group": run.group, "seed": run.seed}
    called["evidence"] = run.evidence
    about = folder.read(place / "run.json")
    if about is None:
        text = yaml.dump(run.config, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        write_text(place / "config.yaml", text)
        command = ["python", "train.py", "fit", f"--config={place / 'config.yaml'}", f"--runs={place.parent}"]
        about = {"config": run.config, "commit": commit, "device": None, "versions": None, "command": command}
    if any(about.get(key) != value for key, value in called.items()):
        folder.write(place / "run.json", called | {key: about[key] for key in about if key not in called})


def _commit() -> str | None:
    """The commit of this package's source, with a + if files differ from it; None without git or a repository."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        git = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        told = subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        return told.stdout.strip()
    return None


def strays(study: Study, output: Path) -> list[Path]:
    """Directories of runs that are not, or no longer, in the study."""
    wanted = {run.hash for run in study.runs}
    return sorted(place for place in (output / "runs").glob("*") if place.is_dir() and place.name not in wanted)


def difference(study: Study, output: Path) -> list[str]:
    """How the study differs from what was run before, in sentences."""
    if not (output / "plan.json").exists():
        return []
    known = {place.name: place for place in (output / "runs").glob("*") if place.is_dir()}
    new = dict.fromkeys(run.cell for run in study.runs if run.hash not in known)
    gone = strays(study, output)
    told = [f"new are {_listed(list(new))}"] if new else []
    if gone:
        cells = list(dict.fromkeys(cell_of(place) for place in gone))
        told.append(f"no longer wanted are {_listed(cells)}, whose {len(gone)} runs stay in {output / 'runs'}")
    sentences = [f"{study.path} has changed since runs were made: {'; '.join(told)}."] if told else []
    changed = {run: field for run in study.runs if run.hash in known and (field := _changed(run, known[run.hash]))}
    if changed:
        run, field = next(iter(changed.items()))
        sentences.append(
            f"{len(changed)} runs were made when defaults were others, for instance {field} of "
            f"{known[run.hash]}; move such runs away to have them made again."
        )
    return sentences


def cell_of(place: Path) -> str:
    """The cell that a run's directory says it belongs to, or ``?``."""
    with contextlib.suppress(folder.Damaged):
        return str((folder.read(place / "run.json") or {}).get("cell", "?"))
    return "?"


def _listed(names: list[str], most: int = 6) -> str:
    quoted = [f"'{name}'" for name in names]
    return ", ".join(quoted) if len(quoted) <= most else f"{', '.join(quoted[:most])} and {len(quoted) - most} more"


def _changed(run: Run, place: Path) -> str:
    """The first field, by name, that has another value in the run's directory, with both values; empty if none has."""
    with contextlib.suppress(folder.Damaged):
        before, after = (
            _flat(config) for config in ((folder.read(place / "run.json") or {}).get("config"), run.config)
        )
        for field in sorted(before.keys() & after.keys() - set(WITHOUT_EFFECT)):
            if before[field] != after[field]:
                return f"{field} {before[field]}, now {after[field]},"
    return ""


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, dict):
        return {prefix: config}
    return {
        name: value
        for key, inner in config.items()
        for name, value in _flat(inner, f"{prefix}.{key}" if prefix else key).items()
    }
