"""The early sign of a runaway energy: the acceptance of a corrected step at the ends of uncorrected chains."""

import math
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from thermoebm.callbacks import EnergyAlarm
from thermoebm.callbacks.energy_alarm import Vitals
from thermoebm.densities import GaussianPrior
from thermoebm.samplers import MALA, ULA, corrected_acceptance


@pytest.mark.parametrize("step", [0.16, 0.8])
def test_the_acceptance_of_a_step_on_a_normal_density(step):
    """log r = s (|z|² - |z'|²) / 4 for N(0, 1) and z' = (1 - s) z + sqrt(2 s) ε, at stationary z: by quadrature."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(200_000, 1, generator=rng, dtype=torch.float64)
    found = corrected_acceptance(GaussianPrior(1.0), z, step, rng)
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    weight = torch.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    end = (1 - step) * grid[:, None] + math.sqrt(2 * step) * grid[None, :]
    ratio = torch.exp(step * (grid[:, None] ** 2 - end**2) / 4).clamp(max=1)
    expected = (weight[:, None] * weight[None, :] * ratio).sum()
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - expected) < 4 * error
    assert error < 0.002


def test_it_is_measured_for_uncorrected_chains_only(small_model):
    trainer: Any = type("Trainer", (), {"strategy": type("S", (), {"reduce": staticmethod(lambda x, reduce_op: x)})})
    short = small_model(prior_sampler=ULA(0.16, 3))
    larger = small_model(prior_sampler=ULA(1.6, 3))
    assert 0.8 < EnergyAlarm(count=500).measure(trainer, short).acceptance < 1
    assert EnergyAlarm(count=500).measure(trainer, larger).acceptance < 0.6
    assert EnergyAlarm(count=500).measure(trainer, small_model(prior_sampler=MALA(1.6, 3))).acceptance == 1


class Told(EnergyAlarm):
    """Is told the vitals of each epoch."""

    def __init__(self, *vitals: Vitals, **fields: Any) -> None:
        super().__init__(**fields)
        self._vitals = list(vitals)

    def measure(self, trainer: pl.Trainer, model: Any) -> Vitals:
        return self._vitals.pop(0)


def vitals(acceptance: float, tilt: float = 5.0) -> Vitals:
    return Vitals(tilt, 1.0, 1.0, 0.0, acceptance)


class Weights(pl.Callback):
    def __init__(self) -> None:
        self.ends: list[torch.Tensor] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.ends.append(torch.cat([p.detach().flatten() for p in pl_module.parameters()]))


@pytest.mark.parametrize(
    ("acceptances", "back"),
    [((0.9, 0.5, 0.4), 0), ((0.5, 0.5, 0.4), 2), ((0.9, 0.5, 0.7), 2), ((0.5, 0.9, 0.5), 1)],
)
def test_a_rollback_leads_to_the_last_epoch_whose_chains_could_be_trusted(small_model, fit, acceptances, back):
    """The fourth epoch is a runaway; if chains could never be trusted, the last healthy epoch has to do."""
    alarm, ends = Told(*map(vitals, acceptances), vitals(0.4, tilt=-50)), Weights()
    with pytest.warns(UserWarning, match="accepted with probability|ran away") as seen:
        fit(small_model(), [alarm, ends], max_epochs=4)
    assert torch.equal(ends.ends[3], ends.ends[back])
    early = [w for w in seen if "too large for the energy" in str(w.message)]
    assert len(early) == 1
    first = next(i for i, acceptance in enumerate(acceptances) if acceptance < 0.6)
    assert f"since epoch {first}: " in str(early[0].message)


def test_enough_acceptance_is_not_told(small_model, fit, recwarn):
    fit(small_model(), [alarm := Told(vitals(0.61), vitals(1.0))], max_epochs=2)
    assert alarm.state_dict()["healthy_epoch"] == 1
    assert not [w for w in recwarn if "accepted with probability" in str(w.message)]
