"""A study's work is predicted without computing any: its operations exactly, its time from given rates."""

from types import SimpleNamespace

import pytest
import torch

from tests import ROOT
from thermoebm.callbacks.flops import count_flops
from thermoebm.cli.train import CLI
from thermoebm.densities import PowerPosterior
from thermoebm.networks import ConvGenerator
from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration
from thermoebm.runtime.step_time import Rates, Trace
from thermoebm.samplers import MALA
from thermoebm.schedules import PowerLaw
from thermoebm.study.planning.definitions import EVIDENCE
from thermoebm.study.planning.file import read
from thermoebm.study.planning.traces import Machine, adam_seconds, trace_chains, trace_gradient, without_values
from thermoebm.study.planning.work import Counter
from thermoebm.study.running import plan

# A launch costs nothing, so that all times are proportional to the images.
MACHINE = Machine(Rates(matrix=1e9, convolution=1e9, bandwidth=1e9, launch=0.0, transposition=1e9))


@pytest.mark.parametrize("objective", ["maximum likelihood", "endpoints", "contrastive", "pathwise"])
@pytest.mark.parametrize("channels", [1, 3])
def test_traced_operations_are_those_that_a_run_counts(small_model, objective, channels):
    """With and without the whole ladder, for another batch and longer chains than were traced."""
    made = ThermodynamicIntegration(objective, PowerLaw(3)) if objective != "maximum likelihood" else None
    model = small_model(objective=made or MaximumLikelihood(), generator=ConvGenerator(8, (channels, 16, 16), 2))
    model.prior_sampler.num_steps, model.posterior_sampler.num_steps = 7, 5
    parts = trace_gradient(model)
    x = torch.zeros(9, channels, 16, 16)
    for step in (0, 1):
        part = parts[model.objective.whole_ladder(step)]
        flops, seconds = part.amount(model, 9, MACHINE)
        assert flops == pytest.approx(count_flops(model, x, step), rel=1e-5)  # torch 2.6 counts the trapezium too
        twice = part.amount(model, 18, MACHINE)
        assert list(twice) == pytest.approx([2 * flops, 2 * seconds], rel=1e-12)


def test_nothing_is_computed_or_changed(small_model):
    model = small_model()
    before = [p.clone() for p in model.parameters()]
    twin = without_values(model)
    assert all(p.is_meta for p in twin.parameters())
    assert [p.shape for p in twin.parameters()] == [p.shape for p in before]
    trace_gradient(model)
    trace_chains(model)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert (model.prior_sampler.num_steps, model.posterior_sampler.num_steps) == (3, 2)
    assert not any(p.is_meta for p in model.parameters())


def test_a_step_of_adam_reads_four_numbers_of_a_parameter_and_writes_three(small_model):
    model = small_model()
    count = sum(p.numel() for p in model.parameters())
    assert adam_seconds(model, MACHINE.rates) == pytest.approx(count * 7 * 4 / 1e9)


@pytest.fixture(scope="module")
def digits():
    return read(ROOT / "configs/study/digits.yaml", CLI)


def test_a_run_is_its_steps_and_measurements(digits):
    """40 epochs of 20 batches, one step in ten with a ladder; draws and samples as its config says."""
    counter = Counter(lambda cell: MACHINE)
    cell = next(cell for cell in digits.cells if cell.name.startswith("p "))
    config, model, work = cell.composed.config, cell.composed.model, counter.work(cell)
    batch, epochs = config["data"]["init_args"]["batch_size"], config["trainer"]["max_epochs"]
    steps = epochs * (1500 // batch)
    ladders = sum(map(model.objective.whole_ladder, range(steps)))
    gradient = {kind: part.amount(model, batch, MACHINE) for kind, part in trace_gradient(model).items()}
    assert work.steps == steps
    training = ladders * gradient[True] + (steps - ladders) * gradient.get(False, 0)
    assert work.training.flops == pytest.approx(training[0])
    assert work.training.seconds == pytest.approx(training[1] + steps * adam_seconds(model, MACHINE.rates))
    variance = config["gradient_variance"]
    times = epochs // variance["every_n_epochs"] if variance["every_n_epochs"] else 0
    draws = variance["num_batches"] * variance["repetitions"] * (times * len(variance["splits"]) + 1)
    assert work.draws.flops == pytest.approx(draws * gradient[model.objective.whole_ladder(None)][0])
    assert work.seconds == work.training.seconds + work.draws.seconds + work.chains.seconds


def test_annealed_evidence_is_all_steps_of_all_its_trials(digits):
    """4 chains of 125 + 250 + 500 + 1,000 steps for each of 297 images, as a run counts them; none is less."""
    cell = digits.cells[0]
    chains = {kind: Counter(lambda cell: MACHINE, kind).work(cell).chains.flops for kind in EVIDENCE}
    model = cell.composed.model
    path = PowerPosterior(model.prior, model.likelihood, torch.zeros(297, 1, 8, 8), torch.ones(()))
    kernel = MALA(0.01, 1)
    with Trace() as trace:
        state = kernel.init(path, torch.zeros(297, 32))
    step = sum(
        operation.flops for operation in trace.operations
    )  # a pass through each network and back, which is what a step takes
    assert chains["annealed"] - chains["short"] == pytest.approx(4 * 1875 * step, rel=1e-6)
    assert state.z.shape == (297, 32)
    assert chains["none"] < chains["short"]


def test_models_that_differ_in_values_only_are_traced_once(digits):
    """Generators of two sizes need two sets of chains; the prediction is that of each cell alone."""
    counter = Counter(lambda cell: MACHINE)
    together = [counter.work(cell) for cell in digits.cells]
    assert together == [Counter(lambda cell: MACHINE).work(cell) for cell in digits.cells]
    functions = [key.partition("{")[0] for key in counter._traced]
    assert functions.count("trace_chains") == 2
    assert 2 < functions.count("trace_gradient") < len(digits.cells)


def test_the_plan_says_what_it_follows_from(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "measured", lambda device: Rates(2e11, 1.5e11, 2e10, 5e-6, 4e9))
    lines = plan.plan(digits, tmp_path, jobs=1, threads_each=1, runs_per_gpu=1)
    assert len(lines) == len(digits.runs) + 4
    assert lines[-1].endswith(
        "200 GFLOP/s of matrix products, 150 GFLOP/s of convolutions, 20.0 GB/s, transposed 4.00 GB/s, 5.0 µs for each "
        "operation."
    )
    assert "39 runs of 13 cells" in lines[-2]


def test_how_a_cell_is_executed_here(digits, monkeypatch):
    """Small networks are compiled, on one thread; rates are measured once for each way."""
    asked = []
    monkeypatch.setattr(plan, "measured", lambda device: asked.append(torch.get_num_threads()) or MACHINE.rates)
    monkeypatch.setattr("thermoebm.runtime.cost.has_compiler", lambda kind: True)
    machines = plan.Machines(threads_each=2)
    for cell in digits.cells:
        assert machines(cell) == Machine(MACHINE.rates, fused=True, half=False)
    assert asked == [1]
    large = SimpleNamespace(composed=SimpleNamespace(config=digits.cells[0].composed.config, model=_large(digits)))
    assert machines(large) == Machine(MACHINE.rates, fused=False, half=False)
    assert asked == [1, 2]


def _large(study):
    from thermoebm.modules import LatentEBM

    model = study.cells[0].composed.model
    return LatentEBM(model.energy, ConvGenerator(model.generator.latent_dim, (3, 32, 32), 16))
