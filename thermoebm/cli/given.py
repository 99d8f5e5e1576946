"""Where the fields of a run were given: on the command line or in a config file, by their whole dotted names."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_CONFIG = ("-c", "--config")
#: What seed_everything sets, whatever was given.
_SEEDS = ("model.seed", "data.seed")


class Place(NamedTuple):
    """One place of a field.

    Args:
        path: Its whole name as the command line writes it; an entry of a list has the name of its class there.
        file: The config file; None: the command line.
        beside: The names of the fields beside it.
        value: What it is set to; text on the command line.
    """

    path: str
    file: str | None
    beside: frozenset[str]
    value: Any


def config_files(arguments: Sequence[str]) -> list[str]:
    """The config files among the arguments, in their order."""
    files = []
    for argument, following in _with_following(arguments):
        name, equals, value = argument.partition("=")
        if name in _CONFIG:
            files.append(value if equals else following)
    return files


def fault(arguments: Sequence[str]) -> str | None:
    """What is wrong with a config file as a file, in one sentence; None: each is a mapping of fields."""
    for file in config_files(arguments):
        if not file:
            return "-c and --config need the name of a file."
        try:
            given = _loaded(file)
        except FileNotFoundError:
            return f"there is no config file {file}."
        except IsADirectoryError:
            return f"the config {file} is a folder; give a file."
        except OSError as error:
            return f"the config file {file} cannot be read ({error.strerror})."
        except UnicodeDecodeError:
            return f"the config file {file} is not text in UTF-8; save it as such."
        except yaml.YAMLError as error:
            told = str(error).replace('in "<unicode string>", ', "")
            return f"the config file {file} is not valid YAML: {told}"
        if not isinstance(given, dict):
            return f"the config file {file} has no fields, as in `name: digits`."
    return None


def without_effect(arguments: Sequence[str]) -> str | None:
    """Which field that was given is replaced by another, in one sentence; None: there is none."""
    for place in _places(arguments):
        if place.path.replace(".init_args", "") in _SEEDS:
            where = f" in {place.file}" if place.file else ""
            return f"{place.path} is {place.value}{where}, and seed_everything takes its place; give that instead."
    return None


def places(arguments: Sequence[str], name: str, fields: Collection[str]) -> list[Place]:
    """Where a field was given that the parser of a nested object, which has these fields, knows by a part of its name.

    Of several that end in this name, they are those of the whole name that somewhere is beside most fields of that
    object; the last one given comes first.
    """
    found = [place for place in _places(arguments) if f".{place.path}".endswith(f".{name}")]
    found = [place for place in found if place.path == name] or found
    most = max((len(place.beside & {*fields}) for place in found if place.path != name), default=0)
    paths = {place.path for place in found if place.path == name or len(place.beside & {*fields}) == most}
    return [place for place in reversed(found) if place.path in paths]


def _places(arguments: Sequence[str]) -> Iterator[Place]:
    """The fields of the files in their order, then those of the command line, which are parsed after them."""
    for file in config_files(arguments):
        yield from _below(_loaded(file), "", file)
    given = [_split(a, following) for a, following in _with_following(arguments) if a[:1] == "-"]
    for path, value in given:
        above = path.rpartition(".")[0]
        beside = frozenset(other.rpartition(".")[2] for other, _ in given if other.rpartition(".")[0] == above)
        yield Place(path, None, beside, value)
        yield from _below(_value(value), f"{path}.", None)


def _with_following(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(arguments, [*arguments[1:], ""], strict=False)  # of no arguments there is no last one


def _split(argument: str, following: str) -> tuple[str, str]:
    name, equals, value = argument.lstrip("-").partition("=")
    return name.removesuffix("+"), value if equals else following


def _below(given: Any, above: str, file: str | None) -> Iterator[Place]:
    """All fields of a mapping and of those in it, without the word ``init_args``, which the command line leaves out."""
    if isinstance(given, list):
        for number, entry in enumerate(given):
            kind = str((entry.get("class_path") if isinstance(entry, dict) else None) or number)
            yield from _below(entry, f"{above}{kind.rpartition('.')[2]}.", file)
    if not isinstance(given, dict):
        return
    for name, value in given.items():
        if name == "init_args" and isinstance(value, dict):
            yield from _below(value, above, file)
        else:
            yield Place(f"{above}{name}", file, frozenset(map(str, given)), value)
            yield from _below(value, f"{above}{name}.", file)


def _loaded(file: str) -> Any:
    text = _value(file)
    if isinstance(text, dict):  # jsonargparse takes the text itself in place of a file
        return text
    return yaml.safe_load(Path(file).read_text(encoding="utf-8"))


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
