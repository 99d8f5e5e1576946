"""The command line: overlays, threads, closing lines, and what does not need it."""

import contextlib

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from tests.cli.test_train import ROOT, SHORT, assert_fault, cli
from thermoebm.data import Digits
from thermoebm.networks import ConvGenerator
from thermoebm.runtime.cost import choose_precision, choose_threads


@pytest.mark.parametrize(
    ("overlay", "objective"),
    [
        (None, "ThermodynamicIntegration(estimator='endpoints', "),
        ("mle", "MaximumLikelihood("),
        ("ti", "ThermodynamicIntegration(estimator='contrastive', "),
    ],
)
def test_overlays_switch_the_objective_and_a_dev_run_leaves_nothing(tmp_path, overlay, objective):
    more = ["--config", ROOT / "configs" / f"{overlay}.yaml"] if overlay else []
    with contextlib.chdir(tmp_path):
        program, _ = cli("fit", *SHORT, *more, "--trainer.fast_dev_run", "true", "--seed_everything", 3)
    assert repr(program.model.objective).startswith(objective)
    assert (program.config.fit.name, program.config.fit.variant) == ("digits", overlay)
    assert (program.model.seed, program.datamodule.seed) == (3, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_variant_has_a_folder_of_its_own(tmp_path):
    """An overlay's runs do not mix with those of the config alone, nor with other data sets'."""
    overlay = ["--config", ROOT / "configs" / "mle.yaml"]
    cli("fit", *SHORT, *overlay, "--trainer.limit_train_batches", 1, "--runs", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["digits-mle"]


def test_threads_are_one_where_a_batch_is_small_and_all_elsewhere(small_model, tmp_path):
    """auto: one core for 8x8 digits and for one image of 32x32, all of them for a batch of these."""
    torch.set_num_threads(2)
    assert choose_threads(75 * small_model().chains.generator_flops) == 1
    larger = small_model(generator=ConvGenerator(8, (3, 32, 32), features=8))  # 8.5 million operations an image
    assert [choose_threads(count * larger.chains.generator_flops) for count in (75, 1)] == [2, 1]
    for threads, number in (("auto", 1), (2, 2)):
        with pytest.warns(UserWarning, match="predict without --ckpt_path uses an untrained model"):
            cli("predict", *SHORT, "--num_samples", 1, "--runs", tmp_path, "--threads", threads)
        assert torch.get_num_threads() == number


@pytest.mark.parametrize(
    ("accelerator", "has_cuda", "has_bfloat16", "precision"),
    [
        ("auto", True, True, "bf16-mixed"),
        ("gpu", True, True, "bf16-mixed"),
        ("cuda", True, False, "32-true"),
        ("cpu", True, True, "32-true"),
        ("auto", False, True, "32-true"),
    ],
)
def test_precision_is_bfloat16_on_cuda_where_it_has_that(monkeypatch, accelerator, has_cuda, has_bfloat16, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    assert choose_precision(accelerator) == precision


@pytest.mark.parametrize(("fields", "precision"), [([], "bf16-mixed"), (["--trainer.precision", "32-true"], "32-true")])
def test_precision_is_chosen_where_none_is_given(tmp_path, monkeypatch, fields, precision):
    monkeypatch.setattr("thermoebm.cli.train.choose_precision", lambda accelerator: "bf16-mixed")
    program, _ = cli("fit", *SHORT, "--runs", tmp_path, "--trainer.fast_dev_run", True, *fields)
    assert program.trainer.precision == precision


def test_validation_works_under_lightnings_default_of_inference_mode(small_model):
    """Without the command line, a plain Trainer measures the same evidence: Langevin's gradients are enabled by it."""
    measured = []
    for mode in (True, False):
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, inference_mode=mode)
        (metrics,) = trainer.validate(small_model(), datamodule=Digits(num_val=75), verbose=False)
        measured.append(metrics["val/short_run_evidence"])
    assert measured[0] == measured[1]
    assert np.isfinite(measured[0])


def test_a_run_goes_on_in_its_own_folder_only_as_what_it_was(tmp_path):
    """Another objective from the same checkpoint is another run; a finished run says that it is finished."""
    cli("fit", *SHORT, "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1, "--runs", tmp_path)
    first = tmp_path / "digits" / "0"
    last = ["--ckpt_path", first / "checkpoints" / "last.ckpt"]
    before = (first / "metrics.csv").read_bytes()
    more = [*last, "--trainer.max_epochs", 2, "--trainer.limit_train_batches", 1, "--runs", tmp_path]
    cli("fit", *SHORT, *more, "--model.objective", "thermoebm.objectives.MaximumLikelihood")
    assert (first / "metrics.csv").read_bytes() == before
    assert (tmp_path / "digits" / "1" / "metrics.csv").is_file()
    cli("fit", *SHORT, *more)
    assert (first / "metrics.csv").read_bytes() != before
    assert not (tmp_path / "digits" / "2").exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (["--trainer.max_epochs", 1], "has trained 1 epochs already; raise --trainer.max_epochs"),
        (["--model.likelihood_sigma", 0.6, "--trainer.max_epochs", 2], "another model: likelihood_sigma is 0.3 there"),
        (["--model.energy.leak", 0.3, "--trainer.max_epochs", 2], "another model: energy is"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path, capsys, fields, sentence):
    cli("fit", *SHORT, "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1, "--runs", tmp_path)
    last = tmp_path / "digits" / "0" / "checkpoints" / "last.ckpt"
    assert_fault(capsys, tmp_path / "none", sentence, "fit", *SHORT, "--ckpt_path", last, *fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (["--data.batch_size", 74, "--model.objective.eta", 1], "1 samples in 32 dimensions give a singular"),
        (["--trainer.accelerator", "cpu", "--trainer.precision", "16-mixed"], "needs a CUDA device"),
    ],
)
def test_settings_that_would_fail_later_are_refused_at_once(tmp_path, capsys, fields, sentence):
    assert_fault(capsys, tmp_path / "none", sentence, "fit", *SHORT, *fields)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        cli("fit", *SHORT, "--runs", tmp_path / "file")
    assert "file is no folder that may be written" in capsys.readouterr().err


def test_training_without_end_has_a_bar_without_end(tmp_path):
    """max_epochs -1 is Lightning's word for it; max_time ends it."""
    fields = ["--trainer.max_epochs", -1, "--trainer.limit_train_batches", 1, "--trainer.max_time", "00:00:00:03"]
    cli("fit", *SHORT, *fields, "--runs", tmp_path)
    assert (tmp_path / "digits" / "0" / "checkpoints" / "last.ckpt").is_file()


def test_closing_line_names_the_folder_and_how_to_look_at_it(tmp_path):
    """Two runs get two directories; each says where it is; the second leaves the first alone."""
    arguments = ["fit", *SHORT, "--trainer.limit_train_batches", 1, "--runs", tmp_path / "all"]
    _, said = cli(*arguments)
    first = tmp_path / "all" / "digits" / "0"
    before = {p: p.read_bytes() for p in first.rglob("*") if p.is_file()}
    second, said_next = cli(*arguments)
    last = [type(c).__name__ for c in second.trainer.callbacks[-3:]]
    assert last == ["Cost", "BestCheckpoint", "LastCheckpoint"]  # what others cost, then what of them is kept
    for number, text in enumerate((said, said_next)):
        begin, where, cost, close = text.splitlines()
        run = tmp_path / "all" / "digits" / str(number)
        assert run.is_dir()
        assert begin.endswith("cpu, 32-true, 1 thread(s)")
        assert where.startswith(f"Writing to {run}; watch it with: ")
        assert where.endswith(f"tensorboard --logdir {tmp_path / 'all'}")
        assert cost.startswith("1 steps in ")
        assert close.startswith(f"{run} has ")
        assert close.endswith(f"tensorboard --logdir {tmp_path / 'all'}")
    assert {p: p.read_bytes() for p in first.rglob("*") if p.is_file()} == before
