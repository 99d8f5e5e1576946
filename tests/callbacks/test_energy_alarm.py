"""When the alarm for a runaway energy sounds; test_rollback.py has what is done then."""

import math
import multiprocessing
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.distributed import _sync_ddp_if_available
from torch import Tensor, distributed

from thermoebm.callbacks import EnergyAlarm
from thermoebm.callbacks.energy_alarm import Vitals
from thermoebm.networks import Energy
from thermoebm.objectives import MaximumLikelihood
from thermoebm.samplers import ULA


class Linear(Energy):
    """f(z) = a·z + 10 with fixed a."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.latent_dim = len(slope)
        self.slope = torch.nn.Parameter(slope)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.slope + 10


def test_energy_alarm_logs_tilt_and_mean_square_of_a_linear_energy(small_model, fit):
    """ULA on N(σ²a, σ²I): E[f] - E_π0[f] = σ²|a|² (1 - (1 - s/σ²)^K), E[z²] by its own variance σ²/(1 - s/2σ²)."""
    slope, sigma, s, k = torch.full((8,), 0.5 / math.sqrt(8)), 2.0, 0.4, 60
    model = small_model(energy=Linear(slope), prior_sigma=sigma, prior_sampler=ULA(s, k))
    model.energy.requires_grad_(False)
    trainer = fit(model, alarm := EnergyAlarm(count=4096))
    logged = trainer.callback_metrics
    # Standard errors over 4,096 chains: |a| sqrt((4.21 + 4) / 4096) = 0.022 and 1.05 sqrt(2 / (8 · 4096)) = 0.0083.
    assert logged["prior/energy_tilt"] == pytest.approx(4 * 0.25 * (1 - 0.9**k), abs=4 * 0.022)
    assert logged["prior/mean_square"] == pytest.approx(4 * 0.25 / 8 + 1 / 0.95, abs=4 * 0.0083)
    assert alarm.measure(trainer, model).tilt_error == pytest.approx(0.022, rel=0.06)


def test_a_fresh_energy_raises_no_alarm(small_model, fit):
    assert abs(fit(small_model(), EnergyAlarm()).callback_metrics["prior/energy_tilt"]) < 4


def test_chains_that_run_away_are_reported(small_model, fit):
    """Only the chains explode: |1 - s| > 1."""
    model = small_model(prior_sampler=ULA(2.5, 30), objective=MaximumLikelihood())
    model.energy.requires_grad_(False)
    for p in model.energy.parameters():
        p.fill_(0)
    with pytest.warns(UserWarning, match=r"The energy ran away in epoch 0: .*chains is \S*e\+\d\d "):
        fit(model, EnergyAlarm("warn"))


def test_an_energy_that_is_not_a_number_is_reported(small_model, fit):
    """By an alarm alone; training itself would have stopped before."""
    model, alarm = small_model(), EnergyAlarm("warn")
    trainer = fit(model, alarm)
    model.energy.layers[0].bias.data.fill_(math.nan)
    vitals = alarm.measure(trainer, model)
    assert alarm.fault(vitals).startswith("parameters are not finite and E_prior[f] - E_reference[f] is nan nats")


def test_a_steep_energy_is_reported_while_its_chains_are_still_near(small_model, fit):
    """|a| = 50 moves short chains by 50 (1 - 0.99⁶) = 2.9, so the tilt is 146 and the mean square 2.9²/8 + 1 = 2.1."""
    model = small_model(energy=Linear(torch.full((8,), 50 / math.sqrt(8))), prior_sampler=ULA(0.01, 6))
    model.energy.requires_grad_(False)
    # Standard error of the tilt over 256 chains: at most 50 sqrt(2 / 256) = 4.4.
    with pytest.warns(UserWarning, match=r"ran away in epoch 0: .*f\] is 1[2-6]\d nats \(limit ±100\); training"):
        fit(model, EnergyAlarm("warn"))


@pytest.mark.parametrize(
    ("vitals", "said"),
    [
        (Vitals(100, 1, 4, 0), None),
        (Vitals(-0.99, 0, 0.25, 0), None),
        (Vitals(-8, 2.1, 1, 0), None),
        (Vitals(101, 1, 1, 0), r"E_prior\[f\] - E_reference\[f\] is 101 nats \(limit ±100\)"),
        (Vitals(-101, 30, 1, 0), r"E_prior\[f\] - E_reference\[f\] is -101 nats \(limit ±100\)"),
        (Vitals(-1.1, 0.2, 1, 0), r"E_prior\[f\] - E_reference\[f\] is -1.1 ± 0.2 nats, which is never negative .*"),
        (Vitals(-8, 1.9, 1, 0), r".* is -8 ± 2 nats, which is never negative for exact chains"),
        (Vitals(math.nan, math.nan, 1, 0), r"E_prior\[f\] - E_reference\[f\] is nan .*"),
        (Vitals(0, 1, 4.1, 0), r"\|z\|²/\(d σ0²\) of the prior chains is 4.1 \(limits 0.25 and 4\)"),
        (Vitals(0, 1, 0.2, 0), r".* is 0.2 \(.*"),
        (Vitals(0, 1, math.nan, 0), r".* is nan \(.*"),
        (Vitals(0, 1, 1, 0.5), "parameters are not finite"),
        (Vitals(math.inf, math.nan, math.inf, 1), "parameters .* and .* is inf nats .* and .* is inf .*"),
    ],
)
def test_limits_are_kept_from_both_sides(vitals, said):
    fault = EnergyAlarm().fault(vitals)
    assert fault is None if said is None else re.fullmatch(said, fault)


@pytest.mark.parametrize(
    "fields",
    [
        *({"count": 0}, {"largest_tilt": float("nan")}, {"largest_mean_square": 1.0}),
        *({"factor": 1.0}, {"factor": 0.0}, {"max_rollbacks": 0}, {"on_runaway": "no"}),
        *({"least_acceptance": 1.1}, {"least_acceptance": float("nan")}),
    ],
)
def test_impossible_settings(fields):
    with pytest.raises(ValueError, match=str(*fields.values())):
        EnergyAlarm(**fields)


def one_of_two(rank, small_model, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(reduce=_sync_ddp_if_available))
    model, seen = small_model(energy=Linear(torch.zeros(8))), []
    for slope in (10.0 * rank, math.nan if rank else 0.0):
        model.energy.slope.data.fill_(slope)
        seen.append(EnergyAlarm(count=4096).measure(trainer, model))
    torch.save([tuple(vitals) for vitals in seen], f"{folder}/{rank}")
    distributed.destroy_process_group()


def test_two_processes_judge_the_same_means(small_model, tmp_path):
    """The tilt σ²|a|² (1 - (1 - s)³) of one and zero of the other, and the NaN of one alone."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=one_of_two, args=(rank, small_model, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    seen = [[Vitals(*v) for v in torch.load(tmp_path / str(rank), weights_only=True)] for rank in range(2)]
    assert str(seen[0]) == str(seen[1])
    first, second = seen[0]
    assert first.tilt == pytest.approx(800 * (1 - 0.9**3) / 2, abs=4 * 28.3 * math.sqrt(2 / 4096))
    assert first.broken == 0
    assert math.isnan(second.tilt)
    assert second.broken == 0.5
