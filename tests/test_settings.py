"""Settings that cannot work are refused by the class that has them, wherever it is made."""

import importlib
import inspect
import math
import re
from typing import Any

import pytest

from tests.test_class_paths import PATHS
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.objectives.gaussian_kl import GaussianKL
from thermoebm.optim import DecayedAdam
from thermoebm.samplers import MALA, ULA

#: Arguments that have no default.
NEEDED: dict[str, dict[str, Any]] = {
    "ConvGenerator": {"latent_dim": 4, "image_shape": (1, 8, 8), "features": 2},
    "ConvEncoder": {"latent_dim": 4, "image_shape": (1, 8, 8), "features": 2},
    "ConvEnergy": {"image_shape": (1, 8, 8), "features": 2},
    "DivergenceTriangle": {"generator": ConvGenerator(4, (1, 8, 8), features=2)},
    "EnergyMLP": {"latent_dim": 4, "hidden_dim": 8},
    "Geometric": {"num_intervals": 4, "first": 0.1},
    "LatentEBM": {"energy": EnergyMLP(4, hidden_dim=8), "generator": ConvGenerator(4, (1, 8, 8), features=2)},
    "MALA": {"step_size": 0.1, "num_steps": 2},
    "PowerLaw": {"num_temperatures": 4, "power": 2.0},
    "ReplicaExchange": {"kernel": ULA(0.1, 2)},
    "ULA": {"step_size": 0.1, "num_steps": 2},
    "VAE": {"generator": ConvGenerator(4, (1, 8, 8), features=2)},
}
CLASSES = [getattr(importlib.import_module(path.rpartition(".")[0]), path.rpartition(".")[2]) for path in PATHS]
FIELDS = [
    (kind, name)
    for kind in (*CLASSES, DecayedAdam, GaussianKL)
    for name, field in inspect.signature(kind).parameters.items()
    if field.annotation in (float, "float", float | None, "float | None")
]


def made(kind, **fields):
    return kind(**{**NEEDED.get(kind.__name__, {}), **fields})


def test_every_number_is_here():
    """One that is added is tried without a word; that none is found would go unnoticed."""
    names = {f"{kind.__name__}.{name}" for kind, name in FIELDS}
    assert names >= {"ULA.step_size", "MALA.gain", "LatentEBM.likelihood_sigma", "DecayedAdam.decay_rate"}
    assert names >= {
        "EnergyAlarm.largest_tilt",
        "PosteriorAlarm.largest_movement",
        "Geometric.first",
        "GaussianKL.ridge",
    }
    for kind in {kind for kind, _ in FIELDS}:
        made(kind)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_no_number_may_be_infinite_or_none(kind, name, value):
    with pytest.raises(ValueError, match=str(value)):
        made(kind, **{name: value})


@pytest.mark.parametrize("value", [0.0, 1e-40, 1e-30, 1e30])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(ULA, "step_size"), (MALA, "step_size"), (DecayedAdam, "learning_rate")]
    + [(kind, name) for kind, name in FIELDS if name.endswith("_sigma")],
)
def test_what_single_precision_makes_zero_or_infinite_is_refused(kind, name, value):
    """1e-30 has a square that is zero there, and 1e30 one that is infinite."""
    with pytest.raises(ValueError, match=rf"{name} .*{re.escape(str(value))}.*single precision"):
        made(kind, **{name: value})


def test_what_single_precision_can_compute_with_is_taken():
    for value in (1e-15, 1e15):
        assert made(ULA, step_size=value).step_size == value
