"""Parses and saves the config of a run."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from thermoebm.runtime.terminal import fail, reason


class ConfigParser(LightningArgumentParser):
    """Reports errors in one sentence, without the usage text of a hundred options.

    Attributes:
        given: The arguments of the program.
    """

    given: ClassVar[Sequence[str]] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        report, sentence = str(message), reason(ex) if ex else str(message)
        unknown = re.match(r"(?:unrecognized arguments: --|.*[Oo]ption ')([\w.]+)", sentence)
        if unknown and (told := self._no_field(unknown[1])):
            sentence = told
        elif "not accepted" in sentence or "not accept option" in sentence:
            sentence += "; --print_config lists every field"
        if report.startswith("Parser key"):
            sentence = report.split(":")[0].replace("Parser key", "field") + f": {sentence}"
        elif "parsing config" in report:
            sentence = f"a config file is not valid YAML: {sentence}"
        sentence = re.sub(r"<class '(\w+)'>", r"\1", sentence)
        fail(re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"Expected one of \1", sentence))

    def _no_field(self, name: str) -> str | None:
        """Says that the command line has no such field, by its whole path, which a nested object's parser lacks."""
        paths = (argument.lstrip("-").partition("=")[0] for argument in self.given)
        path = next((path for path in paths if path.endswith(name)), None)
        if path is None:
            return None
        above = name.rpartition(".")[0]
        fields = [action.dest for action in self._actions if action.dest.rpartition(".")[0] == above]
        near = difflib.get_close_matches(name, fields, 1)
        nearest = f"did you mean {path.removesuffix(name)}{near[0]}?" if near else "--print_config lists every field"
        return f"there is no field {path}; {nearest}"


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
        self.plain = yaml.safe_load(self.parser.dump(self.config, skip_link_targets=False, skip_none=False))
        super().setup(trainer, pl_module, stage)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """A checkpoint carries its config, so that it can be used without the rest of its run."""
        checkpoint["config"] = self.plain


def a_seed(value: bool | int) -> int:
    """Checks a seed and returns it.

    Raises:
        ValueError: If it is not a number of at least 0.
    """
    if isinstance(value, bool) or value < 0:
        raise ValueError(f"seed_everything is {value}; give a number of at least 0.")
    return value
