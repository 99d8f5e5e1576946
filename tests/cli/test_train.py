"""The command line: what a run leaves behind, what resuming repeats, and faults told in a sentence."""

import contextlib
import csv
import io
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from tests import ROOT
from thermoebm.cli.train import CLI
from thermoebm.runs import checkpoints

CONFIG = ["--config", str(ROOT / "configs" / "digits.yaml")]
SHORT = [
    *CONFIG,
    *("--gradient_variance.every_n_epochs", 0, "--fidelity.every_n_epochs", 0),  # see test_train_callbacks
    *("--model.prior_sampler.num_steps", "5"),
    *("--model.posterior_sampler.num_steps", "3"),
    *("--model.compile", "off"),
    *(
        f"--model.{network}_optimizer.{field}"
        for network in ("energy", "generator")
        for field in ("decay_begin=0", "decay_rate=0.9")
    ),
    *("--trainer.limit_val_batches", "1"),
    *("--trainer.enable_progress_bar", "false"),
    *("--trainer.check_val_every_n_epoch", "2"),
    *("--trainer.log_every_n_steps", "1"),
    *("--trainer.max_epochs", "1"),
]


def cli(*arguments: Any, printed: io.StringIO | None = None) -> tuple[CLI, str]:
    """Runs train.py with these arguments in this process; returns it and what it printed."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed or io.StringIO()) as out:
        patch.setattr(sys, "argv", ["train.py"])
        patch.setattr(warnings, "formatwarning", warnings.formatwarning)  # which the program replaces
        return CLI([*map(str, arguments)]), out.getvalue()


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def repeatable(run: Path) -> pd.DataFrame:
    """metrics.csv as text, without what a clock or the process told; operations are counted, and stay."""
    table = pd.read_csv(run / "metrics.csv", dtype=str)
    return table.loc[:, ~table.columns.str.contains("^cost/(?:seconds|.*_per_second$|of_matrix_rate$|peak_memory$)")]


def checkpoint(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


class Pair(NamedTuple):
    whole: Path  # a run of four epochs
    parts: Path  # the same, killed in its third epoch and resumed
    said: str  # what the resumed run printed


def train_twice(parent: Path, *arguments: str) -> Pair:
    settings = ["fit", *SHORT, *arguments]
    torch._dynamo.reset()
    cli(*settings, "--runs", parent / "whole", "--trainer.max_epochs", 4)
    torch._dynamo.reset()
    cli(*settings, "--runs", parent / "parts", "--trainer.max_epochs", 2)
    whole, parts = parent / "whole" / "digits" / "0", parent / "parts" / "digits" / "0"
    with (parts / "metrics.csv").open("a", newline="") as file:  # logged after the checkpoint, before the kill
        names = list(rows(whole)[0])
        csv.DictWriter(file, names).writerows(r for r in rows(whole) if 40 <= int(r["step"]) < 55)
    with SummaryWriter(parts / "killed") as writer:  # likewise; event files may be joined end to end
        for step in range(40, 55):
            writer.add_scalar("train/loss", 0.0, step)
    (events,), (killed,) = parts.glob("events*"), (parts / "killed").iterdir()
    events.write_bytes(events.read_bytes() + killed.read_bytes())
    shutil.rmtree(parts / "killed")
    torch._dynamo.reset()
    last = parts / "checkpoints" / "last.ckpt"
    _, said = cli(*settings, "--runs", parent / "elsewhere", "--trainer.max_epochs", 4, "--ckpt_path", last)
    return Pair(whole, parts, said)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Pair:
    with contextlib.chdir(cwd := tmp_path_factory.mktemp("cwd")):
        pair = train_twice(tmp_path_factory.mktemp("runs"))
    assert list(cwd.iterdir()) == []  # nothing is written outside the run's directory
    return pair


# What a run leaves


def test_a_run_leaves_its_config_metrics_events_checkpoint_and_pictures(pair):
    files = {str(p.relative_to(pair.whole)).split(".out.")[0] for p in pair.whole.rglob("*") if p.is_file()}
    pictures = {f"{name}/epoch-0004.png" for name in ("samples", "reconstructions", "integrand")}
    assert files >= {"config.yaml", "metrics.csv", "events", "checkpoints/last.ckpt", *pictures}
    columns = {name for name in rows(pair.whole)[0] if not name.startswith("gradient_")}  # see test_gradient_variance
    shared = {"loss", "left_sum", "right_sum", "log_likelihood", "energy_posterior", "energy_prior"}
    assert columns == {
        *("step", "epoch", "prior/energy_tilt", "prior/mean_square", "prior/rollbacks", "train/nll"),
        "prior/corrected_acceptance",
        *("val/short_run_evidence", "val/short_run_nll", "val/reconstruction_error"),
        *("posterior/movement", "posterior/step_times_curvature"),
        *(f"train/chains/{n}" for n in ("prior/lost", "prior/acceptance", "prior/not_finite", "posterior/lost")),
        *(f"{stage}/{name}" for stage in ("train", "val") for name in shared),
        *(f"cost/{name}" for name in ("flops", "flops_per_step", "flops_per_second", "images_per_second")),
        *(f"cost/{name}" for name in ("seconds", "seconds_measuring", "seconds_per_step", "seconds_first_step")),
        *(f"cost/{name}" for name in ("of_matrix_rate", "recorded", "peak_memory")),
        *(f"cost/seconds/{phase}" for phase in ("loading", "sampling", "backward", "optimizer", "rest")),
    }


def test_metrics_have_a_row_for_each_step_and_validation(pair):
    """Four epochs of 20 batches; the held-out evidence after the second and the fourth; both sums enclose it."""
    table = rows(pair.whole)
    assert [int(r["step"]) for r in table if r["train/loss"]] == list(range(80))
    evaluated = [r for r in table if r["val/short_run_evidence"]]
    assert [int(r["epoch"]) for r in evaluated] == [1, 3]
    for r in evaluated:
        assert float(r["val/left_sum"]) < float(r["val/short_run_evidence"]) < float(r["val/right_sum"])
    assert float(evaluated[1]["val/short_run_evidence"]) > float(evaluated[0]["val/short_run_evidence"])  # it learns


def test_the_objectives_evidence_is_the_mean_over_the_epochs_steps_that_had_one(pair):
    """evidence_every is 10: two values in 20 steps, one mean an epoch, never an old value at a step without."""
    logged = [(int(r["epoch"]), r["train/nll"]) for r in rows(pair.whole) if r["train/nll"]]
    assert [epoch for epoch, _ in logged] == [0, 1, 2, 3]
    assert len({value for _, value in logged}) == 4


@pytest.mark.parametrize("which", ["whole", "parts"])
def test_tensorboard_shows_what_the_table_says(pair, which):
    """The loss at every step once, also after resuming."""
    run = getattr(pair, which)
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload().Scalars("train/loss")
    table = {int(r["step"]): float(r["train/loss"]) for r in rows(run) if r["train/loss"]}
    assert [e.step for e in events] == list(table)
    np.testing.assert_allclose([e.value for e in events], list(table.values()), rtol=1e-6)


# Resuming


def assert_same(pair: Pair) -> None:
    """Bit by bit: weights, both moments of Adam, learning rates, progress, and the metrics as text."""
    whole, parts = checkpoint(pair.whole), checkpoint(pair.parts)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        torch.testing.assert_close(parts[key], whole[key], rtol=0, atol=0)
    tables = [repeatable(run) for run in (pair.parts, pair.whole)]
    assert {"cost/flops", "cost/flops_per_step", "cost/recorded"} == {
        name for name in tables[0] if name.startswith("cost/")
    }
    pd.testing.assert_frame_equal(*tables)
    for name in ("samples", "reconstructions", "integrand"):
        pictures = [(run / name / "epoch-0004.png").read_bytes() for run in (pair.whole, pair.parts)]
        assert pictures[0] == pictures[1]


def test_a_resumed_run_is_the_uninterrupted_one(pair):
    assert_same(pair)
    for group in checkpoint(pair.parts)["optimizer_states"][0]["param_groups"]:  # the decay: once after each epoch
        assert group["lr"] == pytest.approx(group["initial_lr"] * 0.9**4)


@pytest.mark.slow  # three compilations
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_a_resumed_run_is_the_uninterrupted_one_when_compiled(tmp_path):
    assert_same(train_twice(tmp_path, "--model.compile", "on"))


def test_resuming_goes_on_in_the_runs_own_directory(pair):
    """No second directory, the first config kept beside the new one, and a closing line that finds it."""
    assert [p.name for p in pair.parts.parent.iterdir()] == ["0"]
    assert not (pair.parts.parents[2] / "elsewhere").exists()
    epochs = [yaml.safe_load(p.read_text())["trainer"]["max_epochs"] for p in sorted(pair.parts.glob("config*.yaml"))]
    assert sorted(epochs) == [2, 4]
    folder, _, logdir = pair.said.splitlines()[-1].partition("tensorboard --logdir ")
    assert folder.startswith(f"{pair.parts} has samples, metrics.csv and checkpoints; ")
    assert Path(logdir) in pair.parts.parents


# Other subcommands and configs


def test_validate_and_test_evaluate_the_checkpoint(pair, tmp_path):
    """validate finds the evidence that training logged last, on one batch; test takes all."""
    last = ["--ckpt_path", pair.whole / "checkpoints" / "last.ckpt", "--runs", tmp_path / "none"]
    logged = float(next(r for r in reversed(rows(pair.whole)) if r["val/short_run_evidence"])["val/short_run_evidence"])
    validated = cli("validate", *SHORT, *last)[0].trainer.callback_metrics["val/short_run_evidence"]
    tested = cli("test", *SHORT, *last)[0].trainer.callback_metrics["test/short_run_evidence"]
    assert validated == pytest.approx(logged, rel=1e-6)
    assert tested != validated
    assert abs(tested - validated) < 0.1 * abs(validated)
    assert not (tmp_path / "none").exists()


def test_predict_writes_samples_of_the_checkpoint(pair):
    """As many as asked for, the same each time, all different, in a folder of the run."""
    last = ["--ckpt_path", pair.whole / "checkpoints" / "last.ckpt"]
    saved = ["--config", pair.whole / "config.yaml"]
    samples = []
    for number, count in enumerate((7, 7, 200)):
        _, said = cli("predict", *saved, *last, "--num_samples", count)
        folder = pair.whole / "predict" / str(number)
        assert said.startswith(f"{count} samples are in {folder}")
        assert (folder / "samples.png").is_file()
        samples.append(np.load(folder / "samples.npy"))
        assert samples[-1].shape == (count, 1, 8, 8)
        assert abs(samples[-1]).max() <= 1
    assert np.array_equal(samples[0], samples[1])
    assert len(np.unique(samples[2].reshape(200, -1), axis=0)) == 200
    model = checkpoints.load_model(last[1])
    assert np.array_equal(samples[0], model.generate(7, model.stream("predict", 0)).numpy())


def test_printed_and_saved_configs_reproduce_the_run(pair, tmp_path):
    """Printing what was printed changes nothing, and a run's own config.yaml repeats its numbers."""
    texts = []
    for source in (SHORT, ["--config", tmp_path / "printed.yaml"]):
        with pytest.raises(SystemExit, match=r"^0$"):
            cli("fit", *source, "--print_config", printed=(printed := io.StringIO()))
        texts.append(printed.getvalue())
        (tmp_path / "printed.yaml").write_text(texts[0])
    assert texts[0] == texts[1]
    assert len(yaml.safe_load(texts[0])["model"]["init_args"]) > 10
    cli("fit", "--config", pair.whole / "config.yaml", "--runs", tmp_path, "--trainer.max_epochs", 1)
    again = [r["train/loss"] for r in rows(tmp_path / "digits" / "0") if r["train/loss"]]
    assert again == [r["train/loss"] for r in rows(pair.whole) if r["train/loss"]][:20]


def assert_fault(capsys, folder: Path, said: str, *arguments: Any) -> None:
    """One line on stderr that begins with `error: `, exit code 2, and no run directory."""
    with pytest.raises(SystemExit) as ended:
        cli(*arguments, "--runs", folder)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 400  # a sentence, not the parser's report on every type it tried
    assert said in lines[0]
    assert not folder.exists()


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_of_another_model_is_refused_by_every_subcommand(pair, capsys, tmp_path, subcommand):
    """Lightning's own CLI would take the checkpoint's settings in place of those configured."""
    other = ["--model.energy.latent_dim", 9, "--model.generator.latent_dim", 9]
    last = pair.whole / "checkpoints" / "last.ckpt"
    before = (pair.whole / "metrics.csv").read_bytes(), last.read_bytes()
    said = f"{last} is of another model: energy.layers.0.weight is"
    assert_fault(capsys, tmp_path / "runs", said, subcommand, *SHORT, *other, "--ckpt_path", last)
    assert ((pair.whole / "metrics.csv").read_bytes(), last.read_bytes()) == before
