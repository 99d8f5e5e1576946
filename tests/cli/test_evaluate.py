"""evaluate.py: what it writes, that it repeats itself, what its numbers are, and faults told in a sentence."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import ROOT
from tests.oracle import LinearGaussian
from thermoebm.applications import evaluation
from thermoebm.applications.evidence.short_run import bits_per_dimension
from thermoebm.applications.held_out_images import held_out
from thermoebm.applications.settings import Settings
from thermoebm.callbacks.gradient_report import report_scalars
from thermoebm.cli.evaluate import find_checkpoints, labels, main
from thermoebm.cli.evaluation_table import table
from thermoebm.data import Digits
from thermoebm.gradients.draws import measure
from thermoebm.gradients.statistics import networks
from thermoebm.metrics import classifier
from thermoebm.samplers import ULA
from thermoebm.schedules import PowerLaw

FEATURES = [
    "--extractor",
    "tests.extractors.Flat",
    "--num_samples",
    "300",
    "--evidence_images",
    "60",
    "--evidence",
    "short",
]


@pytest.fixture(scope="module")
def first(checkpoint, tmp_path_factory) -> Path:
    """What evaluating that checkpoint writes."""
    output = tmp_path_factory.mktemp("first") / "out"
    main(["--checkpoint", str(checkpoint), "--output", str(output), *FEATURES])
    return output


def test_everything_promised_is_written(first):
    (row,) = csv.DictReader((first / "metrics.csv").read_text("utf-8").splitlines())
    whole = json.loads((first / "metrics.json").read_text())
    (result,) = whole["results"]
    assert row["label"] == result["label"] == "alone-7"
    assert {path.name for path in (first / "alone-7").iterdir()} == {
        "samples.png",
        "reconstructions.png",
        "extrapolation.png",
    }
    assert not list(first.glob(".*"))
    name = "FD[tests.extractors.Flat]"
    held_out = ("short_run_evidence", "left_sum", "right_sum", "reconstruction_error")
    for key in (name, f"{name}_inf", f"{name}_inf_se", *held_out):
        assert float(row[key]) == result[key]
    line = result["extrapolations"][name]
    assert (line["sizes"][0], line["sizes"][-1], len(line["values"])) == (66, 297, 10)
    assert result["remarks"] == [
        "Sizes 1000 to 4500 are scaled down to 66 to 297: there are 297 images of the scarcer set."
    ]
    assert "3 ULA steps of 0.01: short uncorrected chains" in result["chains"]
    assert "short uncorrected chains" in table(whole["results"])
    assert f"{result['short_run_evidence']:.2f}" in table(whole["results"])


def test_the_same_command_gives_the_same_numbers(checkpoint, first, tmp_path):
    """As a user starts it, in another process and folder; another seed gives others."""
    command = [sys.executable, ROOT / "evaluate.py", "--checkpoint", checkpoint, "--output", "out", *FEATURES]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("metrics.json", "metrics.csv", "alone-7/samples.png", "alone-7/reconstructions.png"):
        assert (tmp_path / "out" / name).read_bytes() == (first / name).read_bytes()
    main(["--checkpoint", str(checkpoint), "--output", str(tmp_path / "other"), "--seed", "1", *FEATURES])
    before, after = (json.loads((f / "metrics.json").read_text())["results"][0] for f in (first, tmp_path / "other"))
    distances = ("FD[tests.extractors.Flat]", "KD[tests.extractors.Flat]_inf")
    for name in ("short_run_evidence", "reconstruction_error", *distances):
        assert before[name] != after[name]


def test_samples_do_not_depend_on_how_many_are_drawn(checkpoint):
    model, _ = evaluation.load(checkpoint, Settings())
    many, few = (evaluation.samples(model, Settings(num_samples=count)) for count in (260, 30))
    assert many.shape == (260, 1, 8, 8)
    assert torch.equal(many[:30], few)
    assert not torch.equal(many[250:], many[:10])


def test_against_training_images_memorisation_is_measured_and_the_classifier_scores(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("THERMOEBM_CACHE", str(tmp_path))
    monkeypatch.setitem(classifier._RECIPE, "steps", 1)
    model, data = evaluation.load(checkpoint, Settings())
    settings = Settings(num_samples=400, split="train")
    reference = evaluation.reference(data, settings)
    scalars, lines, _ = evaluation.fidelity(evaluation.samples(model, settings), reference, settings)
    assert scalars["real_images"] == 400
    assert set(lines) == {"FD[classifier:digits]", "KD[classifier:digits]", "KD-rbf[classifier:digits]"}
    assert scalars["FD[classifier:digits]"] == lines["FD[classifier:digits]"].values[-1]
    assert scalars["MIFD[classifier:digits]"] > 0
    assert 1 <= scalars["score[classifier:digits]"] <= 10


# Evidence against the linear-Gaussian oracle


class Exact:
    """A model whose ladder is exact: E_t[log p(x|z)] of each image in closed form; it notes the images it is given."""

    device, evidence_schedule, posterior_sampler = torch.device("cpu"), PowerLaw(60, 3.0), ULA(0.01, 20)

    def __init__(self):
        self.oracle, self.seen = LinearGaussian(), []

    def reconstruct(self, x, rng):
        return x + 0.1

    def ladder(self, x, schedule, rng):
        self.seen.append(x)
        temperatures, values = schedule.temperatures(), []
        for image in x.double():
            self.oracle.x = image.flatten()
            values.append(self.oracle.over(temperatures, "expected_log_likelihood"))
        return temperatures, torch.stack(values, 1)


def test_the_short_run_evidence_is_that_of_uniformly_dequantised_images():
    """Against the oracle's log-density of the very images the ladder was given; 60 temperatures leave .01 nats."""

    class Data:
        held_out_images = torch.randint(0, 256, (130, 1, 2, 3), dtype=torch.uint8)

    model = Exact()
    result = held_out(model, Data(), Settings(evidence="short", evidence_images=120)).scalars
    seen = torch.cat(model.seen)
    exact = []
    for image in seen.double():
        model.oracle.x = image.flatten()
        exact.append(model.oracle.log_evidence().item())
    assert result["short_run_evidence"] == pytest.approx(sum(exact) / 120, abs=0.05)
    assert result["left_sum"] < sum(exact) / 120 < result["right_sum"]
    assert result["short_run_evidence_se"] == pytest.approx(torch.tensor(exact).std().item() / 120**0.5, rel=0.01)
    assert result["evidence_images"] == 120
    assert result["reconstruction_error"] == pytest.approx(0.01, rel=1e-5)
    assert result["short_run_bits_per_dimension"] == bits_per_dimension(result["short_run_evidence"], 6)
    assert not [name for name in result if name.startswith(("evidence_se", "bits")) or name == "evidence"]
    # Uniform on cells of width 1/127.5 around the levels: 720 draws give the variance to 7 % in four errors.
    shift = (seen - (Data.held_out_images[:120].float() / 127.5 - 1)) * 127.5
    assert shift.abs().max() <= 0.5001
    assert shift.var().item() == pytest.approx(1 / 12, rel=0.14)
    assert abs(shift.mean().item()) < 4 * (1 / 12 / 720) ** 0.5


