"""EarlyStopping and ModelCheckpoint: what nothing logs is told before a run's directory exists, or when missed."""

import json
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from tests.cli.test_train import SHORT, assert_fault, cli
from thermoebm.callbacks import (
    AnnealedEvidence,
    BestCheckpoint,
    Cost,
    EnergyAlarm,
    GenerationMetrics,
    GradientVariance,
    PosteriorAlarm,
)
from thermoebm.cli import monitors
from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration

TINY = (*SHORT, "--trainer.limit_train_batches", 1, "--trainer.check_val_every_n_epoch", 1)
EVERYTHING = (
    *("--gradient_variance.every_n_epochs", 1, "--gradient_variance.num_batches", 4, "--gradient_variance.blocks", 2),
    *(
        "--gradient_variance.splits",
        "[train,test]",
        "--fidelity.every_n_epochs",
        1,
        "--fidelity.splits",
        "[train,test]",
    ),
    *("--fidelity.extractor", "pixels", "--fidelity.num_samples", 80, "--fidelity.sizes", "[40,60,80]"),
)


def callbacks(kind: str, **fields: Any) -> list[str]:
    return ["--trainer.callbacks", json.dumps([{"class_path": kind, "init_args": fields}])]


def test_what_is_logged_may_be_monitored_and_nothing_else_has_a_name(tmp_path):
    """The list of names is that of the metrics of a run that measures everything."""
    program, _ = cli("fit", *TINY, *EVERYTHING, *callbacks("LearningRateMonitor"), "--runs", tmp_path)
    trainer, stop = program.trainer, EarlyStopping("")
    trainer.callbacks.append(stop)
    metrics = set(trainer.callback_metrics)
    for stop.monitor in metrics:
        monitors.check(trainer, program.model)
    listed, off = monitors._logged(trainer, program.model)
    assert off == {}
    for name in listed:
        assert name in metrics or (name[-1] in "/-" and any(found.startswith(name) for found in metrics)), name


def run(*looking: Any, **fields: Any) -> Any:
    """The part of a trainer that is read: by default everything but the two measurements is on."""
    measuring = [GradientVariance(every_n_epochs=0), GenerationMetrics(every_n_epochs=0)]
    defaults = {"limit_val_batches": 1.0, "check_val_every_n_epoch": 1, "max_epochs": 3, "current_epoch": 0}
    fields = {**defaults, "callbacks": [*measuring, Cost(), EnergyAlarm(), PosteriorAlarm()], **fields}
    return SimpleNamespace(**fields | {"callbacks": [*fields["callbacks"], *looking]})


@pytest.mark.parametrize("objective", [MaximumLikelihood(), ThermodynamicIntegration(evidence_every=10)])
def test_the_ladder_has_names_where_the_objective_samples_one(small_model, objective):
    model = small_model(objective=objective)
    output = objective(model, torch.zeros(4, 1, 8, 8), model.stream("training", 0), step=0)
    listed, _ = monitors._logged(run(), model)
    chains = {f"chains/{name}" for name in model.chains.by_rung()}
    expected = {f"train/{name}" for name in ("loss", *output.diagnostics, *output.ladder, *chains)}
    assert {name for name in listed if name.startswith("train/")} == expected


ALWAYS = (
    EarlyStopping("gradient_variance/across_parameters/both"),
    EarlyStopping("gradient_variance/running_noise_scale/energy"),
    EarlyStopping("train/nll"),
    ModelCheckpoint(monitor="step", mode="max", filename="{epoch}-{step}-{val/left_sum:.1f}"),
    ModelCheckpoint(monitor="epoch", mode="max"),
    ModelCheckpoint(filename="every"),
)
REFUSED = (
    (EarlyStopping("evidence"), {}, "EarlyStopping's monitor is evidence, .* is val/short_run_evidence."),
    (EarlyStopping("val/evidence"), {}, "is val/evidence, which nothing logs; .* is val/short_run_evidence."),
    (ModelCheckpoint(monitor="val/nll"), {}, "is val/nll, which nothing logs; .* is val/short_run_nll."),
    (ModelCheckpoint(filename="{val/nll:.1f}"), {}, "is val/nll, which nothing logs; .* is val/short_run_nll."),
    (EarlyStopping("step"), {}, "EarlyStopping's monitor is step, which nothing logs"),
    (ModelCheckpoint(monitor="prior/tilt"), {}, "ModelCheckpoint's monitor is prior/tilt, .* is prior/energy_tilt."),
    (
        ModelCheckpoint(filename="{epoch}-{val/los:.2f}"),
        {},
        "a name in ModelCheckpoint's filename is val/los, .*/loss.",
    ),
    (EarlyStopping("gradient_variance/acros/both"), {}, r"name is gradient_variance/across_parameters/\.\.\.\."),
    (EarlyStopping("gradient_variance/per_parameter/x"), {}, "measure: gradient_variance.every_n_epochs is 0."),
    (EarlyStopping("gradient_mean/test/across_parameters/x"), {}, "measure: gradient_variance.every_n_epochs is 0."),
    (
        EarlyStopping("fidelity/test/KD_inf"),
        {"callbacks": [GenerationMetrics(every_n_epochs=1)]},
        "which this run does not measure: fidelity.splits is without test.",
    ),
    (EarlyStopping("val/loss"), {"limit_val_batches": 0}, "not measure: trainer.limit_val_batches is 0."),
    (
        ModelCheckpoint(monitor="val/loss"),
        {"check_val_every_n_epoch": 4},
        "not measure: trainer.check_val_every_n_epoch is 4 and trainer.max_epochs 3.",
    ),
    (EarlyStopping("lr-Adam"), {}, "nothing logs"),
    (BestCheckpoint("val/los"), {}, "best.monitor is val/los, which nothing logs; the nearest name is val/loss."),
    (BestCheckpoint("val/evidence"), {"callbacks": [AnnealedEvidence(every_n_epochs=0)]}, "which nothing logs"),
)


