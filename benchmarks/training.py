"""A whole training step, as in train.py: its time, the share of each phase, and its peak memory."""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from benchmarks.measure import Group, Settings, figure, synchronise
from benchmarks.measure import precision as products_in
from benchmarks.memory import peak
from benchmarks.models import BATCH, NETWORKS, OBJECTIVES, SCHEDULE, Networks, build, images, objective
from thermoebm.data.base import ImageDataModule, Split
from thermoebm.modules import LatentEBM
from thermoebm.runtime.cost import choose_threads
from thermoebm.runtime.terminal import quieten
from thermoebm.runtime.threads import threads

PHASES = ("sampling", "backward", "optimiser", "logging", "loading")


class Noise(ImageDataModule):
    """Noise images of any shape, loaded like those of a real data set."""

    def __init__(self, networks: Networks, batches: int, batch: int) -> None:
        super().__init__(batch_size=batch)
        self.shape = (batches * batch, *networks.image_shape)

    def read(self) -> tuple[Split, Split]:
        pictures = torch.randint(0, 256, self.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return Split(pictures, None), Split(pictures[:1], None)


class StepTimes(pl.Callback):
    """Times a step, from the start of one to the start of the next, and the share of each phase in it.

    Args:
        seconds: How long to train.
        block: Number of steps that are timed as one. There is no synchronisation between them, so that work that
            training overlaps stays overlapped.
        phases: Time the phases too, which on CUDA takes a synchronisation at each of their ends.
    """

    def __init__(self, seconds: float, block: int, phases: bool) -> None:
        self.seconds, self.block, self.phases = seconds, block, phases
        self.steps: list[float] = []
        self.shares: list[dict[str, float]] = []
        self.spent = dict.fromkeys(PHASES, 0.0)
        self.inside = False
        self.count = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.device, self.began = pl_module.device, time.perf_counter()
        if not self.phases:
            return
        for phase, names in (
            ("sampling", ("sample_prior", "sample_posterior")),
            ("backward", ("manual_backward",)),
            ("logging", ("log", "log_dict")),
        ):
            for name in names:
                setattr(pl_module, name, self._timed(phase, getattr(pl_module, name)))
        (optimizer,) = trainer.optimizers
        optimizer.register_step_pre_hook(lambda *_: self._begin())
        optimizer.register_step_post_hook(lambda *_: self._end("optimiser"))

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.count % self.block == 0 or self.phases:
            synchronise(self.device)
            now = time.perf_counter()
            if self.count > max(self.block, 3 if self.device.type == "cuda" else 1):  # past compilation and recording
                self._finish(now, trainer)
            self.start = now
            self.spent = dict.fromkeys(PHASES, 0.0)
        self.count += 1

    def on_train_batch_end(self, *_: Any) -> None:
        if self.phases:
            synchronise(self.device)
        self.ended = time.perf_counter()

    def _finish(self, now: float, trainer: pl.Trainer) -> None:
        took = (now - self.start) / (1 if self.phases else self.block)
        self.steps.append(took)
        self.spent["loading"] = now - self.ended
        self.shares.append({phase: spent / took for phase, spent in self.spent.items()})
        if len(self.steps) >= 3 and now - self.began > self.seconds:
            trainer.should_stop = True

    def _begin(self) -> None:
        synchronise(self.device)
        self.phase_began = time.perf_counter()

    def _end(self, phase: str) -> None:
        synchronise(self.device)
        self.spent[phase] += time.perf_counter() - self.phase_began

    def _timed(self, phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **fields: Any) -> Any:
            if self.inside:  # a nested phase counts towards the outer one
                return work(*arguments, **fields)
            self.inside = True
            self._begin()
            try:
                return work(*arguments, **fields)
            finally:
                self._end(phase)
                self.inside = False

        return timed


def training(settings: Settings) -> Iterator[Group]:
    """Each objective and estimator, with the report's chains."""
    quieten()
    batch = 4 if settings.quick else BATCH
    kinds = ("endpoints", "pathwise") if settings.quick else OBJECTIVES
    for name in settings.networks:
        for p in settings.precisions[:1] if settings.quick else settings.precisions:
            # The trainer leaves TF32 at torch's default, which uses it in convolutions only.
            with products_in("float32" if p == "bfloat16" else p, settings.device):
                rows = [_measured(name, kind, p, batch, settings) for kind in kinds]
            model = _model(name, "endpoints", batch, settings)
            steps = {"prior_steps": model.prior_sampler.num_steps, "posterior_steps": model.posterior_sampler.num_steps}
            facts = {"temperatures": len(SCHEDULE.temperatures()), **steps, "batch": batch, "precision": p}
            yield Group("training", f"{name}, {p}", facts, rows)


def _measured(name: str, kind: str, precision: str, batch: int, settings: Settings) -> dict[str, Any]:
    """Runs two short trainings on CUDA: undisturbed for the time, and with synchronised phases for the shares."""
    torch.compiler.reset()  # versions of a function for earlier models count towards its limit
    cuda = settings.device.type == "cuda"
    undisturbed = _fit(name, kind, precision, batch, settings, phases=False) if cuda else None
    watch = _fit(name, kind, precision, batch, settings, phases=True)
    shares = {phase: figure([share[phase] for share in watch.shares]) for phase in PHASES}
    rest = figure([1 - sum(share.values()) for share in watch.shares])
    outside = figure([1 - share["sampling"] for share in watch.shares])
    return {
        "objective": kind,
        "ms": figure([1e3 * seconds for seconds in (undisturbed or watch).steps]),
        **shares,
        "rest": rest,
        "outside_sampling": outside,
        "peak_bytes": _peak(name, kind, precision, batch, settings),
    }


def _fit(name: str, kind: str, precision: str, batch: int, settings: Settings, *, phases: bool) -> StepTimes:
    model = _model(name, kind, batch, settings)
    data = Noise(NETWORKS[name], 3 if settings.quick else 40, batch)
    watch = StepTimes(settings.effort.seconds, 1 if phases else 10, phases)
    with tempfile.TemporaryDirectory() as folder, threads(choose_threads(batch * model.chains.generator_flops)):
        trainer = pl.Trainer(
            accelerator="gpu" if settings.device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if precision == "bfloat16" else "32-true",
            max_epochs=10**6,
            limit_val_batches=0,
            logger=CSVLogger(folder),
            log_every_n_steps=1 if phases else 50,  # a logged step waits for the GPU
            callbacks=[watch],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=data)
    recorder = model.chains.recorder
    if settings.device.type == "cuda" and model.chains.compile == "auto" and recorder.calls > recorder.replays == 0:
        raise RuntimeError(f"{kind}: graphs were asked for and did not run")
    return watch


def _model(name: str, kind: str, batch: int, settings: Settings) -> LatentEBM:
    temperatures = SCHEDULE.num_temperatures
    model = build(NETWORKS[name], settings.device, objective=objective(kind, temperatures), batch=batch)
    model.chains.compile = "off" if settings.ways == ("eager",) else "auto"
    if settings.quick:
        model.prior_sampler.num_steps = model.posterior_sampler.num_steps = 2
    return model


def _peak(name: str, kind: str, precision: str, batch: int, settings: Settings) -> int:
    """Peak memory of one loss and its gradient, with uncompiled sampling."""
    model = _model(name, kind, batch, settings)
    x = images(NETWORKS[name], settings.device, batch)
    model.chains.compile = "off"
    return peak(partial(_gradient, model, x, precision, settings.device), settings.device)


def _gradient(model: LatentEBM, x: Tensor, precision: str, device: torch.device) -> None:
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        loss = model.objective(model, x, model.stream("benchmark")).loss
    loss.backward()
