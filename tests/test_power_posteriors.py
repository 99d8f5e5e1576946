"""The animated picture of power posteriors: what it shows is true of its model, and the file plays."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests import ROOT
from tests.quadrature import Quadrature
from thermoebm.evidence import trapezium
from thermoebm.schedules import power_law

SCRIPT = ROOT / "docs" / "reproduce" / "power_posteriors.py"


def plays(folder: Path) -> None:
    """Some seconds, over and over, the last frame for longer; small enough for a front page."""
    file = folder / "power-posteriors.webp"
    assert file.stat().st_size < 2e6
    with Image.open(file) as picture:
        assert picture.format == "WEBP"
        assert picture.is_animated
        assert picture.info["loop"] == 0
        assert 900 <= picture.width <= 1000
        durations = []
        for k in range(picture.n_frames):
            picture.seek(k)
            picture.load()
            durations.append(picture.info["duration"])
        last = picture.convert("RGB")
    assert 6000 <= sum(durations) <= 11000
    assert durations[-1] >= 2000 > 10 * max(durations[:-1])
    with Image.open(file.with_suffix(".png")) as still:
        assert still.convert("RGB").tobytes() == last.tobytes()


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("power_posteriors", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["power_posteriors"] = module  # where NamedTuple looks
    spec.loader.exec_module(module)
    yield module
    del sys.modules["power_posteriors"]


@pytest.fixture(scope="module")
def model():
    """With a prior so far from π0 that chains which do not move from there are noticed."""
    model = Quadrature()
    with torch.no_grad():
        model.energy.layers[2].weight.mul_(8)
    return model


@pytest.fixture(scope="module")
def grid(script, model):
    return script.Grid(model, model.x[:1], points=151, half_width=7.5)


def test_the_line_and_its_area_are_those_of_the_model(grid, model):
    """Against formulas that use no density of the package; and the area below E_t is log p(x)."""
    t = power_law(400, 3.0)
    expected = torch.tensor([grid.expected(float(u)) for u in t], dtype=torch.float64)
    torch.testing.assert_close(expected, model.over(t)[0][:, 0])
    assert (expected.diff() > 0).all()
    assert grid.evidence() == pytest.approx(model.log_evidence()[0].item(), abs=1e-9)
    assert trapezium(t, expected).item() == pytest.approx(grid.evidence(), abs=1e-3)


def test_regions_of_highest_density_hold_what_they_should(grid, script):
    p = grid.probabilities(0.3)
    for mass, edge in zip(script.MASSES, grid.regions(0.3), strict=True):
        assert p[p >= edge].sum().item() == pytest.approx(mass, abs=p.max().item())


def test_resampling_takes_each_chain_as_often_as_its_weight_says(script):
    """Systematic resampling rounds N w down or up, and both by the right chance; who stays, stays in place."""
    rng = torch.Generator().manual_seed(0)
    w = torch.tensor([0.05, 0.5, 0.15, 0.3, 0.0], dtype=torch.float64)
    counts = torch.zeros(5, dtype=torch.float64)
    for _ in range(4000):
        chosen = script.resampled(w.log(), rng)
        count = chosen.bincount(minlength=5)
        assert ((count - 5 * w).abs() < 1).all()
        assert (chosen[count > 0] == torch.arange(5)[count > 0]).all()
        counts += count / 4000
    torch.testing.assert_close(counts, 5 * w, atol=4 * 0.5 / 4000**0.5, rtol=0)


def test_chains_follow_the_power_posteriors(script, model, grid):
    """Means of log p(x|z) at each temperature, within five standard errors of as many independent draws."""
    made = script.frames(model, model.x[:1], grid, seed=0)
    t = power_law(script.N, script.POWER)
    assert [frame.t for frame in made][-1] == 1
    mean, variance = (values[:, 0] for values in model.over(t))
    error = (variance / script.CHAINS).sqrt()
    assert ((torch.tensor(made[-1].expected, dtype=torch.float64) - mean).abs() < 5 * error).all()
    assert error[0] < 0.1 * (mean[-1] - mean[0])


def test_the_file_plays():
    plays(ROOT / "docs" / "images")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_can_be_made_again(tmp_path):
    """A training of some minutes: the chains agree with the sums over the grid, whose area is the printed log p(x)."""
    environment = os.environ | {"PYTHON": sys.executable, "RUNS": str(tmp_path / "runs"), "OUT": str(tmp_path)}
    command = ["bash", SCRIPT.with_suffix(".sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if re.fullmatch(r"[01]\.\d{3}( +-?\d+\.\d\d){2}", line)]
    t, expected, chains = torch.tensor([[float(cell) for cell in row] for row in rows], dtype=torch.float64).T
    log_evidence = float(re.search(r"^log p\(x\) (\S+) nats$", done.stdout, re.MULTILINE)[1])
    assert len(t) == 11
    assert trapezium(t, expected).item() == pytest.approx(log_evidence, abs=1.0)  # ten intervals
    assert expected[-1] - expected[0] > 20
    assert (chains - expected).abs().max() < 0.1 * (expected[-1] - expected[0])
    plays(tmp_path)
