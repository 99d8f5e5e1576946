"""The benchmarks in their quick mode: do their numbers fit together, and would a wrong chain be noticed?"""

import contextlib
import json
import math
import warnings

import pytest
import torch

from benchmarks import __main__ as program
from benchmarks import precision, report
from benchmarks.chains import Chain, Contestant, _row, deviation, run_by, watched
from benchmarks.growth import exponent
from benchmarks.measure import Effort, Group, Timing, figure, interleave
from benchmarks.models import NETWORKS, build, images
from benchmarks.peer import Peer
from tests.tape import tape
from thermoebm.densities import PowerPosterior
from thermoebm.modules.chains import Chains
from thermoebm.samplers import Recorder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The groups of one quick run, by section."""
    path = tmp_path_factory.mktemp("bench") / "deep" / "bench.json"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    status = program.main(["--quick", "--device", "cpu", "--json", str(path)])
    torch.set_num_threads(threads)
    assert status == 0
    found = json.loads(path.read_text())
    assert {"device", "torch", "threads", "commit", "date"} <= found["environment"].keys()
    sections = {}
    for group in found["groups"]:
        sections.setdefault(group["section"], []).append(group)
    assert list(sections) == list(program.SECTIONS)
    return sections


def test_every_chain_is_measured_and_agrees_with_the_peer(measured):
    """Both chains, both precisions where there are two; a figure lies within its quartiles."""
    ladder = measured["posterior"][1]
    assert {(row["way"], row["precision"], row["chunk"]) for row in ladder["rows"]} == {
        (way, p, chunk) for p in ("float32", "bfloat16") for way, chunk in (("peer", 1), ("eager", 1), ("eager", 5))
    }
    assert {row["precision"] for row in measured["prior"][0]["rows"]} == {"float32"}
    for group in measured["prior"] + measured["posterior"]:
        for row in group["rows"]:
            assert row["agrees"], row
            for name in ("ms_per_step", "flops_per_second", "of_matrix_rate", "times_peer"):
                assert 0 < row[name]["low"] <= row[name]["median"] <= row[name]["high"]


def test_rates_and_ratios_are_taken_within_a_round():
    """A round that is four times as slow for all leaves shares and ratios alone: 5 steps of 6 GFLOP by hand."""
    ours, peer = Contestant("eager", "float32", 1), Contestant("peer", "float32", 1)
    end = torch.ones(2, 3)
    timings = {
        ours: Timing(9.0, [1.0, 4.0, 1.0], end * 1.00001),
        peer: Timing(9.0, [3.0, 12.0, 3.0], end),
        "float32": Timing(9.0, [0.5, 2.0, 0.5]),
    }
    row = _row(Chain("prior", "d 3", 1, 5, 6e9, 0 * end), ours, timings, limit_work=2e10)
    assert row["ms_per_step"].median == 200
    assert row["flops_per_second"].median == 3e10
    assert row["of_matrix_rate"] == pytest.approx((0.75,) * 3)  # 30 of 40 GFLOP/s
    assert row["times_peer"] == pytest.approx((3,) * 3)
    assert row["deviation"] == pytest.approx(1e-5, rel=0.02)
    assert row["agrees"]


def test_phases_are_disjoint_parts_of_a_step(measured):
    """If one counted another's time too, the rest of the step would be negative."""
    (group,) = measured["training"]
    assert [row["objective"] for row in group["rows"]] == ["endpoints", "pathwise"]
    for row in group["rows"]:
        parts = [row[phase] for phase in ("sampling", "backward", "optimiser", "logging", "loading", "rest")]
        assert all(part["low"] >= 0 for part in parts)
        assert row["sampling"]["median"] > 0
        assert row["backward"]["median"] > 0
        assert row["optimiser"]["median"] > 0
        assert row["peak_bytes"] > 0


def test_memory_grows_with_the_chain_under_pathwise_only(measured):
    """The fitted exponents of the bytes beyond the noise: exactly 0, or more."""
    time, *memory = measured["growth"]
    assert [row["axis"] for row in time["rows"]] == ["N_t", "K", "B", "features", "image size"]
    exponents = {
        group["title"].split()[-1]: row["exponent"]
        for group in memory
        for row in group["rows"]
        if row["quantity"] == "bytes beyond the noise"
    }
    assert exponents["endpoints"] == pytest.approx(0, abs=1e-9)
    assert exponents["pathwise"] > 0.01


