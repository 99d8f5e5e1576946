"""The command line: ``train.py fit | validate | test | predict`` on LightningCLI."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
import yaml
from jsonargparse.typing import PositiveInt
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from thermoebm import runs
from thermoebm.callbacks import EnergyAlarm, GenerationMetrics, Progress, RunDirectory, ZeroGradientAlarm
from thermoebm.callbacks.pictures import image_grid
from thermoebm.data import ImageDataModule
from thermoebm.faults import innermost
from thermoebm.modules import LatentEBM

# Below this many floating-point operations for one pass of a batch through the generator, waking a second thread
# costs more than it computes; where processes share the cores it can cost a hundred times more.
_SMALL_BATCH_FLOPS = 10**8


class Parser(LightningArgumentParser):
    """Says what is wrong in one sentence, without the usage text of a hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        where, found, _ = str(message).partition(":\n")
        reason = innermost(ex) if found and ex else str(message)
        hint = "; --print_config lists every field" if "not accepted" in reason or "not accept option" in reason else ""
        fail(f"{where}: {reason}" if found else reason + hint)


class CLI(LightningCLI):
    """LightningCLI with run directories that never collide, and faults told in a sentence before training starts."""

    def __init__(self, args: Any = None) -> None:
        quieten()
        super().__init__(
            LatentEBM,
            ImageDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=SaveConfig,
            seed_everything_default=0,
            trainer_defaults={"inference_mode": False, "logger": False, "enable_model_summary": False},
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default="run", help="Runs are kept in RUNS/NAME/0, 1, ...")
        parser.add_argument("--runs", type=str, default="runs", help="The folder of all runs.")
        parser.add_argument(
            "--threads",
            type=Literal["auto"] | PositiveInt,
            default="auto",
            help="CPU threads. auto: one where a batch is too small to share out, else all cores.",
        )
        parser.add_argument("--num_samples", type=PositiveInt, default=100, help="Images that predict draws.")
        parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def _parse_ckpt_path(self) -> None:
        """Not Lightning's, which silently replaces the configured model by the checkpoint's."""

    def instantiate_classes(self) -> None:
        """Builds everything and checks that it fits together, so that nothing fails once training has started."""
        precision = str(self._get(self.config, "trainer").precision)
        if precision in ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16"):
            fail(
                f"precision {precision} would round latents and energies; use bf16-mixed, which keeps them in float32."
            )
        if precision in ("16-mixed", "16") and not torch.cuda.is_available():
            fail(f"precision {precision} needs a CUDA device; use 32-true or bf16-mixed on this machine.")
        try:
            super().instantiate_classes()
        except (ValueError, FileNotFoundError, MisconfigurationException) as error:
            fail(innermost(error))
        threads = self._get(self.config_init, "threads")
        torch.set_num_threads(choose_threads(self.model, self.datamodule.batch_size) if threads == "auto" else threads)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Checks data and checkpoint, and adds what every run has: its directory, the alarms and one progress bar."""
        self.datamodule.prepare_data()
        self.datamodule.setup()
        self.model.check_images(self.datamodule.image_shape)
        ckpt_path = self._get(self.config_init, "ckpt_path")
        self.checkpoint = runs.read_checkpoint(ckpt_path, self.model) if ckpt_path else None
        trainer_config = self._get(self.config_init, "trainer")
        callbacks = trainer_config["callbacks"] = list(trainer_config["callbacks"] or [])
        if self.subcommand == "fit":
            name, parent = self._get(self.config_init, "name"), Path(self._get(self.config_init, "runs"))
            step = self.checkpoint["global_step"] if self.checkpoint else None
            self.run_directory = RunDirectory(parent / name, ckpt_path, step)
            callbacks[:0] = [self.run_directory, ZeroGradientAlarm(), EnergyAlarm()]
            if trainer_config["enable_progress_bar"] is not False:
                callbacks += [Progress()]
        elif self.subcommand == "predict":
            trainer_config["enable_progress_bar"] = False
        trainer = super().instantiate_trainer(**kwargs)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GenerationMetrics) and self.subcommand == "fit" and trainer.is_global_zero:
                callback.prepare(self.datamodule)
        return trainer

    # Each subcommand

    def before_fit(self) -> None:
        generator, energy = (sum(p.numel() for p in n.parameters()) for n in (self.model.generator, self.model.energy))
        say(
            f"{type(self.model.objective).__name__} on {len(self.datamodule.train_images)} images; generator "
            f"{generator:,} and energy {energy:,} parameters; {self.trainer.strategy.root_device}, "
            f"{torch.get_num_threads()} thread(s)"
        )

    def after_fit(self) -> None:
        if self.run_directory.path is not None:
            parent = self._get(self.config_init, "runs")
            say(f"Samples, metrics.csv and checkpoints are in {self.run_directory.path}; tensorboard --logdir {parent}")

    def predict(self, model: LatentEBM, datamodule: ImageDataModule, **kwargs: Any) -> None:
        """Draws samples and writes them as an array and a picture."""
        count = self._get(self.config_init, "num_samples")
        counters: Any = DataLoader(TensorDataset(torch.arange(count)), batch_size=100)
        batches: Any = self.trainer.predict(model, dataloaders=counters, ckpt_path=kwargs["ckpt_path"])
        samples = torch.cat(batches)
        parent = runs.run_of(kwargs["ckpt_path"]) or Path(self._get(self.config_init, "runs")) / "samples"
        folder = runs.claim(parent / "predict")
        runs.write_samples(samples, image_grid(samples[:100], 10), folder)
        say(f"{count} samples are in {folder}: samples.npy (N, C, H, W) in [-1, 1] and samples.png")


class SaveConfig(SaveConfigCallback):
    """Saves the whole config in the run's directory; a resumed run adds a file beside the first."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit" or trainer.log_dir is None:
            return
        earlier = len(list(Path(trainer.log_dir).glob("config*.yaml")))
        self.config_filename = f"config-resumed-{earlier}.yaml" if earlier else "config.yaml"
        self.overwrite = True
        super().setup(trainer, pl_module, stage)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """A checkpoint carries its config, so that it can be used without the rest of its run."""
        checkpoint["config"] = yaml.safe_load(self.parser.dump(self.config, skip_link_targets=False))


def choose_threads(model: LatentEBM, batch_size: int) -> int:
    """One thread where one pass of a batch through the generator is too small to be shared out, else all there are."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.generator(torch.zeros(1, model.generator.latent_dim))
    return 1 if counter.get_total_flops() * batch_size < _SMALL_BATCH_FLOPS else torch.get_num_threads()


def quieten() -> None:
    """Silences what Lightning says about things that are as they should be here, and shows warnings as one line."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for hint in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", hint)
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*", FutureWarning)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"


@rank_zero_only
def say(message: str) -> None:
    """Prints one line, once however many processes there are."""
    print(message, flush=True)


def fail(message: str) -> NoReturn:
    """Ends the program with one sentence and exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)
