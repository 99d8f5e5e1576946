"""Time is told by phase: each where it was spent, all together what has passed."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler
from torch.utils.data import DataLoader

from thermoebm.callbacks import Cost
from thermoebm.callbacks.phases import MEASURING, TRAINING, Phases
from thermoebm.objectives import MaximumLikelihood
from thermoebm.runs.loggers import MetricsCSV

NAP, STEPS = 0.1, 3  # seconds, batches of an epoch


class Clock:
    """Stands still while a program works, so that no other program can be taken for it: only naps take time.

    Each look takes a tenth of a microsecond, so that no phase is without any.
    """

    now = 0.0

    @classmethod
    def perf_counter(cls) -> float:
        cls.now += 1e-7
        return cls.now


def nap(takes_place: bool = True) -> None:
    Clock.now += NAP * takes_place


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thermoebm.callbacks.phases.time", Clock)


class Slow(MaximumLikelihood):
    """Sleeps while it samples, or while its loss goes back."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __call__(self, model: Any, x: torch.Tensor, rng: torch.Generator, *, step: int | None = 0) -> Any:
        output = super().__call__(model, x, rng, step=step)
        if self.where == "sampling" and model.training:
            nap()
        if self.where == "backward" and model.training:
            output.loss.register_hook(lambda gradient: nap())
        return output


class SlowCallback(pl.Callback):
    """Sleeps in a hook, or in the optimiser's own step; notes when epochs ended, being called after Cost."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.ends: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.where == "optimizer":
            trainer.optimizers[0].register_step_pre_hook(lambda *_: nap())

    def on_train_batch_start(self, *args: Any) -> None:
        self._nap("on_train_batch_start")

    def on_before_backward(self, *args: Any) -> None:
        self._nap("on_before_backward")

    def on_before_optimizer_step(self, *args: Any) -> None:
        self._nap("on_before_optimizer_step")

    def on_train_batch_end(self, *args: Any) -> None:
        self._nap("on_train_batch_end")

    def on_train_epoch_end(self, *args: Any) -> None:
        self.ends.append(Clock.now)
        self._nap("on_train_epoch_end")

    def _nap(self, hook: str) -> None:
        if self.where == hook:
            nap()


class SlowLogger(MetricsCSV):
    """Sleeps when a step is logged."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        if "train/loss" in metrics:
            nap()


class SlowLoader(DataLoader[Any]):
    """Sleeps when an epoch begins, as one does that starts workers."""

    def __iter__(self) -> Any:
        nap()
        return super().__iter__()


def train(folder: Path, model: Any, where: str, **fields: Any) -> tuple[pl.Trainer, SlowCallback]:
    """Two epochs that sleep somewhere."""

    def collate(images: list[torch.Tensor]) -> torch.Tensor:
        if where == "loading":
            nap()
        return torch.stack(images)

    def evaluate(batch: torch.Tensor, batch_idx: int) -> None:
        nap(where == "validation")

    model.objective, model.validation_step = Slow(where), evaluate
    model.on_after_backward = lambda: nap(where == "clipping")
    model._decay_learning_rates = lambda each: nap(where == "decay" and each == "step")
    slow = SlowCallback(where)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=(SlowLogger if where == "logging" else MetricsCSV)(folder),
        callbacks=[Cost(), slow],
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        max_epochs=2,
        **fields,
    )
    images = torch.zeros(STEPS * 2, 1, 8, 8)
    held_out: Any = DataLoader(images[:STEPS])
    loader: Any = SlowLoader if where == "workers" else DataLoader
    trainer.fit(model, loader(images, batch_size=2, collate_fn=collate), held_out)
    return trainer, slow


PLACES = {
    "loading": "seconds/loading",
    "workers": "seconds/loading",
    "sampling": "seconds/sampling",
    "backward": "seconds/backward",
    "optimizer": "seconds/optimizer",
    "clipping": "seconds/rest",
    "decay": "seconds/rest",
    "logging": "seconds/rest",
    "validation": "seconds_measuring",
    "on_train_batch_start": "seconds_measuring",
    "on_before_backward": "seconds_measuring",
    "on_before_optimizer_step": "seconds_measuring",
    "on_train_batch_end": "seconds_measuring",
    "on_train_epoch_end": "seconds_measuring",
}


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("where", PLACES)
def test_time_is_told_where_it_was_spent(small_model, tmp_path, where):
    """The second epoch, in which nothing happens for the first time: its naps in one phase, and its whole length."""
    _, slow = train(tmp_path, small_model(), where)
    table = pd.read_csv(tmp_path / "metrics.csv").filter(regex="^cost/seconds(?:/.*|_measuring)?$")
    spent = table.dropna().iloc[1]
    slept = NAP * (1 if where in ("workers", "on_train_epoch_end") else STEPS)
    slowest = spent.drop("cost/seconds").idxmax()
    assert slowest == f"cost/{PLACES[where]}"
    assert spent[slowest] == pytest.approx(slept, abs=1e-4)
    assert spent.drop("cost/seconds").drop(slowest).sum() < 1e-4
    parts = spent[[f"cost/seconds/{phase}" for phase in TRAINING]].sum()
    assert spent["cost/seconds"] == pytest.approx(parts, rel=1e-5)
    first, second = slow.ends
    passed = second - first
    assert spent["cost/seconds"] + spent["cost/seconds_measuring"] == pytest.approx(passed, abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("fault", [False, True])
def test_the_users_profiler_hears_everything_and_is_put_back(small_model, tmp_path, fault):
    profiler = SimpleProfiler(dirpath=tmp_path, filename="times")
    model = small_model()
    if fault:
        model.on_train_epoch_end = lambda: 1 / 0
        with pytest.raises(ZeroDivisionError):
            train(tmp_path, model, "nowhere", profiler=profiler)
    else:
        assert train(tmp_path, model, "nowhere", profiler=profiler)[0].profiler is profiler
    assert len(profiler.recorded_durations["optimizer_step"]) == (STEPS if fault else 2 * STEPS)
    assert not profiler.current_actions


class Event:
    """A CUDA event whose device works at a tenth of the speed that its host announces; counts who waits."""

    waited = clock = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.clock += 0.5
        self.at = Event.clock

    def synchronize(self) -> None:
        Event.waited += 1

    def elapsed_time(self, end: "Event") -> float:
        assert Event.waited  # not ready before
        return 1000 * (end.at - self.at)


def test_on_cuda_only_the_end_of_an_epoch_waits_for_the_device(monkeypatch):
    """Half a second from each event to the next: phases of two steps, and nothing waited for before they are taken."""
    monkeypatch.setattr(torch.cuda, "Event", Event)
    phases = Phases(PassThroughProfiler(), torch.device("cuda"))
    for _ in range(2):
        phases.start("[_TrainingEpochLoop].train_dataloader_next")
        phases.start("[Strategy]SingleDeviceStrategy.training_step")
        phases.start("[Callback]Cost.on_before_backward")
        phases.start("[Callback]Progress.on_before_backward")
        phases.start("[LightningModule]LatentEBM.on_before_backward")
    assert Event.waited == 0
    expected = {"loading": 1.0, "sampling": 1.0, "backward": 1.0, MEASURING: 1.5, "optimizer": 0.0, "rest": 0.0}
    assert phases.take() == expected
    assert Event.waited == 1
    assert phases.take() == dict.fromkeys(expected, 0.0) | {"backward": 0.5}
