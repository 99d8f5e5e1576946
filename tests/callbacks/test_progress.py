"""The progress bar."""

import io
import re
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from tqdm import tqdm

from thermoebm.callbacks import (
    GenerationMetrics,
    GradientVariance,
    IntegrandPlot,
    Progress,
    ReconstructionGrid,
    SampleGrid,
    progress,
)
from thermoebm.data import Digits
from thermoebm.runtime.progress import bar, measuring


class Clock:
    """Stands still, but for whom it is told to pass."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now))


def begun(steps: int, **trainer) -> Progress:
    """The callback in a training of so many steps, which have not begun."""
    defaults = {"callbacks": [], "enable_validation": False, "progress_bar_metrics": {}}
    training = {"is_global_zero": True, "estimated_stepping_batches": steps, "global_step": 0}
    callback = Progress()
    callback.on_train_start(SimpleNamespace(**(defaults | training | trainer)), None)
    callback._bar.mininterval = callback._bar.last_print_t = 0.0
    return callback


def step(callback: Progress, clock: Clock, seconds: float) -> None:
    trainer = SimpleNamespace(progress_bar_metrics={})
    callback.on_train_batch_start(trainer, None)
    clock.now += seconds
    callback.on_train_batch_end(trainer, None)


def test_the_time_left_is_that_of_steps_that_compile_nothing(monkeypatch, capsys):
    """Ten steps: the first two take a minute each to compile, the others two seconds."""
    clock, compiled = Clock(monkeypatch), [0]
    monkeypatch.setattr(progress, "compilations", lambda: compiled[0])
    callback, left = begun(10), []
    for number in range(10):
        compiled[0] += number < 2
        step(callback, clock, 60.0 if number < 2 else 2.0)
        left.append(callback._left(callback._bar.n))
    callback.on_train_end(None, None)
    assert left == [[], [], *([f"00:{2 * (9 - number):02} left"] for number in range(2, 10))]
    assert " left" not in capsys.readouterr().err.split("\r")[-1]


@pytest.mark.parametrize("compiles", [False, True])
def test_the_time_left_has_the_measurements_in_it_once_one_was_made(monkeypatch, compiles, capsys):
    """Four epochs of five steps of 1 s, each followed by a measurement of 20 s; the first may compile for 90 s more.

    The true time left is that of what remains of steps and measurements. Before the first measurement that compiled
    nothing it is the steps' alone, and says so.
    """
    clock, compiled = Clock(monkeypatch), [0]
    monkeypatch.setattr(progress, "compilations", lambda: compiled[0])
    callback = begun(20, enable_validation=True)
    for epoch in range(4):
        for number in range(1, 6):
            step(callback, clock, 1.0)
            done, known = 5 * epoch + number, epoch > compiles
            truth = 20 - done + 20 * (4 - epoch) * known
            if done > 1:
                told = f"{truth // 60:02}:{truth % 60:02} left" + " + measurements" * (not known)
                assert callback._left(done) == [told]
        with measuring(), bar(20, "distances", "image") as steps:
            for _ in range(20):
                clock.now += 1.0
                steps.update()
        if compiles and not epoch:
            clock.now, compiled[0] = clock.now + 90, compiled[0] + 1
    callback.on_train_end(None, None)


@pytest.mark.parametrize(("terminal", "times"), [(True, 41), (False, 1)])
def test_a_measurement_is_shown_as_often_as_steps_are(monkeypatch, terminal, times):
    """Of 640 reports in ten seconds: on a terminal the first and, here, four in a second; else one."""
    clock, err = Clock(monkeypatch), io.StringIO()
    monkeypatch.setattr(err, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stderr", err)
    callback = begun(10)
    callback._bar.mininterval, callback._bar.last_print_t = (0.25 if terminal else 10), clock.now
    before = len(err.getvalue())
    with measuring(), bar(640, "distances", "image") as steps:
        shown = err.getvalue()[before:]
        assert ("distances 0/640" in shown) == terminal
        for _ in range(640):
            clock.now += 1 / 64
            steps.update()
    assert err.getvalue()[before:].count("distances") == times
    assert ("distances 320/640, 00:05 left of it" in err.getvalue()) == terminal
    callback.on_train_end(None, None)


@pytest.fixture
def measured(small_model, monkeypatch, tmp_path, own_cache):
    """Trains for one epoch with everything that measures; the figures, which take long to draw, are black."""
    monkeypatch.chdir(tmp_path)
    for module in ("gradient_variance", "integrand"):
        monkeypatch.setattr(f"thermoebm.callbacks.{module}.figure_image", lambda figure: torch.zeros(3, 4, 4))
    return lambda *callbacks: train(small_model(), *callbacks)


def train(model, *callbacks):
    nothing_else = {"enable_checkpointing": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        limit_train_batches=2,
        limit_val_batches=2,
        log_every_n_steps=1,
        enable_progress_bar=bool(callbacks),
        callbacks=[
            *callbacks,
            GradientVariance(1, 4, 2, 2, splits=["train", "test"]),
            GenerationMetrics(1, 60, extractor="tests.extractors.Flat"),
            SampleGrid(1),
            ReconstructionGrid(1),
            IntegrandPlot(1),
        ],
        **nothing_else,
    )
    trainer.fit(model, datamodule=Digits(batch_size=20))


def test_all_that_is_measured_is_shown_in_the_bars_place(measured, monkeypatch):
    """On a terminal: no bar of the steps is drawn while something is measured; the closing line is one."""
    err = io.StringIO()
    monkeypatch.setattr(err, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", err)
    told, show = {}, Progress._show
    monkeypatch.setattr(Progress, "_show", lambda bar, *what: told.update({what[0]: what[1:]}) or show(bar, *what))
    measured(Progress())
    drawn = [line.strip() for line in re.split(r"[\r\n]+", err.getvalue()) if line.strip()]
    during = {found[1]: line for line in drawn if (found := re.search(r", ([^,\]]*) 0/\d+\]", line))}
    assert [*during] == [
        *("validation", "gradient variance", "gradient variance test", "samples", "features of samples"),
        *("features of real images", "Fréchet distance", "poly kernel distance", "rbf kernel distance"),
        *("picture of samples", "picture of reconstructions", "picture of integrand"),
    ]
    assert all("%" not in line and " left" not in line for line in during.values())
    steps = {title: done == total for title, (done, total) in told.items() if title in during}
    assert [title for title, all_told in steps.items() if not all_told] == [*during][-3:]  # a picture is one step
    assert "gradient variance 0/8" in during["gradient variance"]
    assert "100%" in drawn[-1]
    assert "left" not in drawn[-1]


def test_without_the_bar_nothing_is_shown_and_nothing_breaks(measured, monkeypatch):
    """A trainer of one's own, or a process that is not the first: no bar is made, not even one that would wait."""
    shown = []
    monkeypatch.setattr("thermoebm.runtime.progress.tqdm", lambda **bar: shown.append(bar["desc"]) or tqdm(**bar))
    measured()
    assert [title for title in shown if title] == []


def test_progress_ends_with_all_steps_and_the_last_loss(small_model, fit, capsys):
    """And a loss that is the one logged."""
    trainer = fit(small_model(), Progress(), max_epochs=2)
    last = re.split(r"[\r\n]+", capsys.readouterr().err.strip())[-1]
    assert " 4/4 " in last
    (loss,) = re.findall(r"loss=([-\d.e+]+)", last)
    assert float(loss) == pytest.approx(trainer.callback_metrics["train/loss"].item(), rel=1e-3)