def test_bits_of_a_uniform_density_are_eight_and_change_with_one_nat_per_dimension():
    """A uniform density over the 256 levels of each of 5 pixels, whose cells are 1/127.5 wide, costs 8 bits a pixel."""
    uniform = -5 * math.log(256 / 127.5)
    assert bits_per_dimension(uniform, 5) == pytest.approx(8)
    assert bits_per_dimension(uniform - 5, 5) == pytest.approx(8 + 1 / math.log(2))


def test_the_table_shows_no_error_where_none_is_right(checkpoint, tmp_path, capsys):
    """64 pixels, of subsets of 64 images at least: null in the JSON, words in the table."""
    sizes = ["--extractor", "pixels", "--sizes", "64", "150", "297"]
    main(["--checkpoint", str(checkpoint), "--output", str(tmp_path), *FEATURES, *sizes])
    (result,) = json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert result["FD[pixels]_inf_se"] is None
    assert "singular covariances of 64 images in 64 dimensions" in result["remarks"][0]
    assert f"{result['FD[pixels]_inf']:.4g} (biased: smallest N ≤ d)" in capsys.readouterr().out


# Paths


def with_data(checkpoint, path, **described) -> Path:
    """A checkpoint whose config names another data set."""
    content = torch.load(checkpoint, weights_only=True)
    content["config"]["data"] = described
    torch.save(content, path)
    return path


