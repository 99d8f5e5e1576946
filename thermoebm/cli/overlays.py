"""Overlays: config files with a ``variant`` and no ``name``. The run is named after them and has what they say."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class _File(NamedTuple):
    path: str
    variant: str | None
    is_overlay: bool
    words: dict[str, str]  # fields that are words, such as a class or an estimator, by their dotted names


def variant(paths: Sequence[Any], given: str | None, config: dict[str, Any]) -> str | None:
    """The variant that a run with these config files is named by: those of the files, joined, unless another was given.

    Args:
        paths: The config files, in their order.
        given: The field ``variant`` after all files and the command line.
        config: The composed config.

    Raises:
        ValueError: If the run does not have what an overlay says in words, such as its objective or its estimator, and
            no later overlay, which the name has too, says otherwise; or if a later overlay undoes it altogether.
    """
    files = [_read(str(path)) for path in paths if path is not None]  # None: text in place of a file
    variants = [file.variant for file in files if file.variant]
    is_chosen = given != (variants[-1] if variants else None)
    for number, file in enumerate(files):
        if file.is_overlay:
            _check(file, files[number + 1 :], config, is_chosen)
    return given if is_chosen else "-".join(dict.fromkeys(variants)) or None


def _check(overlay: _File, later: list[_File], config: dict[str, Any], is_chosen: bool) -> None:
    undone = [field for field, word in overlay.words.items() if not _same(_field(config, field), word)]
    for field in undone:
        by = next((file for file in reversed(later) if _undoes(file, overlay, field)), None)
        if by is None and not is_chosen:
            raise ValueError(
                f"the command line undoes {overlay.path}, after which the run is named: there {field} is "
                f"{overlay.words[field]}. Leave the file out, or give the run another name by --variant."
            )
        if by is not None and not by.is_overlay:
            raise ValueError(
                f"{by.path} sets {field} too and undoes {overlay.path}: give the overlay after it, "
                f"-c {by.path} -c {overlay.path}."
            )
    nothing_left = len(undone) == len(overlay.words)
    if not is_chosen and undone and (nothing_left or overlay.variant in [overlay.words[field] for field in undone]):
        others = " and ".join(file.path for file in later if any(_undoes(file, overlay, field) for field in undone))
        raise ValueError(f"{others} undoes {overlay.path}, after which the run is named: leave one of them out.")


def _undoes(file: _File, overlay: _File, field: str) -> bool:
    """Whether a file sets the field, or the class of the object that it belongs to, to something else."""
    above = [
        name for name in file.words if name.endswith("class_path") and field.startswith(name[: -len("class_path")])
    ]
    return any(
        name in overlay.words and not _same(file.words[name], overlay.words[name])
        for name in (*above, field)
        if name in file.words
    )


def _same(word: Any, other: str) -> bool:
    """Whether two words are the same, or two paths of one class."""
    return isinstance(word, str) and word.rpartition(".")[2] == other.rpartition(".")[2]


def _field(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _read(path: str) -> _File:
    given = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    variant = given.pop("variant", None)
    return _File(path, variant, bool(variant) and "name" not in given, dict(_words(given)))


def _words(given: Any, above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in given.items():
        if isinstance(value, dict):
            yield from _words(value, f"{above}{name}.")
        elif isinstance(value, str):
            yield f"{above}{name}", value
