"""Annealed evidence of a trained model, against the closed form of a linear-Gaussian one, and as users meet it."""

import copy
import csv
import json
import math
from functools import partial

import pandas as pd
import pytest
import torch

from tests.cli.test_evaluate import FEATURES
from tests.oracle import LinearGaussian
from thermoebm.applications.evidence import Annealing, annealed_evidence, bounds, draw_starts, remarks, summary
from thermoebm.applications.evidence.figure import evidence_figure
from thermoebm.cli import evaluate, evidence
from thermoebm.cli.evaluation_table import table
from thermoebm.modules import LatentEBM
from thermoebm.runtime import randomness
from thermoebm.runtime.progress import bar

STREAM = partial(randomness.stream, "cpu", 0)
SETTINGS = Annealing(steps=25, max_steps=100, tolerance=0.02, prior_steps=100, particles=1000)
TINY = ["--evidence_steps", "4", "--evidence_max_steps", "8", "--evidence_images", "12"]


def images(oracle, count):
    """Images (count, 1, 2, 3) that the model makes, float32, and their log-evidence in closed form."""
    rng = torch.Generator().manual_seed(1)
    z = oracle.sample(0.0, count, rng)
    x = oracle.generator(z).detach()
    x = (x + oracle.likelihood_sigma * torch.randn(x.shape, generator=rng, dtype=x.dtype)).float()
    exact = []
    for image in x.double():
        oracle.x = image.flatten()
        exact.append(oracle.log_evidence().item())
    return x, torch.tensor(exact, dtype=torch.float64)


@pytest.fixture(scope="module")
def known():
    """A quadratic energy's model in float32, 60 images, their true log-evidence, and what annealing says of it."""
    oracle = LinearGaussian(seed=3)
    x, exact = images(oracle, 60)
    sigmas = {"prior_sigma": oracle.prior_sigma, "likelihood_sigma": oracle.likelihood_sigma}
    networks = (copy.deepcopy(network).float() for network in (oracle.energy, oracle.generator))
    model = LatentEBM(*networks, compile="off", **sigmas)
    found = annealed_evidence(model, x, SETTINGS, STREAM, None)
    return oracle, model, x, exact, found


def test_the_evidence_is_that_of_the_closed_form(known):
    """E[w] = p(x), whatever the spread: the mean of the estimates over the truth is 1 within four standard errors.

    Its logarithm is biased downwards, by about half the variance over R: less than .15 nats at a spread of 1.
    """
    *_, exact, found = known
    estimate = found.images
    ratio = (estimate.value - exact).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(len(ratio))
    assert ratio.std() < 0.6
    assert estimate.spread.mean() < 1
    error = estimate.standard_error.square().sum().sqrt().item() / len(exact)
    assert -0.15 - 4 * error < (estimate.value - exact).mean().item() < 4 * error
    assert summary(found)["evidence_mc_se"] == pytest.approx(error)
    assert summary(found)["evidence_se"] == pytest.approx(estimate.value.std().item() / math.sqrt(60))


def test_steps_are_doubled_until_the_estimate_stays(known):
    *_, found = known
    assert [trial.steps for trial in found.trials] == [25 * 2**i for i in range(len(found.trials))]
    for i in range(1, len(found.trials)):
        change, error = found.change(i)
        difference = found.trials[i].images.value - found.trials[i - 1].images.value
        assert change == pytest.approx(difference.mean().item())
        assert error == pytest.approx(difference.std().item() / math.sqrt(len(difference)))
        stays = abs(change) + 2 * error <= 0.02
        assert stays == (i == len(found.trials) - 1 and found.reached)


def test_log_z_of_a_quadratic_energy_is_found(known):
    """log Z_α = log E_π0[exp f] = ½ (mᵀ Λ m - log det(σ0² Λ)), with the tilted prior N(m, Λ⁻¹)."""
    oracle, *_, found = known
    mean, covariance = (part.double() for part in oracle.moments(0.0))
    precision = torch.linalg.inv(covariance)
    exact = (mean @ precision @ mean - torch.logdet(oracle.prior_sigma**2 * precision)) / 2
    assert abs(found.starts.log_z - exact.item()) < 4 * found.starts.log_z_error
    assert found.starts.log_z_error < 0.02


def test_starts_are_draws_of_the_tilted_prior(known):
    """Moments within four standard errors of 1,000 draws, half as many where copies are left."""
    oracle, model, *_ = known
    with bar(1, None, "step") as progress:
        starts = draw_starts(model, 1000, 100, STREAM, progress)
    mean, covariance = (part.detach() for part in oracle.moments(0.0))
    z, count = starts.z.double(), 500
    assert 500 < starts.effective_size <= 1000
    assert ((z.mean(0) - mean).abs() < 4 * (covariance.diagonal() / count).sqrt()).all()
    variances = covariance.diagonal()
    error = ((torch.outer(variances, variances) + covariance**2) / count).sqrt()
    assert ((torch.cov(z.T) - covariance).abs() < 4 * error).all()


