"""Parses and saves the config of a run."""

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from thermoebm.runtime.terminal import fail, reason


class ConfigParser(LightningArgumentParser):
    """Reports errors in one sentence, without the usage text of a hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        report, sentence = str(message), reason(ex) if ex else str(message)
        if "not accepted" in sentence or "not accept option" in sentence:
            sentence += "; --print_config lists every field"
        if report.startswith("Parser key"):
            sentence = report.split(":")[0].replace("Parser key", "field") + f": {sentence}"
        elif "parsing config" in report:
            sentence = f"a config file is not valid YAML: {sentence}"
        sentence = re.sub(r"<class '(\w+)'>", r"\1", sentence)
        fail(re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"Expected one of \1", sentence))


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