def test_a_wrong_chain_is_an_exit_status(tmp_path, monkeypatch, capsys):
    """A power posterior that forgets its temperature is noticed on the ladder, where t < 1."""
    score = PowerPosterior.score
    monkeypatch.setattr(
        PowerPosterior, "score", lambda self, z: score(PowerPosterior(self.prior, self.likelihood, self.x, 1.0), z)
    )
    arguments = ["--quick", "--only", "posterior", "--precisions", "float32", "--device", "cpu"]
    assert program.main([*arguments, "--json", str(tmp_path / "bench.json")]) == 1
    assert "the ladder" in capsys.readouterr().err


def test_what_could_not_be_run_is_an_exit_status(tmp_path, monkeypatch, capsys):
    group = Group("prior", "d 3", {}, [{"way": "compiled", "error": "RuntimeError: no compiler"}])
    monkeypatch.setitem(program.SECTIONS, "prior", lambda settings: iter([group]))
    assert program.main(["--quick", "--only", "prior", "--device", "cpu", "--json", str(tmp_path / "bench.json")]) == 1
    assert "Could not be run: d 3 (RuntimeError: no compiler)." in capsys.readouterr().err


@pytest.mark.parametrize("works", [True, False])
def test_graphs_that_did_not_run_are_told(works, monkeypatch):
    model, x = build(NETWORKS["digits"], CPU), images(NETWORKS["digits"], CPU, 2)
    monkeypatch.setattr(Chains, "_records", lambda chains, device: chains.compile == "graph")
    model.chains.recorder = Recorder(tape if works else lambda work, device: 1 / 0)
    model.posterior_sampler.num_steps = 2

    def chain():
        run_by(model, "recorded", 2)
        return model.sample_posterior(x, x.new_ones(1), model.stream("test"))

    call, told = watched(model, "recorded", chain), contextlib.nullcontext()
    call()
    with told if works else pytest.warns(UserWarning, match="could not be recorded"):
        call()
    with told if works else pytest.raises(RuntimeError, match="graphs were asked for and did not"):
        call()


def test_a_section_or_device_that_is_not_there_is_told():
    with pytest.raises(SystemExit, match="does not know speed; choose from prior, posterior"):
        program.main(["--only", "speed"])
    with pytest.raises(SystemExit, match="does not know graph"):
        program.main(["--ways", "graph", "--device", "cpu"])


def test_nominal_flops_are_the_arithmetic_of_the_layers():
    """Two for each multiplication and addition, forward and back to the input; B images cost B times one."""
    model, x = build(NETWORKS["cifar10 features 16"], CPU), images(NETWORKS["cifar10 features 16"], CPU, 6)
    energy = 100 * 100 + 100 * 100 + 100 * 1
    # Input pixels x channels in x channels out x 4 x 4; the first layer makes 4 x 4 pixels of one.
    generator = 16 * (100 * 256 + 16 * 256 * 128 + 64 * 128 * 64 + 256 * 64 * 3)
    prior, posterior = Peer(model).flops(x)
    assert prior == 6 * 2 * 2 * energy
    assert posterior == 6 * 2 * 2 * (energy + generator)


def test_contestants_take_turns_and_failures_are_told():
    """A B, B A, A B after a first call each; one that raises is left out, by its reason."""
    calls = []

    def fails():
        raise RuntimeError("no such kernel\nat all")

    contestants = {"a": lambda: calls.append("a"), "broken": fails, "b": lambda: calls.append("b")}
    timings = interleave(contestants, CPU, Effort(0.0, 3, 3))
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert timings["broken"].error == "RuntimeError: no such kernel"
    assert [len(timings[name].seconds) for name in contestants] == [3, 0, 3]