def test_both_bounds_enclose_the_truth_on_simulated_images(known):
    """E[lower] ≤ E[log p] ≤ E[upper]; the truth is that of other images of the model, so its error counts too."""
    *_, exact, found = known
    for bound in bounds(known[1], 60, found, STREAM, None):
        gap, error = bound.gap
        assert gap > -4 * error
        noise = 4 * (exact.std() / math.sqrt(60) + bound.lower.value.std() / math.sqrt(60))
        assert bound.lower.value.mean() < exact.mean() + noise
        assert bound.upper.value.mean() > exact.mean() - noise
    assert abs(gap) < 0.4
    figure = evidence_figure(found, bounds(known[1], 20, found, STREAM, None), -20.0)
    assert len(figure.axes) == 3


def test_too_few_steps_and_unequal_weights_are_told(known):
    _, model, x, _, _ = known
    few = annealed_evidence(model, x[:20], Annealing(steps=1, max_steps=2, tolerance=0.01), STREAM, None)
    assert not few.reached
    assert few.doubtful > 0.1
    told = " ".join(remarks(few))
    assert "not within 0.01 nats after 2 steps" in told
    assert "biases their evidence downwards" in told
    assert summary(few)["evidence"] < known[4].images.value[:20].mean().item()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"chains": 3}, "chains is 3; take at least 4"),
        ({"steps": 0}, "steps is 0"),
        ({"max_steps": 0}, "max_steps 0"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"tolerance": math.nan}, "tolerance is nan"),
        ({"particles": 1}, "particles 1"),
    ],
)
def test_impossible_settings(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Annealing(**fields)


def test_a_generator_that_is_not_finite_is_told(known):
    _, model, x, *_ = known
    bias = model.generator.bias.detach().clone()
    model.generator.bias.data[0] = math.nan
    try:
        with pytest.raises(ValueError, match="not finite; check the generator's weights"):
            annealed_evidence(model, x[:4], Annealing(steps=1, max_steps=1), STREAM, None)
    finally:
        model.generator.bias.data = bias


def test_evaluate_gives_it_beside_that_of_short_chains(checkpoint, tmp_path, capsys):
    options = [*FEATURES[:-4], *TINY, "--evidence_tolerance", "0.01"]
    evaluate.main(["--checkpoint", str(checkpoint), "--output", str(tmp_path), *options])
    shown = capsys.readouterr().out
    (row,) = csv.DictReader((tmp_path / "metrics.csv").read_text("utf-8").splitlines())
    (result,) = json.loads((tmp_path / "metrics.json").read_text())["results"]
    each = pd.read_csv(tmp_path / "alone-7" / "evidence.csv")
    assert len(each) == 12
    assert list(each.columns) == ["image", "value", "standard_error", "spread", "effective_size"]
    assert float(row["evidence"]) == pytest.approx(each["value"].mean())
    assert float(row["evidence_se"]) == pytest.approx(each["value"].std() / math.sqrt(12))
    assert float(row["bits_per_dimension"]) == pytest.approx(
        -each["value"].mean() / 64 / math.log(2) + math.log2(127.5)
    )
    assert row["evidence_method"] == "annealed importance sampling, MALA, 8 steps, 4 chains"
    assert result["short_run_evidence"] != result["evidence"]
    assert result["evidence_of_each"] == pytest.approx(each["value"].tolist())
    assert any("not within 0.01 nats" in remark for remark in result["remarks"])
    assert "not within 0.01 nats" in shown
    other = {**result, "label": "other", "evidence_of_each": [v + 1 for v in result["evidence_of_each"]]}
    assert "Evidence of other less that of alone-7, on the same images: +1.00 ± 0.00." in table([result, other])
    assert "less that of" not in table([result, other | {"evidence_of": "elsewhere"}])


def test_evaluate_may_leave_it_out(checkpoint, tmp_path):
    evaluate.main(["--checkpoint", str(checkpoint), "--output", str(tmp_path), *FEATURES, "--evidence", "none"])
    (row,) = csv.DictReader((tmp_path / "metrics.csv").read_text("utf-8").splitlines())
    assert not [name for name in row if "evidence" in name and name != "evidence_images"]
    assert float(row["reconstruction_error"]) > 0


def test_the_program_writes_its_table_and_its_figure(checkpoint, tmp_path, capsys):
    evidence.main([str(checkpoint), "--output", str(tmp_path), *TINY, "--simulated", "5"])
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "evidence.json").read_text())
    assert [trial["steps"] for trial in found["trials"]] == [4, 8]
    assert len(found["simulated"]) == 2
    assert len(found["step_sizes"]["t"]) == len(found["step_sizes"]["step_size"])
    assert f"log p(x) {found['evidence']:.2f} nats" in shown
    assert "two bounds" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"evidence.json", "evidence.csv", "evidence.png"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--evidence_max_steps", "0"], "max_steps 0"),
        (["--evidence_chains", "2"], "chains is 2; take at least 4"),
        (["--evidence_tolerance", "-1"], "tolerance is -1"),
    ],
)
@pytest.mark.parametrize("program", ["evaluate", "evidence"])
def test_bad_options_are_told_before_anything_is_loaded(program, arguments, sentence, tmp_path, capsys):
    (tmp_path / "last.ckpt").write_text("no checkpoint")
    start = ["--checkpoint"] if program == "evaluate" else []
    with pytest.raises(SystemExit) as ended:
        {"evaluate": evaluate, "evidence": evidence}[program].main(
            [*start, str(tmp_path / "last.ckpt"), "--output", str(tmp_path / "out"), *arguments]
        )
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