def test_the_images_may_have_moved_since_training(checkpoint, tmp_path):
    images = Digits().train_images.numpy()
    np.savez(tmp_path / "here.npz", train=images[:200], test=images[200:300])
    path = with_data(
        checkpoint, tmp_path / "a.ckpt", class_path="thermoebm.data.Arrays", init_args={"root": "gone.npz"}
    )
    _, data = evaluation.load(path, Settings(root=str(tmp_path / "here.npz")))
    assert np.array_equal(data.held_out_images, images[200:300])
    with pytest.raises(ValueError, match=r"gone\.npz"):
        evaluation.load(path, Settings())


def test_checkpoints_are_found_in_folders_and_named_apart(tmp_path):
    paths = [tmp_path / "runs" / name / "checkpoints" / "last.ckpt" for name in ("digits/0", "digits/1", "x/digits/0")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text("")
        path.with_name("epoch=3.ckpt").write_text("")
    one = paths[0].with_name("epoch=3.ckpt")
    assert find_checkpoints([str(one), str(tmp_path), str(paths[1])]) == [one, *paths]
    assert list(labels([one, *paths])) == ["digits-0-epoch=3", "digits-0", "digits-1", "digits-0-2"]


def test_gradient_variance_is_that_of_the_held_out_loss(checkpoint, tmp_path, capsys):
    """The row holds what measuring the loaded model on the held-out loader gives, and both noises make the total.

    Across parameters is by hand over the same draws.
    """
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path), *FEATURES, "--gradient_variance"]
    main([*arguments, "--seed", "3"])
    (row,) = csv.DictReader((tmp_path / "metrics.csv").read_text("utf-8").splitlines())
    model, data = evaluation.load(checkpoint, Settings())
    drawn = []
    state = measure(
        model.loss,
        model,
        data.test_dataloader(),
        model.stream("evaluate gradient variance", 3),
        model.stream("evaluate gradient variance data", 3),
        observe=lambda gradient: drawn.append([g.flatten().double() for g in gradient]),
    )
    report, table = state.report(), capsys.readouterr().out
    for network in ("energy", "generator", "both"):
        names = {q: float(row[f"gradient_variance/per_parameter/{q}/{network}"]) for q in ("total", "data", "sampler")}
        assert names["total"] == report[network]["total"].value > 0
        assert names["total"] == pytest.approx(names["data"] + names["sampler"], rel=1e-6)
        assert float(row[f"gradient_variance/per_parameter/total_se/{network}"]) > 0
        assert (", ".join(f"{value:.3g}" for value in names.values()) in table) == (network != "both")
        members = networks(state.names)[network]
        flat = torch.stack([torch.cat([gradient[i] for i in members]) for gradient in drawn])
        for kind, value in (("variance", flat.var(1, correction=0)), ("mean", flat.mean(1))):
            assert float(row[f"gradient_{kind}/across_parameters/{network}"]) == pytest.approx(
                value.mean().item(), rel=1e-3
            )
    assert len(drawn) == 32
    assert report_scalars(report, state.names).keys() <= row.keys()


def test_gradient_variance_has_the_seed_of_the_evaluation(checkpoint):
    model, data = evaluation.load(checkpoint, Settings())
    first, second = (evaluation.gradient_variance(model, data, Settings(seed=seed)) for seed in (0, 1))
    assert all(first[name] != second[name] for name in first if name.endswith("/both"))
