"""Composes a run's config from files and overrides with train.py's own parser, and hashes it to name the run."""

import contextlib
import copy
import hashlib
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningCLI
from torch.overrides import TorchFunctionMode

from thermoebm.modules import ImageModel
from thermoebm.study.planning.definitions import StudyError

#: Fields that change no result: where a run and its data are kept, how the run is monitored, and how many threads it
#: has. (The number of threads changes the last bits at most.)
WITHOUT_EFFECT = (
    *("name", "variant", "runs", "threads", "num_samples", "ckpt_path", "weights_only", "disk_patience"),
    *("data.init_args.root", "data.init_args.download", "data.init_args.resident"),
    *(f"trainer.{name}" for name in ("enable_progress_bar", "logger", "default_root_dir", "profiler")),
)


@dataclass(frozen=True)
class Composed:
    """A composed config, and the model and data set that it describes.

    Args:
        config: Every field, defaults included.
        settings: The fields that differ from their defaults and have an effect; the hash is computed from these.
        model: The model, whose weights have shapes and no values that mean anything.
        data: The data set; nothing has been read from disk yet.
    """

    config: dict[str, Any]
    settings: dict[str, Any]
    model: ImageModel
    data: Any

    def seeded(self, seed: int) -> tuple[str, dict[str, Any]]:
        """The hash and the complete config of the run with this seed."""
        config = copy.deepcopy(self.config) | {"seed_everything": seed}
        name = run_hash(self.settings | {"seed_everything": seed})
        return name, config | {"name": name, "variant": None}


def run_hash(settings: dict[str, Any]) -> str:
    """The hash of a run's settings: ten hexadecimal digits.

    The settings leave defaults out, so that a version of this package that adds a field still finds the runs of the
    version before. A changed default is noticed by comparison with the complete config that each run keeps.
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def compose(program: type[LightningCLI], configs: list[Path], overrides: dict[str, Any], seed: int) -> Composed:
    """Composes the config that ``train.py fit`` would run with these config files and overrides; later ones win.

    Args:
        program: The class that train.py runs, :class:`thermoebm.cli.train.CLI`.
        configs: Config files.
        overrides: Dotted field names and their values.
        seed: A seed to check the config with.

    Raises:
        StudyError: If train.py would refuse the config (the message is then train.py's own), or if the run would have
            no end or keep no checkpoints.
    """
    # A variant of its own: no run of a study is named after its overlays, so overrides may undo them.
    arguments = [*(f"--config={path}" for path in configs), f"--seed_everything={seed}", "--variant=cell"]
    arguments += [f"--{field}={_text(value)}" for field, value in overrides.items()]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each run gives its own warnings
            return _check(program).compose(arguments)
    except SystemExit as refused:
        raise StudyError(said.getvalue().strip().split("error: ")[-1]) from refused
    except (ValueError, TypeError) as error:
        raise StudyError(" ".join(str(error).split())) from error


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class _Check:
    """Mixed into train.py's class: parses, builds model, data set and callbacks, and stops before data are read."""

    parser: Any
    config: Any
    model: Any
    datamodule: Any
    _parser: Any

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"fit": LightningCLI.subcommands()["fit"]}

    def parse_arguments(self, parser: Any, args: Any) -> None:
        self.config = Namespace(subcommand="fit", fit=Namespace(seed_everything=False))

    def instantiate_classes(self) -> None:
        """Does nothing; :meth:`compose` builds the classes."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Does nothing: no subcommand is run."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        self.model.check_batch(self.datamodule.batch_size)

    def compose(self, arguments: list[str]) -> Composed:
        parser = self._parser("fit")  # the whole program's would check the subcommand's fields a second time
        type(parser).given = arguments
        self.config = Namespace(subcommand="fit", fit=parser.parse_args(arguments))
        threads = torch.get_num_threads()
        with torch.random.fork_rng(devices=[]), _Uninitialised():
            super().instantiate_classes()  # type: ignore[misc]
        torch.set_num_threads(threads)
        trainer = self.config.fit.trainer
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            raise ValueError(f"trainer.max_epochs is {trainer.max_epochs}; a run of a study has an end, at least 1.")
        if trainer.enable_checkpointing is False or trainer.fast_dev_run:
            raise ValueError("a run of a study keeps checkpoints: leave out enable_checkpointing and fast_dev_run.")
        whole, settings = (self._plain(skip_default) for skip_default in (False, True))
        for field in WITHOUT_EFFECT:
            _remove(settings, field.split("."))
        for field in ("runs", "threads", "ckpt_path", "weights_only"):
            _remove(whole, [field])
        return Composed(whole, settings, self.model, self.datamodule)

    def _plain(self, skip_default: bool) -> dict[str, Any]:
        fields = {"skip_unset": False, "skip_default": skip_default}
        # Parsing has validated it.
        dumped = self._parser("fit").dump(self.config.fit, format="json", skip_validation=True, **fields)
        plain: dict[str, Any] = json.loads(dumped)
        return plain


class _Uninitialised(TorchFunctionMode):
    """Leaves weights as they are allocated: a plan needs their shapes, and full width takes a second to draw."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return (kwargs or {}).get("tensor", *args[:1])
        return func(*args, **(kwargs or {}))


_checks: dict[type[LightningCLI], _Check] = {}


def _check(program: type[LightningCLI]) -> _Check:
    """The checker of a program, made once: building a parser of some hundred fields takes longer than parsing."""
    if program not in _checks:
        with warnings.catch_warnings():
            shown = warnings.formatwarning
            _checks[program] = type("Check", (_Check, program), {})()
            warnings.formatwarning = shown
    return _checks[program]


def _remove(settings: dict[str, Any], field: list[str]) -> None:
    """Removes a field, and any section that is then empty, as a field left at its default leaves no section either."""
    if len(field) == 1:
        settings.pop(field[0], None)
    elif isinstance(inner := settings.get(field[0]), dict):
        _remove(inner, field[1:])
        if not inner:
            del settings[field[0]]
