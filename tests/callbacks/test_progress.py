"""The progress bar."""

import re
from types import SimpleNamespace

import pytest

from thermoebm.callbacks import Progress, progress


def test_the_time_left_is_that_of_steps_that_compile_nothing(monkeypatch, capsys):
    """Ten steps: the first two take a minute each to compile, the others two seconds."""
    now, compiled = [0.0], [0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "compilations", lambda: compiled[0])
    trainer = SimpleNamespace(
        is_global_zero=True, estimated_stepping_batches=10, global_step=0, progress_bar_metrics={}
    )
    callback, left = Progress(), []
    callback.on_train_start(trainer, None)
    callback._bar.mininterval = 0.0
    for step in range(10):
        compiled[0] += step < 2
        now[0] += 60.0 if step < 2 else 2.0
        callback.on_train_batch_end(trainer, None)
        left.append(callback._left(callback._bar.n))
    callback.on_train_end(trainer, None)
    assert left == [[], [], *([f"00:{2 * (9 - step):02} left"] for step in range(2, 10))]


def test_progress_ends_with_all_steps_and_the_last_loss(small_model, fit, capsys):
    """And a loss that is the one logged."""
    trainer = fit(small_model(), Progress(), max_epochs=2)
    last = re.split(r"[\r\n]+", capsys.readouterr().err.strip())[-1]
    assert " 4/4 " in last
    (loss,) = re.findall(r"loss=([-\d.e+]+)", last)
    assert float(loss) == pytest.approx(trainer.callback_metrics["train/loss"].item(), rel=1e-3)
