"""The two runs that the README promises, trained to their end: do they make digits?"""

import subprocess
import sys

import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.digits_quality import quality
from tests import ROOT
from thermoebm.data import Digits
from thermoebm.runs import checkpoints

DIGITS = ["--config", "configs/digits.yaml"]
# The measurements of the first change no training: the second does without.
WITHOUT = [
    *("--trainer.callbacks", "null"),
    *("--gradient_variance.every_n_epochs", "0"),
    *("--fidelity.every_n_epochs", "0"),
]
CONFIGS = {"digits": DIGITS, "digits-mle": [*DIGITS, "--config", "configs/mle.yaml", *WITHOUT]}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both trainings side by side, each in a process of its own, as a user starts them."""
    folder = tmp_path_factory.mktemp("runs")
    processes = [
        subprocess.Popen(
            [sys.executable, "train.py", "fit", *arguments, "--runs", str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, arguments in CONFIGS.items()
    ]
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output
        assert "warning" not in output.lower()
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_samples_are_digits(folder, name, capsys):
    """Each digit takes at least 3 % of 1,000 samples, and the MMD² against held-out digits is at most .03.

    Over three training seeds a prototype gave .010 to .012 and a least share of 6 to 9 %; evaluation noise is .0015.
    For scale: N(0, I) through the same generator, without the learned prior, gives .14, the mean digit .4.
    """
    result = quality(checkpoints.load_model(folder / name / "0" / "checkpoints" / "last.ckpt"), Digits())
    with capsys.disabled():
        print(f"\n{name}: MMD² {result.mmd2:.4f}, least share {min(result.shares):.3f}")
    assert min(result.shares) >= 0.03
    assert result.mmd2 <= 0.03


@pytest.mark.parametrize("name", CONFIGS)
def test_held_out_measures_fall(folder, name):
    table = pd.read_csv(folder / name / "0" / "metrics.csv")
    for column, by in (("val/short_run_nll", 3.0), ("val/reconstruction_error", 0.01)):
        values = table[column].dropna()
        assert values.iloc[-1] < values.iloc[0] - by


def test_the_learned_prior_is_what_makes_them_digits(folder):
    """The same generator fed from the reference prior misses the bound: the measure can fail."""
    model = checkpoints.load_model(folder / "digits" / "0" / "checkpoints" / "last.ckpt")
    model.sample_prior = lambda count, rng: model.sample_reference((count,), rng)
    assert quality(model, Digits()).mmd2 > 0.06


def test_the_classifier_knows_real_digits():
    """The shares of real held-out digits by the same classifier are those of their labels, to 1 % each."""
    (train, labels), (held_out, truth) = Digits().splits
    guess = KNeighborsClassifier(3).fit(train.flatten(1), labels).predict(held_out.flatten(1))
    assert (guess == truth.numpy()).mean() > 0.97
