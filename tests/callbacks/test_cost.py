"""Operations agree with a count by hand; what is spent adds up; training is the same with and without the callback."""

import time
from collections import Counter
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch

from tests.tape import tape
from thermoebm.callbacks import Cost
from thermoebm.callbacks.cost import Spent
from thermoebm.callbacks.flops import count_flops
from thermoebm.data import Digits
from thermoebm.modules import LatentEBM
from thermoebm.modules.chains import Chains
from thermoebm.networks import ConvGenerator
from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration
from thermoebm.runs.loggers import MetricsCSV
from thermoebm.samplers import ULA, Recorder, compilations
from thermoebm.schedules import PowerLaw

D, HIDDEN = 8, 16
# torch 2.6 also counts the product of the trapezium, a few operations.
NEAR = partial(pytest.approx, rel=1e-5)


def operations(batch: int, features: int) -> tuple[int, int, int, int]:
    """Of one pass forward: all of the energy, its first layer, all of the generator, its first layer.

    A matrix product (n, i) @ (i, o) takes 2 n i o. A transposed 4x4 convolution takes the product of each input pixel's
    i channels with 16 o weights: 1x1 to 4x4 with 16 features, then 4x4 to 8x8 with one channel.
    """
    energy = 2 * batch * (D * HIDDEN + HIDDEN * HIDDEN + HIDDEN)
    first = 2 * batch * D * (16 * 16 * features)
    return energy, 2 * batch * D * HIDDEN, first + 2 * batch * 16 * (16 * features) * 16, first


def by_hand(batch: int, prior_steps: int, steps: int, chains: int, learned: int, read: int, features: int = 2) -> int:
    """Of one training step, from what each part of it computes.

    A score is a pass forward and one back to the inputs, each as dear: the prior's of the energy alone, the posterior's
    of both networks. A network that learns from samples also goes back to its weights, but not to the samples.

    Args:
        batch, prior_steps, steps, features: Images, steps of the chains, width of the generator.
        chains: Posterior chains of an image.
        learned: Rungs that the generator learns from; the energy does so from one positive and one negative batch.
        read: Rungs of which only the likelihood's value is taken.
    """
    energy, energy_first, generator, generator_first = operations(batch, features)
    sampling = prior_steps * 2 * energy + chains * steps * 2 * (energy + generator)
    loss = 2 * (3 * energy - energy_first) + learned * (3 * generator - generator_first) + read * generator
    return sampling + loss


def make(small_model: Any, objective: Any, prior_steps: int = 3, steps: int = 2, **fields: Any) -> LatentEBM:
    return small_model(
        objective=objective, prior_sampler=ULA(0.1, prior_steps), posterior_sampler=ULA(0.01, steps), **fields
    )


def count(model: LatentEBM, batch: int = 20, step: int = 0, **fields: Any) -> int:
    return count_flops(model, torch.zeros(batch, 1, 8, 8), step, **fields)


@pytest.mark.parametrize(("batch", "prior_steps", "steps"), [(20, 3, 2), (20, 3, 5), (20, 7, 2), (9, 3, 2)])
@pytest.mark.parametrize("n_t", [1, 4, 12])
def test_operations_are_those_counted_by_hand(small_model, batch, prior_steps, steps, n_t):
    """All chains in all their steps at all temperatures but t = 0, where there is no generator."""
    schedule, hand = PowerLaw(n_t), partial(by_hand, batch, prior_steps, steps)
    endpoints = make(small_model, ThermodynamicIntegration("endpoints", schedule, evidence_every=3), prior_steps, steps)
    assert count(endpoints, batch, 3) == NEAR(hand(chains=n_t, learned=1, read=n_t))
    assert count(endpoints, batch, 4) == NEAR(hand(chains=1, learned=1, read=0))
    maximum_likelihood = make(small_model, MaximumLikelihood(), prior_steps, steps)
    assert count(maximum_likelihood, batch, 3) == NEAR(hand(chains=1, learned=1, read=0))
    for estimator in ("contrastive", "detached"):
        model = make(small_model, ThermodynamicIntegration(estimator, schedule), prior_steps, steps)
        assert count(model, batch) == NEAR(hand(chains=n_t, learned=n_t + 1, read=0))


