"""The command line: ``train.py fit | validate | test | predict`` on LightningCLI."""

import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, TensorDataset

from thermoebm.callbacks import (
    Companions,
    Cost,
    EnergyAlarm,
    HParams,
    Interruption,
    LastCheckpoint,
    NotFiniteAlarm,
    ParameterAlarm,
    PosteriorAlarm,
    Progress,
    RunDirectory,
    TriangleAlarm,
    ZeroGradientAlarm,
    lost_in,
)
from thermoebm.callbacks.of_kind import OfKind
from thermoebm.callbacks.pictures import image_grid
from thermoebm.cli import monitors, overlays
from thermoebm.cli.config import ConfigParser, SaveConfig, short
from thermoebm.cli.given import without_effect
from thermoebm.cli.options import add_options
from thermoebm.data import ImageDataModule
from thermoebm.modules import VAE, ImageModel, LatentEBM
from thermoebm.runs import checkpoints, directories
from thermoebm.runs.finding import find_checkpoint
from thermoebm.runs.patient_io import PatientIO
from thermoebm.runtime import class_paths, patience, signals
from thermoebm.runtime.allocator import keep_freed_memory
from thermoebm.runtime.cost import choose_precision, choose_threads
from thermoebm.runtime.heartbeat import connection_lost
from thermoebm.runtime.terminal import fail, outliving_readers, quieten, reason, say, tensorboard_command