def test_a_chain_that_fell_back_to_eager_is_no_compiled_one():
    """The library survives a failed compilation with a warning; here it must not stand as compiled."""

    def compiled():
        warnings.warn("torch.compile failed (no compiler): sampling goes on uncompiled", stacklevel=1)

    with warnings.catch_warnings(record=True):  # as for a user: pytest alone makes errors of warnings
        warnings.simplefilter("always")
        timings = interleave({"compiled": compiled}, CPU, Effort(0.0, 1, 1))
    assert "torch.compile failed" in timings["compiled"].error


def test_figures_ratios_and_exponents():
    """Closed forms: quartiles of 1..5, a power law, deviations relative to what the scores moved."""
    assert figure([5.0, 1.0, 3.0, 2.0, 4.0]) == (3, 2, 4)
    slope, error = exponent([1.0, 2.0, 4.0, 8.0], [3 * size**1.5 for size in (1, 2, 4, 8)])
    assert slope == pytest.approx(1.5)
    assert error == pytest.approx(0, abs=1e-7)
    _, error = exponent([1.0, math.e, math.e**2], [1.0, math.e, 1.0])  # residuals -1/3, 2/3, -1/3
    assert error == pytest.approx(math.sqrt((6 / 9) / 1 / 2))
    undriven = torch.zeros(2, 3, 4)
    reference = torch.ones(2, 3, 4)
    end = reference.clone()
    end[1] += 0.25
    assert deviation(end, reference, undriven) == pytest.approx(0.25)


def test_gradients_of_a_precision_are_those_that_training_takes():
    """The loss under autocast and the backward pass outside of it, as Lightning has it."""
    model, x = build(NETWORKS["digits"], CPU, batch=4), images(NETWORKS["digits"], CPU, 4)
    model.prior_sampler.num_steps = model.posterior_sampler.num_steps = 2
    model.chains.compile = "off"
    found = precision.sample(model, x, "bfloat16").gradients
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.objective(model, x, model.stream("precision gradient", 0), step=None).loss
    loss.backward()
    for network in ("energy", "generator"):
        taken = torch.cat([p.grad.flatten() for p in getattr(model, network).parameters()])
        assert taken.any()
        assert torch.equal(found[network], taken)


def test_precision_tells_a_model_from_itself(tmp_path, capsys):
    """Float32 against itself is nothing, bfloat16 little, other noise of the order of a standard error."""
    path = tmp_path / "precision.json"
    arguments = ["--updates", "3", "--images", "40", "--device", "cpu", "--json", str(path)]
    assert precision.main(arguments) == 0
    assert "| bfloat16 |" in capsys.readouterr().out
    bfloat16, other, estimates = json.loads(path.read_text())["groups"]
    rows = {row["precision"]: row for row in estimates["rows"]}
    assert rows["float32"]["short_run_evidence_off"] == 0
    assert rows["float32"]["generator_cosine"] == pytest.approx(1, abs=1e-9)
    assert rows["float32"]["left_sum"] < rows["float32"]["short_run_evidence"] < rows["float32"]["right_sum"]
    apart = rows["bfloat16"]["short_run_evidence"] - rows["float32"]["short_run_evidence"]
    assert 0 < abs(apart) < 1
    assert rows["bfloat16"]["short_run_evidence_off"] == pytest.approx(apart, abs=1e-9)
    assert 0 < 1 - rows["bfloat16"]["generator_cosine"] < 1e-2
    assert rows["float32, other noise"]["generator_cosine"] < rows["bfloat16"]["generator_cosine"]
    for row, noisy in zip(bfloat16["rows"], other["rows"], strict=True):
        assert row["mean_off_se_rms"] < 0.1
        assert row["path_rms"] < 0.1 * noisy["path_rms"]
        assert (row["path_rms"] == 0) == (row["t"] == 0)  # the prior's chains are in float32 whatever the precision
        # The difference of two independent means has √2 standard errors.
        assert 0.7 < noisy["mean_off_se_rms"] < 2.5


def test_tables_are_markdown():
    group = report.Group(
        "prior", "d 2", {"steps": 3}, [{"way": "eager", "of_matrix_rate": figure([0.5])}, {"way": "x"}]
    )
    assert report.markdown(group).splitlines()[2:] == [
        "steps 3",
        "",
        "| way | % of matrix rate |",
        "|---|---|",
        "| eager | 50 (50–50) |",
        "| x |  |",
    ]