def test_the_priors_chain_costs_no_generator(small_model):
    """A step more is a pass of the energy there and back, whatever the generator."""
    for features in (1, 4):
        generator = ConvGenerator(D, (1, 8, 8), features=features)
        short, long = (count(make(small_model, MaximumLikelihood(), steps, generator=generator)) for steps in (10, 30))
        assert long - short == 20 * 2 * operations(20, features)[0]


def test_the_gradient_through_the_chains_is_counted_at_every_step(small_model):
    """Linear in temperatures and in steps, and dearer than the gradient at their ends."""

    def pathwise(n_t: int, steps: int) -> int:
        return count(make(small_model, ThermodynamicIntegration("pathwise", PowerLaw(n_t)), steps=steps))

    assert pathwise(30, 2) - pathwise(10, 2) == 2 * (pathwise(20, 2) - pathwise(10, 2)) > 0
    assert pathwise(2, 9) - pathwise(2, 3) == 2 * (pathwise(2, 6) - pathwise(2, 3)) > 0
    assert pathwise(4, 2) > 2 * by_hand(20, 3, 2, chains=4, learned=5, read=0)


@pytest.mark.parametrize("how", ["bfloat16", "frozen"])
def test_precision_hides_nothing_and_what_is_frozen_costs_less(small_model, how):
    model = make(small_model, MaximumLikelihood())
    if how == "frozen":
        model.energy.requires_grad_(False)
    energy, energy_first, *_ = operations(20, 2)
    backward = 2 * (2 * energy - energy_first) if how == "frozen" else 0
    context = partial(torch.autocast, "cpu", torch.bfloat16) if how == "bfloat16" else nullcontext
    assert count(model, context=context) == NEAR(by_hand(20, 3, 2, chains=1, learned=1, read=0) - backward)


def train(folder: Path, model: LatentEBM, callback: pl.Callback, **fields: Any) -> pd.DataFrame:
    """Epochs of four batches; the rows that have a cost, or all if there is none."""
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=MetricsCSV(folder),
        callbacks=[callback],
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_train_batches=4,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **({"max_epochs": 3} | fields),
    )
    trainer.fit(model, datamodule=Digits(batch_size=20))
    table = pd.read_csv(folder / "metrics.csv")
    return table.dropna(subset="cost/flops") if "cost/flops" in table else table


def test_an_epochs_operations_are_those_of_its_steps(small_model, tmp_path):
    """Whole ladders at steps 0, 3, 6 and 9 of 12: two of the first four, one of the next, one of the last."""
    model = make(small_model, ThermodynamicIntegration("endpoints", PowerLaw(5), evidence_every=3))
    table = train(tmp_path, model, Cost())
    ladder = by_hand(20, 3, 2, chains=5, learned=1, read=5)
    plain = by_hand(20, 3, 2, chains=1, learned=1, read=0)
    epochs = [2 * ladder + 2 * plain, ladder + 3 * plain, ladder + 3 * plain]
    assert table["cost/flops_per_step"].tolist() == pytest.approx([flops / 4 for flops in epochs], rel=1e-5)
    assert table["cost/flops"].tolist() == pytest.approx([sum(epochs[: i + 1]) for i in range(3)], rel=1e-5)
    spent = table["cost/flops_per_second"] * table["cost/seconds"]
    assert spent.tolist() == pytest.approx(epochs, rel=1e-5)
    assert (table["cost/images_per_second"] * table["cost/seconds"]).tolist() == pytest.approx([80] * 3, rel=1e-5)
    assert table["cost/seconds_first_step"].notna().tolist() == [True, False, False]
    later = table["cost/seconds_per_step"].iloc[1:] * 4
    assert later.tolist() == pytest.approx(table["cost/seconds"].iloc[1:].tolist(), rel=1e-5)
    rate = table["cost/flops_per_second"] / table["cost/of_matrix_rate"]
    assert rate.iloc[1] == pytest.approx(rate.iloc[2], rel=1e-5)
    assert (table["cost/recorded"] == 0).all()


