"""What a CUDA device must give: the same chains as a CPU, compiled, recorded or neither, and a whole run."""

import copy
import gc
import math

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from benchmarks import __main__ as benchmarks
from tests import ROOT
from tests.cli.test_train import cli
from tests.oracle import LinearGaussian
from tests.samplers.test_recorded import (
    another_layer,
    another_likelihood_sigma,
    another_prior_sigma,
    another_step_size,
    loaded,
    moved,
    replaced,
)
from thermoebm.callbacks import GradientVariance
from thermoebm.callbacks.alarms import ZeroGradientAlarm
from thermoebm.data import Digits
from thermoebm.densities import GaussianPrior, PowerPosterior, TiltedPrior
from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.optim import DecayedAdam, build
from thermoebm.samplers import ULA, run
from thermoebm.schedules import PowerLaw

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; this machine has none"),
]


@pytest.fixture(autouse=True)
def _nothing_compiled():
    """What other tests compiled counts towards the limit of versions of one function."""
    torch.compiler.reset()


@pytest.fixture
def exact_matrix_products():
    """Float32 products without TF32, for comparisons with the CPU."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_chains_on_cuda_are_those_on_cpu(exact_matrix_products):
    """The same noise gives the same chain in float64, eager and compiled."""
    oracle = LinearGaussian()
    noise = torch.randn(10, 5, 3, dtype=torch.float64)
    start = torch.zeros(5, 3, dtype=torch.float64)
    on_cpu, _ = run(ULA(0.02, 10), oracle.power_posterior(0.5, 5), start, noise)
    oracle.energy.cuda()
    oracle.generator.cuda()
    half = torch.tensor(0.5, dtype=torch.float64, device="cuda")
    density = PowerPosterior(oracle.prior, oracle.likelihood, oracle.images(5).cuda(), half)
    for compiled in (False, True):
        on_cuda, _ = run(ULA(0.02, 10), density, start.cuda(), noise.cuda(), block=5 if compiled else None)
        torch.testing.assert_close(on_cuda.z.cpu(), on_cpu.z, rtol=0, atol=1e-9)


def small(compile="graph", **arguments):
    torch.manual_seed(0)
    networks = EnergyMLP(8), ConvGenerator(8, (3, 16, 16), 2)
    kernels = {"prior_sampler": ULA(0.1, 6), "posterior_sampler": ULA(0.01, 5)}
    return LatentEBM(*networks, compile=compile, **kernels, **arguments).cuda()


def ends(model, seed=0, count=6):
    """Ends of a prior chain and of chains at two temperatures."""
    x = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)).cuda() * 2 - 1
    t = torch.tensor([0.1, 1.0], device="cuda") / (1 + seed)
    prior = model.sample_prior(count, model.stream("prior", seed))
    return [prior, model.sample_posterior(x, t, model.stream("posterior", seed))]


@pytest.mark.parametrize("training_batch", [6, None])  # compiled steps are recorded, or eager ones
def test_recorded_chains_follow_start_noise_temperatures_and_weights(training_batch, exact_matrix_products):
    """Five chains of each kind in turn: run, recorded, replayed; weights move in place between them."""
    found = {}
    for compile in ("graph", "off"):
        model = small(compile)
        model.chains.training_batch = training_batch
        found[compile] = []
        for i in range(5):
            found[compile] += ends(model, i)
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1.1)
        assert model.chains.recorder.replays == (6 if compile == "graph" else 0)
    torch.testing.assert_close(found["graph"], found["off"], rtol=0, atol=1e-4)


CHANGES = (loaded, moved, replaced, another_layer, another_likelihood_sigma, another_prior_sigma, another_step_size)


@pytest.mark.parametrize("change", CHANGES)
def test_a_recorded_chain_never_goes_stale(change, exact_matrix_products):
    model = small()
    for _ in range(3):
        ends(model)
    assert model.chains.recorder.replays == 2
    change(model)
    plain = copy.deepcopy(model)
    plain.chains.compile = "off"
    for _ in range(3):
        torch.testing.assert_close(ends(model), ends(plain), rtol=0, atol=1e-4)


def test_recordings_give_their_memory_back():
    """Twenty batch sizes five times over, of which sixteen recordings are kept; libraries keep workspaces of their own.

    All sizes come in each round: what a recording takes grows with its batch, in blocks of 2 and 20 MiB.
    """
    model, reserved = small(), []
    for _ in range(2):
        ends(model)
    model.chains.recorder.clear()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(5):
        for count in range(1, 101, 5):
            for _ in range(2):
                ends(model, count=count)
        reserved.append(torch.cuda.memory_reserved())
    del model
    gc.collect()
    torch.cuda.empty_cache()
    assert reserved[-1] <= 1.25 * reserved[1]
    assert torch.cuda.memory_reserved() <= before


def test_inference_mode_and_autocast_have_recordings_of_their_own():
    model, plain = small(), small("off")
    for autocast in (False, True, False, True):
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            for inference in (True, True, False, True):
                with torch.inference_mode(inference):
                    found = ends(model)
                torch.testing.assert_close(found, ends(plain), rtol=0, atol=1e-3 if autocast else 1e-4)
    assert model.chains.recorder.replays > 8


def test_the_optimiser_is_fused_wherever_its_state_comes_from():
    states = {}
    for device, other in (("cpu", "cuda"), ("cuda", "cpu")):
        network, twin = nn.Linear(3, 4).to(device), nn.Linear(3, 4).to(other)
        optimizer, _ = build([(network, DecayedAdam())])
        network(torch.ones(2, 3, device=device)).sum().backward()
        optimizer.step()
        resumed, _ = build([(twin, DecayedAdam())])
        resumed.load_state_dict(tree_map_only(torch.Tensor, torch.Tensor.cpu, optimizer.state_dict()))
        twin(torch.ones(2, 3, device=other)).sum().backward()
        resumed.step()
        states[other] = [bool(group["fused"]) for group in resumed.param_groups]
    assert states == {"cuda": [True], "cpu": [False]}


def test_stationary_variance_on_cuda():
    """1 / (1 - s/2), s = 0.5, from a CUDA stream of random numbers; 4 standard errors v sqrt(2/n)."""
    torch.manual_seed(0)
    density = TiltedPrior(lambda z: 0 * z.sum(-1), GaussianPrior())
    state, _ = run(ULA(0.5, 60), density, torch.zeros(100_000, 1, device="cuda"), torch.randn(60, 100_000, 1).cuda())
    exact = 1 / (1 - 0.25)
    assert abs(state.z.var().item() - exact) < 4 * exact * math.sqrt(2 / 100_000)


@pytest.mark.parametrize("estimator", ["endpoints", "contrastive", "pathwise"])
def test_a_compiled_step_at_the_reports_size(estimator, exact_matrix_products):
    """The loss of the CIFAR-10 networks is finite, and compiled equals eager to 1e-4."""
    losses = []
    for compile in ("off", "on", "graph"):
        torch.manual_seed(0)
        model = LatentEBM(
            EnergyMLP(100),
            ConvGenerator(100, (3, 32, 32), 16),
            ThermodynamicIntegration(estimator, PowerLaw(3, 2.0)),
            posterior_sampler=ULA(0.01, 5),
            compile=compile,
        ).cuda()
        model.chains.training_batch = 75
        x = torch.rand(75, 3, 32, 32, generator=torch.Generator().manual_seed(0)).cuda() * 2 - 1
        for _ in range(3):  # the last one is replayed
            model.zero_grad()
            output = model.objective(model, x, model.stream("test"))
            output.loss.backward()
        losses.append(output.loss.item())
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-4)


class NeverWait(pl.Callback):
    """Makes whatever waits for the device within a training step an error.

    The first steps may, since they compile and record.
    """

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("error" if batch_idx >= 3 else "default")

    def on_train_batch_end(self, *args):
        torch.cuda.set_sync_debug_mode("default")

    on_exception = on_train_batch_end


def test_the_benchmark_agrees_with_its_peer_in_every_way():
    arguments = ["--quick", "--only", "prior,posterior", "--ways", "eager,compiled,graph", "--json", "/dev/null"]
    assert benchmarks.main(arguments) == 0


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_no_step_waits_for_the_device(tmp_path):
    model = LatentEBM(
        EnergyMLP(8), ConvGenerator(8, (1, 8, 8), 2), ThermodynamicIntegration("contrastive", PowerLaw(4, 2.0))
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "inference_mode": False}
    callbacks = [ZeroGradientAlarm(), GradientVariance(0), NeverWait()]
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="gpu",
        devices=1,
        log_every_n_steps=100,
        limit_val_batches=0,
        callbacks=callbacks,
        **quiet,
    )
    trainer.fit(model, Digits())
    assert trainer.global_step == 20


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_whole_run_on_cuda(tmp_path, precision):
    fields = ["--trainer.max_epochs", 2, "--trainer.accelerator", "gpu", "--trainer.precision", precision]
    cli("fit", "--config", ROOT / "configs/digits.yaml", "--runs", tmp_path, *fields)
    run = tmp_path / "digits" / "0"
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert (run / "samples" / "epoch-0002.png").is_file()
    table = pd.read_csv(run / "metrics.csv").filter(like="cost/").drop(columns="cost/seconds_first_step")
    cost = table.dropna()
    assert len(cost) == 2
    assert (cost > 0).all(axis=None)
    assert (cost["cost/recorded"] > 0.8).all()
    assert cost["cost/seconds/sampling"].iloc[0] > cost["cost/seconds"].iloc[0] / 2
    assert (cost["cost/peak_memory"] < torch.cuda.get_device_properties(0).total_memory).all()
