"""Parses and saves the config of a run."""

import difflib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml
from jsonargparse import set_dumper
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from thermoebm.cli import given
from thermoebm.runtime.files import as_text
from thermoebm.runtime.terminal import fail, reason

#: The one field whose value may be a name that is not UTF-8: the data set reads it as text.
_ROOT = re.compile(r"--data(\.init_args)?\.root(=|$)")
_LISTED = "--print_config lists every field"
#: What jsonargparse says of a field that it does not know; the groups are the field's name.
_UNKNOWN = re.compile(
    r"unrecognized arguments: --([^\s=]+)"
    r"|Group '([^']+)' does not accept option '([^']+)'"
    r"|.*Option '([^']+)' is not accepted"
    r"|.* does not accept option '([^']+)'"
)


def short(config: Any) -> Any:
    """A config whose power laws have no class path: ``{num_temperatures: 10, power: 6.0}``.

    They had none when there was no other schedule: configs, checkpoints and the hashes of studies are written so still.
    jsonargparse reads it as the class of the field's default; it cannot write it, nor take a type ``PowerLaw |
    Schedule``, for which every other class than the default's is an error (seen in 4.39 to 4.53).
    """
    if isinstance(config, dict):
        if config.get("class_path") == "thermoebm.schedules.PowerLaw":
            return config.get("init_args", {})
        return {name: short(value) for name, value in config.items()}
    return [short(value) for value in config] if isinstance(config, list) else config


class ConfigParser(LightningArgumentParser):
    """Reports errors in one sentence, without the usage text of a hundred options.

    Attributes:
        given: The arguments of the program.
        folder: Where it was started.
        depth: Number of dumps that are under way: an object in the config is dumped by a parser of its own.
    """

    given: ClassVar[Sequence[str]] = ()
    folder: ClassVar[Path | None] = None
    depth: ClassVar[int] = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Said, since jsonargparse 5 takes no name that is cut short unless it is told to.
        super().__init__(*args, **({"allow_abbrev": True} | kwargs))

    def dump(self, *args: Any, **kwargs: Any) -> str:
        if "skip_none" in kwargs:  # Lightning's word for it, which jsonargparse 5 no longer knows
            kwargs["skip_unset"] = kwargs.pop("skip_none")
        ConfigParser.depth += 1
        try:
            return str(super().dump(*args, **kwargs))
        finally:
            ConfigParser.depth -= 1

    def parse_args(self, args: Any = None, *more: Any, **kwargs: Any) -> Any:
        arguments = [str(argument) for argument in (sys.argv[1:] if args is None else args)]
        ConfigParser.folder = Path.cwd()
        for place, argument in enumerate(arguments):
            if argument == (text := as_text(argument)):
                continue
            if not any(map(_ROOT.match, arguments[max(place - 1, 0) : place + 1])):
                fail(
                    f"{text} is not UTF-8, which no config and no event file of TensorBoard can hold; rename it, "
                    "or give a link to it (ln -s) with another name."
                )
            arguments[place] = text
        try:
            return super().parse_args(arguments, *more, **kwargs)
        except UnicodeDecodeError as error:
            self.error(str(error), error)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if ConfigParser.folder is not None:  # a file is parsed in its own folder, and the names of others would be lost
            os.chdir(ConfigParser.folder)
        if told := given.fault(self.given):
            fail(told)
        report, sentence = str(message), reason(ex) if ex else str(message)
        parser = getattr(ex, "subcommand_parser", self)
        fields = {action.dest for action in parser._actions if not action.dest.endswith("help")}
        if unknown := _UNKNOWN.match(sentence):
            name = ".".join(filter(None, unknown.groups()))
            sentence = self._no_field(name, fields) or f"{sentence}; {_LISTED}"
        if wrong := re.match(r'Parser key "([^"]+)"', report):
            places = given.places(self.given, wrong[1], fields)
            value = report.rpartition("alue: ")[2]
            place = next((place for place in places if str(place.value) == value), None)
            where = f" in {place.file}" if place and place.file else ""
            sentence = f'field "{(place or places[0]).path if places else wrong[1]}"{where}: {sentence}'
        sentence = re.sub(r"<class '(\w+)'>", r"\1", sentence)
        fail(re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"Expected one of \1", sentence))

    def _no_field(self, name: str, fields: set[str]) -> str | None:
        """Says that there is no such field, by its whole path, which a nested object's parser lacks, and where it is.

        Args:
            name: The field's name in the parser that does not know it.
            fields: Those that it knows.
        """
        known = {above for field in fields for above in _with_all_above(field)}
        name = next((above for above in _with_all_above(name) if above not in known), name)
        place = next(iter(given.places(self.given, name, known)), None)
        if place is None:
            return None
        where = f", which {place.file} sets" if place.file else ""
        near = difflib.get_close_matches(name, known, 1)
        nearest = f"did you mean {place.path.removesuffix(name)}{near[0]}?" if near else _LISTED
        return f"there is no field {place.path}{where}; {nearest}"


def _whole_short(config: Any) -> Any:
    """The config of a program in its short form; an object's as it is, which is compared with its defaults."""
    return short(config) if ConfigParser.depth == 1 else config


# As jsonargparse itself writes these.
set_dumper("yaml", lambda config: yaml.safe_dump(_whole_short(config), allow_unicode=True, sort_keys=False))
set_dumper("json", lambda config: json.dumps(_whole_short(config), separators=(",", ":"), ensure_ascii=False))


def _with_all_above(field: str) -> list[str]:
    """``a.b.c``: a, a.b and a.b.c."""
    parts = field.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def whole_numbers_first(parser: LightningArgumentParser) -> None:
    """Makes 1 one batch where 1.0 is all of them: Python remembers ``int | float`` in the order it met it first."""
    for action in parser._actions:
        if action.dest.startswith("trainer.limit_") or action.dest == "trainer.overfit_batches":
            action._typehint = int | float | None  # type: ignore[attr-defined]


class SaveConfig(SaveConfigCallback):
    """Saves the whole config in the run's directory; a resumed run adds a file beside the first."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit" or trainer.log_dir is None:
            return
        earlier = len(list(Path(trainer.log_dir).glob("config*.yaml")))
        self.config_filename = f"config-resumed-{earlier}.yaml" if earlier else "config.yaml"
        self.overwrite = True
        self.plain = yaml.safe_load(self.parser.dump(self.config, skip_link_targets=False, skip_unset=False))
        super().setup(trainer, pl_module, stage)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """A checkpoint carries its config, so that it can be used without the rest of its run.

        The model's arguments are there a second time, where Lightning's ``load_from_checkpoint`` looks for them.
        """
        checkpoint["config"] = self.plain
        arguments = self.plain["model"].get("init_args", {})
        checkpoint["hyper_parameters"] = arguments | {"_instantiator": "lightning.pytorch.cli.instantiate_module"}


def a_seed(value: bool | int) -> int:
    """Checks a seed and returns it.

    Raises:
        ValueError: If it is not a number of at least 0.
    """
    if isinstance(value, bool) or value < 0:
        raise ValueError(f"seed_everything is {value}; give a number of at least 0.")
    return value