def test_the_first_step_is_apart_from_the_others(small_model, tmp_path):
    """It takes a second: no later step of its epoch is said to, and whoever waits for it is told."""
    model = make(small_model, MaximumLikelihood())
    step, began = model.training_step, time.perf_counter()
    model.training_step = lambda batch, batch_idx: (time.sleep(float(batch_idx == 0)), step(batch, batch_idx))[1]
    first = train(tmp_path, model, Cost(), max_epochs=1).iloc[0]
    passed = time.perf_counter() - began
    assert 1 < first["cost/seconds_first_step"] < passed
    assert first["cost/seconds"] > 1
    assert first["cost/seconds_per_step"] < 0.3


def test_the_share_of_chains_that_were_replayed(small_model, tmp_path, monkeypatch):
    """Eight chains an epoch: two first calls and two recorded ones in the first."""
    monkeypatch.setattr(Chains, "_records", lambda chains, device: True)
    model = make(small_model, MaximumLikelihood())
    model.chains.recorder = Recorder(tape)
    monkeypatch.setattr(model, "validation_step", lambda batch, batch_idx: None)
    assert train(tmp_path, model, Cost())["cost/recorded"].tolist() == [0.5, 1.0, 1.0]


class Traces(ThermodynamicIntegration):
    """Counts its calls in a buffer, and draws from torch's own generator."""

    def __call__(self, model: Any, x: torch.Tensor, rng: torch.Generator, *, step: int | None = 0) -> Any:
        model.calls += 1
        return super().__call__(model, x + 0.01 * torch.randn_like(x), rng, step=step)


def test_counting_leaves_no_trace(small_model, tmp_path):
    """Weights and every logged number are the same, bit by bit, with the callback and without; so is torch's state."""
    results = []
    for name, callback in (("without", pl.Callback()), ("with", Cost())):
        model = make(small_model, Traces("endpoints", PowerLaw(2), evidence_every=3))
        model.register_buffer("calls", torch.zeros(()))
        torch.manual_seed(1)
        train(tmp_path / name, model, callback)
        table = pd.read_csv(tmp_path / name / "metrics.csv", dtype=str)
        shared = [column for column in table if not column.startswith("cost/")]
        table = table.loc[table[shared].drop(columns=["step", "epoch"]).notna().any(axis=1), shared]
        weights = torch.cat([p.flatten() for p in model.parameters()])
        results.append((table.reset_index(drop=True), weights, model.calls, torch.random.get_rng_state()))
    pd.testing.assert_frame_equal(results[0][0], results[1][0])
    assert all(torch.equal(a, b) for a, b in zip(results[0][1:], results[1][1:], strict=True))


def test_counting_keeps_the_gradients_that_are_there(small_model):
    model = make(small_model, MaximumLikelihood())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    count(model)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())


def test_counting_compiles_nothing_and_says_so(small_model, capsys):
    model = make(small_model, MaximumLikelihood(), compile="on")
    model.chains.training_batch = 20
    compiled = compilations()
    count(model)
    assert (compilations(), capsys.readouterr().out) == (compiled, "")
    assert model.chains.training_batch == 20


def test_a_dry_run_has_its_line_too(small_model, tmp_path):
    cost = Cost()
    train(tmp_path, make(small_model, MaximumLikelihood()), cost, max_epochs=1)
    trainer = pl.Trainer(accelerator="cpu", fast_dev_run=True, enable_model_summary=False, callbacks=[cost])
    trainer.fit(make(small_model, MaximumLikelihood()), datamodule=Digits(batch_size=20))
    assert cost.summary().startswith("1 steps in ")
    assert Cost().summary() == ""


def test_the_closing_line_is_what_was_spent():
    """150,000 images in 2,000 steps of 118 s are 16.9 steps/s, 1,271 images/s; 625 GFLOP in it 5.30 GFLOP/s."""
    cost = Cost()
    seconds = {"loading": 1.18, "sampling": 83.78, "backward": 10.62, "optimizer": 17.7, "rest": 4.72, "measuring": 6.5}
    cost._fit, cost._memory = Spent(2000, 150_000, 625_400_000_000, Counter(seconds)), 6e8
    cost._matrix_rate, cost._processes = 26.5e9, 2
    assert cost.summary() == (
        "2,000 steps in 118 s: 16.9 steps/s, 1,271 images/s, 5.30 GFLOP/s, 10 % of the rate of large matrix products; "
        "sampling 71 %, optimizer 15 %, backward 9 %, rest 4 %, loading 1 %; 6.50 s more of measuring; "
        "peak memory 600 MB"
    )