class CLI(LightningCLI):
    """LightningCLI with run directories that never collide, and faults reported in one sentence before training."""

    def __init__(self, args: Any = None) -> None:
        quieten()
        keep_freed_memory()
        class_paths.look_here()
        ConfigParser.given = [str(argument) for argument in (sys.argv[1:] if args is None else args)]
        with signals.listening(), outliving_readers():
            super().__init__(
                ImageModel,
                ImageDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                parser_class=ConfigParser,
                save_config_callback=SaveConfig,
                seed_everything_default=0,
                trainer_defaults={"inference_mode": False, "logger": False, "enable_model_summary": False},
                auto_configure_optimizers=False,
                args=args,
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_options(parser)

    def _parse_ckpt_path(self) -> None:
        """Does nothing: Lightning's version silently replaces the configured model by the checkpoint's."""

    def instantiate_classes(self) -> None:
        """Builds everything and checks that it fits together, so that nothing fails once training has started."""
        precision = str(self._get(self.config, "trainer").precision)
        if precision in ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16"):
            fail(
                f"precision {precision} would round latents and energies; use bf16-mixed, which keeps them in float32."
            )
        if told := without_effect(ConfigParser.given):
            fail(told)
        trainer = self._get(self.config, "trainer")
        if trainer.gradient_clip_val is not None or trainer.accumulate_grad_batches != 1:
            fail("gradient_clip_val and accumulate_grad_batches do not apply: the model takes its own optimiser steps.")
        if precision in ("16-mixed", "16") and (trainer.accelerator == "cpu" or not torch.cuda.is_available()):
            fail(f"precision {precision} needs a CUDA device; use 32-true or bf16-mixed on this machine.")
        threads = self._get(self.config, "threads")
        if threads != "auto" and threads < 1:
            fail(f"threads is {threads}; give auto or a number of at least 1.")
        try:
            given = self.config.get(self.subcommand, self.config) if self.subcommand else self.config
            given.variant = overlays.variant(given.config or [], given.variant, short(given.as_dict()))
            if self.subcommand == "fit" and given.resume == "auto" and not given.get("ckpt_path"):
                self._dump_config()
                given.ckpt_path = checkpoints.newest_of(self._parent(given), self.config_dump)
            if given.get("ckpt_path"):
                given.ckpt_path = str(find_checkpoint(given.ckpt_path, given.which))
            super().instantiate_classes()
        except (ValueError, FileNotFoundError, MisconfigurationException) as error:
            fail(reason(error))
        if threads == "auto":
            threads = choose_threads(self.datamodule.batch_size * self.model.image_flops())
        torch.set_num_threads(threads)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Checks data and checkpoint, and adds the callbacks of every run: directory, alarms, cost, progress bar."""
        self.datamodule.prepare_data()
        self.datamodule.setup()
        self.model.check_images(self.datamodule.image_shape)
        ckpt_path = self._get(self.config_init, "ckpt_path")
        self._dump_config()
        resumes = self.subcommand == "fit"
        checkpoint = checkpoints.read_checkpoint(ckpt_path, self.model, resumes) if ckpt_path else None
        if checkpoint:
            checkpoints.check_density(checkpoint, self.config_dump)
        trainer_config = self._get(self.config_init, "trainer")
        if trainer_config["precision"] is None:
            trainer_config["precision"] = choose_precision(trainer_config["accelerator"])
        if trainer_config["num_sanity_val_steps"] is None:  # faults are found before; it would only come before a step
            trainer_config["num_sanity_val_steps"] = 0
        wanted = trainer_config["callbacks"] or []  # Lightning also takes one that is in no list
        callbacks = trainer_config["callbacks"] = [wanted] if isinstance(wanted, pl.Callback) else list(wanted)
        self.best = self._get(self.config_init, "best")
        if trainer_config["enable_checkpointing"] is not False:
            callbacks.append(self.best)  # before LastCheckpoint; a checkpoint has its state, whatever is done with it
        if self.subcommand == "fit":
            parent = self._parent(self.config_init.get("fit", self.config_init))
            directories.check_writable(parent)
            continued, step, origin = None, None, None
            if checkpoint:
                step, trained = checkpoint["global_step"], checkpoints.epochs_trained(checkpoint)
                if 0 <= (trainer_config["max_epochs"] or 1000) <= trained:
                    raise ValueError(f"{ckpt_path} has trained {trained} epochs already; raise --trainer.max_epochs.")
                if checkpoints.continues(checkpoint, self.config_dump):
                    continued = directories.run_of(ckpt_path, lambda p: checkpoints.is_valid(p, self.model, resumes))
                within = f"step {step} after " * (checkpoint["epoch"] >= trained)
                origin = f"{within}epoch {trained} of {ckpt_path}"
            again = bool(checkpoint and checkpoint.get(checkpoints.MEASURES_AGAIN))
            self.run_directory = RunDirectory(parent, continued, step, origin, again)
            # A runaway is judged before anything else is measured: they then see the state that checkpoints keep.
            runaway = self._alarm()
            broken = [] if runaway.on_runaway == "rollback" else [NotFiniteAlarm()]
            alarms = [*broken, runaway, ZeroGradientAlarm()]
            alarms += [PosteriorAlarm()] if isinstance(self.model, LatentEBM) else []
            callbacks[:0] = [self.run_directory, Interruption(), Companions(), *alarms]
            self.cost = Cost()
            callbacks += [self.cost, HParams(self.config_dump)]
            if trainer_config["enable_checkpointing"] is not False:
                callbacks += [LastCheckpoint()]
            if trainer_config["enable_progress_bar"] is not False:
                callbacks += [Progress()]
        else:
            trainer_config["enable_progress_bar"], trainer_config["devices"] = False, 1
            callbacks.append(self._alarm())  # likewise
            if not ckpt_path:
                rank_zero_warn(f"{self.subcommand} without --ckpt_path uses an untrained model.")
        trainer = super().instantiate_trainer(**kwargs)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, OfKind):
                callback.check(self.model)
        for batch in self.datamodule.batch_sizes(trainer.world_size):
            self.model.check_batch(batch)
        if self.subcommand == "fit":
            trainer.strategy.checkpoint_io = PatientIO(trainer.strategy.checkpoint_io)
            self.datamodule.check_shares(trainer.world_size)
            monitors.check(trainer, self.model)
        # Cost comes after all but the checkpoints, so that it includes what the others measure at an epoch's end.
        added = trainer.callbacks  # type: ignore[attr-defined]
        added.sort(key=lambda callback: isinstance(callback, Cost | Checkpoint))
        fidelity = self._get(self.config_init, "fidelity")
        if self.subcommand == "fit" and trainer.is_global_zero and fidelity.every_n_epochs:
            fidelity.prepare(self.datamodule)
        return trainer

    def _alarm(self) -> EnergyAlarm:
        """The alarm for a runaway, of the kind of the model."""
        alarm: EnergyAlarm = self._get(self.config_init, "runaway")
        if isinstance(self.model, LatentEBM):
            return alarm
        return (TriangleAlarm if isinstance(self.model, VAE) else ParameterAlarm).like(alarm)

    # Subcommands

    def before_fit(self) -> None:
        networks = sorted(self.model.networks().items(), key=lambda item: item[0] != "generator")  # which comes first
        *sizes, last = [f"{name} {sum(p.numel() for p in network.parameters()):,}" for name, network in networks]
        notes = f" ({', '.join(self.model.notes())})" if self.model.notes() else ""
        say(
            f"{self.model.title()}{notes} on {len(self.datamodule.train_images)} images; "
            f"{', '.join(sizes)}{' and ' * bool(sizes)}{last} parameters; {self.trainer.strategy.root_device}, "
            f"{self.trainer.precision}, {torch.get_num_threads()} thread(s)"
        )

    def fit(self, model: ImageModel, **kwargs: Any) -> None:
        """Trains; what the trainer refuses, a breakdown, or too little memory or disk, is reported in one sentence."""
        kept = "Checkpoints of completed epochs are kept."
        try:
            patient = patience.waiting(self._get(self.config_init, "disk_patience"))
            with signals.deferred(together=self.trainer.world_size > 1), patient:
                self.trainer.fit(model, **kwargs)
        except FloatingPointError as error:
            if not self.trainer.is_global_zero:  # all processes end so
                raise SystemExit(2) from None
            fail(str(error))
        except signals.Ended as ended:
            last = self.run_directory.path and self.run_directory.path / "checkpoints" / "last.ckpt"
            resume = f"go on with --ckpt_path {last}" if last and last.is_file() else "no step was completed"
            say(f"Ended by {ended.signal.name} in epoch {self.trainer.current_epoch + 1}; {resume}")
            ended.told = True
            raise
        except torch.OutOfMemoryError as error:
            less = "fewer features or --model.temperature_chunk 1" if isinstance(model, LatentEBM) else "fewer features"
            first, *_ = str(error).splitlines()
            fail(f"the device has too little memory ({first}): take a smaller data.batch_size or {less}. {kept}")
        except (MisconfigurationException, ValueError, OSError, RuntimeError) as error:
            if self.trainer.world_size > 1 and connection_lost(error):
                fail(lost_in(self.trainer))
            if told := monitors.missed(error, self.trainer):
                fail(f"{told} {kept}")
            if self.run_directory.path is None and not isinstance(error, RuntimeError):
                fail(reason(error))
            if isinstance(error, OSError) and error.strerror:  # the machine's fault, not the program's
                fail(f"{reason(error)} {kept}")
            raise

    def _parent(self, config: Any) -> Path:
        """The folder of the runs with this config's name and variant."""
        return Path(config.runs) / "-".join(filter(None, (config.name, config.variant)))

    def after_fit(self) -> None:
        if cost := self.cost.summary():
            say(cost)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            # should_stop: not the stop of an earlier run, whose state a resumed run has.
            if isinstance(callback, EarlyStopping) and self.trainer.should_stop and callback.stopping_reason_message:
                why = callback.stopping_reason_message.removesuffix(" Signaling Trainer to stop.")
                say(f"Stopped after epoch {callback.stopped_epoch + 1}: {why[0].lower()}{why[1:]}")
        if self.run_directory.path is not None:
            path = self.run_directory.path
            if self.best in self.trainer.callbacks and (told := self.best.summary()):  # type: ignore[attr-defined]
                say(told)
            say(f"{path} has {directories.contents(path)}; {tensorboard_command(path.parent.parent)}")

    def predict(self, model: ImageModel, datamodule: ImageDataModule, **kwargs: Any) -> None:
        """Draws samples and writes them as an array and a picture."""
        count = self._get(self.config_init, "num_samples")
        counters: Any = DataLoader(TensorDataset(torch.arange(count)), batch_size=100)
        batches: Any = self.trainer.predict(model, dataloaders=counters, ckpt_path=kwargs["ckpt_path"])
        samples = torch.cat(batches)
        parent = directories.home_of(kwargs["ckpt_path"]) or Path(self._get(self.config_init, "runs")) / "samples"
        folder = directories.claim(parent / "predict")
        directories.write_samples(samples, image_grid(samples[:100], 10), folder)
        say(f"{count} samples are in {folder}: samples.npy (N, C, H, W) and samples.png")
