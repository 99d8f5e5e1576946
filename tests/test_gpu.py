"""What a CUDA device must give: the same chains as a CPU, compiled or not, and a whole run."""

import copy
import math

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch

from benchmarks import __main__ as benchmarks
from tests.oracle import LinearGaussian
from thermoebm.callbacks import GradientVariance
from thermoebm.callbacks.alarms import ZeroGradientAlarm
from thermoebm.cli.train import CLI
from thermoebm.data import Digits
from thermoebm.densities import GaussianPrior, PowerPosterior, TiltedPrior
from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.objectives import ThermodynamicIntegration
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


def test_replayed_graphs_follow_start_noise_and_weights(exact_matrix_products):
    """Five chains of each kind in turn: warmed up, recorded, replayed; weights move in place between them."""
    torch.manual_seed(0)
    networks = EnergyMLP(8), ConvGenerator(8, (1, 8, 8), 2)
    x, t = torch.rand(6, 1, 8, 8).cuda() * 2 - 1, torch.tensor([0.1, 1.0], device="cuda")
    ends = {}
    for compile in ("graph", "off"):
        model = LatentEBM(*copy.deepcopy(networks), compile=compile).cuda()
        model.chains.training_batch = 6
        ends[compile] = []
        torch.compiler.reset()
        for i in range(5):
            ends[compile] += [
                model.sample_prior(6, model.stream("prior", i)),
                model.sample_posterior(x, t, model.stream("posterior", i)),
            ]
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1.1)
        manager = torch._inductor.cudagraph_trees.get_manager(0, create_if_none_exists=False)
        assert (manager is not None) == (compile == "graph")
    for replayed, eager in zip(*ends.values(), strict=True):
        torch.testing.assert_close(replayed, eager, rtol=0, atol=1e-4)


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
    fields = ["--trainer.max_epochs", "2", "--trainer.accelerator", "gpu", "--trainer.precision", precision]
    CLI(["fit", "--config", "configs/digits.yaml", "--runs", str(tmp_path), *fields])
    assert (tmp_path / "digits" / "0" / "checkpoints" / "last.ckpt").is_file()
    assert (tmp_path / "digits" / "0" / "samples" / "epoch-0002.png").is_file()
    cost = pd.read_csv(tmp_path / "digits" / "0" / "metrics.csv").filter(like="cost/").dropna()
    assert (cost > 0).all(axis=None)
    assert cost["cost/seconds/sampling"].iloc[0] > cost["cost/seconds"].iloc[0] / 2
    assert (cost["cost/peak_memory"] < torch.cuda.get_device_properties(0).total_memory).all()
