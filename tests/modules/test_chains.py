"""How chains are run: whatever is chosen for speed, their ends are those of the plain way."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from thermoebm.callbacks import GradientVariance
from thermoebm.callbacks.alarms import ZeroGradientAlarm
from thermoebm.modules import chains as chains_module
from thermoebm.modules import rounded as rounded_module
from thermoebm.networks import ConvGenerator
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.runtime import cost
from thermoebm.schedules import PowerLaw

T = torch.linspace(0.1, 1, 10)


def images(count):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def sample(model, count=6, t=T):
    return model.sample_posterior(images(count), t, model.stream("test"))


def record(monkeypatch, module, name, of_call):
    """What ``of_call`` makes of the arguments of each call of a function, which is carried out all the same."""
    seen, inner = [], getattr(module, name)

    def recorded(*args, **kwargs):
        seen.append(of_call(*args, **kwargs))
        return inner(*args, **kwargs)

    monkeypatch.setattr(module, name, recorded)
    return seen


@pytest.mark.parametrize("normalization", ["none", "group", "trained_statistics"])
def test_weights_rounded_once_are_what_autocast_makes_of_them_at_each_step(small_model, monkeypatch, normalization):
    """The same numbers to the last bit; and rounding does change them."""
    model = small_model(generator=ConvGenerator(8, (1, 8, 8), 2, normalization=normalization))
    with torch.autocast("cpu", torch.bfloat16):
        once = sample(model)
        monkeypatch.setattr(chains_module, "rounded", lambda likelihood, device: likelihood)
        each_step = sample(model)
    assert torch.equal(once, each_step)
    assert (once - sample(model)).abs().max() > 1e-5


def test_autocast_rounds_each_weight_once_a_chain(small_model, monkeypatch):
    model = small_model()
    made = record(monkeypatch, rounded_module._Network, "__init__", lambda rounded, network, dtype: dtype)
    with torch.autocast("cpu", torch.bfloat16):
        sample(model)
    assert made == [torch.bfloat16]
    sample(model)
    model.float().double()
    assert len(made) == 1  # without autocast nothing is rounded


@pytest.mark.parametrize(
    ("count", "limit", "chunks"),
    # Latents side by side, for a batch of six; ten temperatures in equal chunks.
    [(10, 60, [10]), (10, 59, [5, 5]), (10, 29, [2] * 5), (10, 5, [1] * 10), (7, 41, [1] * 7), (1, 20, [1])],
)
def test_on_a_cpu_a_limited_number_of_latents_runs_together(small_model, monkeypatch, count, limit, chunks):
    monkeypatch.setattr(chains_module, "LATENTS", limit)
    seen = record(monkeypatch, chains_module, "run", lambda kernel, density, z, noise, **_: len(z))
    ends = sample(small_model(), t=torch.linspace(0.1, 1, count))
    assert seen == chunks
    apart = small_model(temperature_chunk=1)
    torch.testing.assert_close(ends, sample(apart, t=torch.linspace(0.1, 1, count)), rtol=0, atol=1e-5)


class Memory:
    """Stands for a device on which so many latents fit."""

    def __init__(self, monkeypatch, fits):
        self.asked, run = [], chains_module.run

        def short_of_memory(kernel, density, z, noise, **kwargs):
            self.asked.append(len(z))
            if len(z) > fits:
                raise torch.OutOfMemoryError("out of memory")
            return run(kernel, density, z, noise, **kwargs)

        monkeypatch.setattr(chains_module, "run", short_of_memory)


def test_what_does_not_fit_in_memory_runs_in_smaller_chunks_from_then_on(small_model, monkeypatch):
    expected, model = sample(small_model(temperature_chunk=2)), small_model()
    memory = Memory(monkeypatch, fits=3)
    with pytest.warns(UserWarning, match="side by side do not fit in memory") as warnings:
        ends = sample(model)
    assert [str(w.message).rpartition(": ")[2] for w in warnings] == ["going on with 5.", "going on with 2."]
    assert memory.asked == [10, 5, 2, 2, 2, 2, 2]
    assert torch.equal(ends, expected)
    memory.asked.clear()
    sample(model)  # a warning would be an error here
    assert memory.asked == [2] * 5


@pytest.mark.parametrize(("chunk", "fits"), [(10, 3), ("auto", 0)])
def test_memory_that_is_too_short_for_what_was_asked_is_told(small_model, monkeypatch, chunk, fits):
    model = small_model(temperature_chunk=chunk)
    Memory(monkeypatch, fits)
    monkeypatch.setattr(chains_module, "rank_zero_warn", lambda message: None)
    with pytest.raises(torch.OutOfMemoryError):
        sample(model)


def test_chains_of_small_networks_take_one_thread_and_give_the_others_back(small_model, monkeypatch):
    model = small_model()
    torch.set_num_threads(2)
    seen = record(
        monkeypatch, chains_module, "run", lambda kernel, density, z, noise, **_: (z.dim(), torch.get_num_threads())
    )
    model.sample_prior(6, model.stream("test"))
    sample(model, t=T[:1])
    assert seen == [(2, 1), (3, 1)]
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(cost, "SMALL_BATCH_FLOPS", 0)
    model.sample_prior(6, model.stream("test"))
    sample(model, t=T[:1])
    assert seen[2:] == [(2, 2), (3, 2)]


def test_how_steps_are_run_is_decided_by_what_they_compute(small_model, monkeypatch):
    """The energy's batch of a prior chain, and the generator's of a posterior chain."""
    model = small_model(temperature_chunk=5)
    asked = record(monkeypatch, chains_module.Chains, "_block", lambda chains, flops, batch, noise: (flops, batch))
    used = record(monkeypatch, chains_module, "run", lambda *_, block, **__: block)
    model.sample_prior(6, model.stream("test"))
    sample(model)
    assert asked == [(6 * cost.forward_flops(model.energy), 6), (6 * cost.forward_flops(model.generator), 6)]
    assert used == [None] * 3


def test_a_prior_chain_knows_no_autocast(small_model, monkeypatch):
    """So that a callback outside autocast runs what training has compiled."""
    seen = record(monkeypatch, chains_module, "run", lambda *_, **__: torch.is_autocast_enabled("cpu"))
    model = small_model()
    with torch.autocast("cpu", torch.bfloat16):
        model.sample_prior(6, model.stream("test"))
        sample(model, t=T[:1])
    assert seen == [False, True]


class Reads(TorchDispatchMode, pl.Callback):
    """Names what a training step asks of its tensors' values, for which a host waits for its device.

    Up to the optimiser, whose own counters are on the CPU everywhere.
    """

    def __init__(self):
        super().__init__()
        self.names, self.steps = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.__enter__()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.__exit__(None, None, None)
        self.steps += 1


@pytest.mark.filterwarnings("ignore:The energy received an exactly zero gradient")
@pytest.mark.parametrize("estimator", [None, "endpoints", "contrastive", "detached", "pathwise"])
def test_no_step_waits_for_what_it_computes(small_model, estimator):
    """Chains, loss, backward pass and what callbacks do with the gradient."""
    objective = ThermodynamicIntegration(estimator, PowerLaw(4, 2.0)) if estimator else None
    reads = Reads()
    # Theirs first, so that they are watched too.
    trainer = quiet_trainer(
        1, [ZeroGradientAlarm(), GradientVariance(0), reads], log_every_n_steps=100, limit_val_batches=0
    )
    trainer.fit(small_model(objective=objective), DataLoader(images(18), 6), DataLoader(images(6), 6))
    assert reads.steps == 3
    assert reads.names == []


def quiet_trainer(epochs, callbacks, **fields):
    nothing_else = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(
        max_epochs=epochs, callbacks=callbacks, accelerator="cpu", inference_mode=False, **nothing_else, **fields
    )


def test_nothing_is_compiled_after_the_first_epoch(small_model):
    """Three epochs and, in the second, validation with batches of two sizes that training does not have."""
    model = small_model(objective=ThermodynamicIntegration("contrastive", PowerLaw(4, 2.0)), compile="on")
    graphs = []

    class Count(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    torch._dynamo.utils.counters.clear()
    trainer = quiet_trainer(3, [Count()], check_val_every_n_epoch=2, log_every_n_steps=1)
    trainer.fit(model, DataLoader(images(18), 6), DataLoader(images(13), 8))
    # Of the prior's chain one graph for its steps, of the posteriors' one for the four temperatures above zero.
    assert graphs == [2, 2, 2]