@pytest.mark.parametrize("looking", ALWAYS, ids=lambda looking: str(looking.monitor))
def test_what_is_always_there_may_be_monitored(small_model, looking):
    monitors.check(run(looking), small_model(objective=ThermodynamicIntegration()))


@pytest.mark.parametrize(("looking", "fields", "said"), REFUSED)
def test_what_nothing_logs_is_refused_with_the_nearest_name_or_what_turns_it_on(small_model, looking, fields, said):
    model = small_model()
    with pytest.raises(ValueError, match=said):
        monitors.check(run(looking, **fields), model)


def test_an_objective_without_a_ladder_logs_no_evidence_of_training(small_model):
    with pytest.raises(ValueError, match="train/nll, which nothing logs"):
        monitors.check(run(EarlyStopping("train/nll")), small_model(objective=MaximumLikelihood()))


class Logs(pl.Callback):
    """Logs a metric of its own."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("mine", 1.0)


class MyObjective(MaximumLikelihood):
    """Might log anything."""


def test_the_best_is_looked_for_among_what_is_logged(small_model):
    """The default and no monitor at all need nothing."""
    for best in (BestCheckpoint("val/evidence", "max"), BestCheckpoint("fidelity/train/x")):
        monitors.check(run(best, AnnealedEvidence(), GenerationMetrics(every_n_epochs=1)), small_model())
    for best in (BestCheckpoint(), BestCheckpoint(None)):
        monitors.check(run(best, limit_val_batches=0), small_model())


def test_others_may_log_anything(small_model):
    monitors.check(run(EarlyStopping("mine"), Logs()), small_model())
    monitors.check(run(EarlyStopping("mine")), small_model(objective=MyObjective()))
    monitors.check(run(EarlyStopping("lr-Adam"), LearningRateMonitor()), small_model())


def test_the_command_line_refuses_before_anything_is_written(tmp_path, capsys):
    said = "EarlyStopping's monitor is val/los, which nothing logs; the nearest name is val/loss."
    assert_fault(capsys, tmp_path / "runs", said, "fit", *TINY, *callbacks("EarlyStopping", monitor="val/los"))


def test_a_monitor_found_missing_ends_the_run_in_a_sentence_and_keeps_its_files(tmp_path, capsys):
    given = [{"class_path": f"{__name__}.Logs"}, {"class_path": "EarlyStopping", "init_args": {"monitor": "mien"}}]
    with pytest.raises(SystemExit, match=r"^2$"):
        cli("fit", *TINY, "--trainer.callbacks", json.dumps(given), "--runs", tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: EarlyStopping's monitor is mien, which nothing had logged when it was looked for in")
    assert "epoch 1; the nearest name is mine. strict: false waits" in line
    assert (tmp_path / "digits" / "0" / "config.yaml").is_file()


def test_only_the_error_of_a_callback_that_missed_its_metric_is_told_so():
    looking = ModelCheckpoint(monitor="cost/secnds")
    missed = MisconfigurationException("`ModelCheckpoint(monitor='cost/secnds')` could not find the monitored key")
    trainer = run(looking, callback_metrics={"cost/seconds": 1.0, "val/loss": 2.0})
    told = monitors.missed(missed, trainer)
    assert told.startswith("ModelCheckpoint's monitor is cost/secnds, which nothing had logged")
    assert "the nearest name is cost/seconds. every_n_epochs and save_on_train_epoch_end" in told
    assert monitors.missed(RuntimeError("CUDA error"), trainer) is None
    trainer.callback_metrics["cost/secnds"] = 1.0
    assert monitors.missed(missed, trainer) is None
