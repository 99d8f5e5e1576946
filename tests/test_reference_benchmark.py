"""The comparison with the report's code: the same gradient, true counts, and a process that is what it should be.

That code needs JAX, which is no dependency: a small package of the same names takes its place.
"""

import configparser
import json
import os
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks import reference, reference_worker
from benchmarks.measure import Effort, Timing
from benchmarks.reference_steps import Counts, Ours, Plain, Sizes, build
from thermoebm.schedules import PowerLaw

TOY = Sizes(features=1, steps=2, batch=3)

CLONE = {
    "hyperparams.ini": "[PIPELINE]\nNUM_EPOCHS = 50\n[EBM]\nEBM_LEAK = 0.1\n[GEN]\n[MCMC]\nKILL_GRADIENT = 0\n[TEMP]\n",
    "jax/numpy.py": "stack = list\n",
    "jax/__init__.py": """
from types import SimpleNamespace
__version__ = "toy"
random = SimpleNamespace(PRNGKey=lambda seed: seed)
jit = lambda function: lambda *arguments: function(*arguments)
block_until_ready = device_put = lambda value: value
devices = lambda: [SimpleNamespace(platform="cpu")]
def scanned(step, state, xs):
    losses = []
    for x in xs:
        state, loss = step(state, x)
        losses.append(loss)
    return state, losses
lax = SimpleNamespace(scan=scanned)
def make_jaxpr(function):
    def scan(length, *inner):
        body = SimpleNamespace(eqns=[*inner])
        return SimpleNamespace(primitive=SimpleNamespace(name="scan"), params={"length": length, "jaxpr": body})
    image = SimpleNamespace(aval=SimpleNamespace(shape=(3, 32, 32, 3)))
    tanh = SimpleNamespace(primitive=SimpleNamespace(name="tanh"), params={}, outvars=[image])
    return lambda *arguments: SimpleNamespace(jaxpr=SimpleNamespace(eqns=[scan(2, tanh), tanh, scan(60)]))
""",
    "numpy.py": """
from types import SimpleNamespace
class Noise(tuple):
    astype = lambda self, kind: self
random = SimpleNamespace(default_rng=lambda seed: SimpleNamespace(uniform=lambda low, high, shape: Noise(shape)))
""",
    "src/pipeline/initialise.py": """
print("a line that is no answer")
init_EBM = lambda key: (key + 1, "energy", "energy_of")
init_GEN = lambda key: (key + 1, "generator", "image_of")
init_EBM_optimiser = init_GEN_optimiser = lambda parameters: ("adam of " + parameters, 0)
""",
    "src/pipeline/pipeline_steps.py": """
import configparser
settings = configparser.ConfigParser()
settings.read("hyperparams.ini")
def train_step(key, x, parameters, states, optimiser_tup, fwd_fcn_tup):
    assert optimiser_tup == ("adam of energy", "adam of generator")
    assert fwd_fcn_tup == ("energy_of", "image_of")
    assert x == (int(settings["PIPELINE"]["BATCH_SIZE"]), 32, 32, 3)
    if states[0] == int(settings["PIPELINE"]["NUM_EPOCHS"]):
        raise ValueError("too many steps")
    states = tuple(state + 1 for state in states)
    return key, parameters, states, 100 * int(settings["GEN"]["GEN_FEATURE_DIM"]) + states[0], 0, 0
""",
    "src/loss_computation/loss_helper_fcns.py": "batch_size, image_dim = 3, 32\n",
    "src/loss_computation/losses_and_grads.py": "get_loss = lambda *arguments, **fields: None\n",
}


@pytest.fixture
def clone(tmp_path):
    for name, text in CLONE.items():
        path = tmp_path / "clone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "clone"


@pytest.mark.parametrize("kind", ["maximum likelihood", "TI"])
def test_the_plain_loop_has_our_gradient(kind, monkeypatch):
    """On the same noise, none, chains are deterministic; only the loss's constant and its KL terms differ."""
    ours, plain = Ours(kind, TOY), Plain(kind, TOY)
    ours.model.chains.compile = "off"
    plain.model.load_state_dict(ours.model.state_dict())
    if kind == "TI":  # at a power of 6 the rung at t = 0 has a weight of a millionth
        ours.model.objective.schedule = plain.model.objective.schedule = PowerLaw(10, 1.0, "points")
    monkeypatch.setattr(type(ours.model), "_normal", lambda model, shape, rng: torch.zeros(shape))
    monkeypatch.setattr(torch, "randn", lambda *shape: torch.zeros(shape))
    for program in (ours, plain):
        program.loss().backward()
    for (name, a), b in zip(ours.model.named_parameters(), plain.model.parameters(), strict=True):
        if kind == "TI" and name.startswith("energy"):
            assert not a.grad.any(), name
            assert b.grad is None, name
        else:
            assert a.grad.any(), name
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-4 * a.grad.abs().max().item())


@pytest.mark.parametrize(
    ("kind", "counts"), [("maximum likelihood", Counts(2, 60, 9)), ("TI", Counts(9 * 2, 60, 27 * 2 + 30))]
)
def test_our_chains_are_counted_as_they_run(kind, counts):
    """Three images; TI has nine temperatures above t = 0, where the prior is sampled, and ten in its loss."""
    assert Ours(kind, TOY).counts() == counts


def test_loops_within_loops_are_counted_as_often_as_they_run():
    """Four temperatures of a chain of five steps and one image more, for six images; then a prior's chain of seven."""

    def operation(name, **params):
        image = SimpleNamespace(aval=SimpleNamespace(shape=(6, 32, 32, 3)))
        return SimpleNamespace(primitive=SimpleNamespace(name=name), params=params, outvars=[image])

    def body(*operations):
        return SimpleNamespace(jaxpr=SimpleNamespace(eqns=operations))

    step = body(operation("pjit", jaxpr=body(operation("tanh"), operation("mul"))))
    temperature = body(operation("scan", length=5, jaxpr=step), operation("tanh"))
    program = body(operation("scan", length=4, jaxpr=temperature), operation("scan", length=7, jaxpr=body()))
    assert reference_worker.counts(program.jaxpr) == {
        "posterior_steps": 4 * 5,
        "prior_steps": 7,
        "generator_passes": 6 * 4 * (5 + 1),
    }
    with pytest.raises(RuntimeError, match="cannot be counted"):
        reference_worker.counts(body(operation("while", branches=[step])).jaxpr)


def test_that_code_is_given_our_sizes_and_keeps_its_state(clone):
    """The ini of its working folder has our sizes and else its own fields; what it prints is no answer."""
    model = build("TI", TOY)
    with reference.Reference(clone, sys.executable, "TI", model, 3) as program:
        assert program.ask("facts")["jax"] == "toy"
        assert [program.step() for _ in range(3)] == [101, 102, 103]  # 100 features + number of the step
        assert [program.loop(), program.step()] == [105, 106]  # which makes two
        settings = configparser.ConfigParser()
        settings.read(program.log.with_name("hyperparams.ini"))
        assert Counts(**program.ask("counts")) == Counts(2, 60, 9)
    assert program.process.returncode == 0
    assert {name: dict(fields) for name, fields in settings.items() if fields} == {
        "PIPELINE": {"num_epochs": "50", "dataset": "CIFAR10", "batch_size": "3"},
        "EBM": {"ebm_leak": "0.1", "z_channels": "100", "ebm_feature_dim": "100"},
        "GEN": {"channels": "3", "gen_feature_dim": "1"},
        "MCMC": {
            **{"kill_gradient": "0", "e_step_size": "0.16", "e_sample_steps": "60"},
            **{"g_step_size": "0.01", "g_sample_steps": "2"},
        },
        "TEMP": {"temp_power": "6.0", "num_temps": "10", "kl_bias_weight": "1.0"},
    }
    assert reference.hyperparameters("maximum likelihood", build("maximum likelihood", TOY), 3)["TEMP"] == {
        "TEMP_POWER": 0.0
    }


def test_the_end_of_that_code_is_told(clone):
    with reference.Reference(clone, sys.executable, "TI", build("TI", TOY), 3) as program:
        for _ in range(50):
            program.step()
        with pytest.raises(RuntimeError, match="has ended: ValueError: too many steps"):
            program.step()


def test_the_table_is_of_one_run_in_turns(clone, tmp_path, capsys, monkeypatch):
    """Each program's time, steps and passes; ratios are to ours, by step and by pass; the cores are given back."""
    monkeypatch.setattr("thermoebm.runtime.cost.compiles", lambda *_: False)  # which takes seconds
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    arguments = ["--code", str(clone), "--only", "maximum likelihood", "--features", "1", "--steps", "2"]
    arguments += ["--batch", "3", "--loop", "--threads", "1", "--seconds", "0", "--json", str(tmp_path / "found.json")]
    reference.main(arguments)
    assert "| the report's code |" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["environment"]["threads"] == 1
    (group,) = found["groups"]
    assert group["facts"]["rounds"] == 3
    rows = {row["program"]: row for row in group["rows"]}
    assert list(rows) == ["ours", "plain loop", "the report's code", "the report's code, steps in a loop"]
    assert {row["generator_passes"] for row in rows.values()} == {9}
    assert rows["ours"]["times as long as ours"]["high"] == 1
    assert rows["the report's code"]["times as long as ours"]["high"] < 1  # it only adds
    assert rows["plain loop"]["ms"]["median"] > rows["the report's code"]["ms"]["median"]
    if cores is not None:
        assert os.sched_getaffinity(0) == cores


def test_ratios_are_to_ours_by_step_and_by_image(clone, monkeypatch):
    """Times by hand; the report's code makes nine images where ours is said to make three."""
    seconds = {"ours": [1.0, 4.0], "plain loop": [2.0, 4.0], "the report's code": [4.0, 4.0]}
    seconds[reference.LOOPED] = [6.0, 8.0]  # two steps each
    monkeypatch.setattr(
        reference, "interleave", lambda works, *_: {name: Timing(9.0, list(seconds[name]), 0.0) for name in works}
    )
    monkeypatch.setattr(Ours, "counts", lambda ours: Counts(2, 60, 3))
    group = reference.measure("maximum likelihood", TOY, clone, sys.executable, Effort(), loop=True)
    rows = {row["program"]: row for row in group.rows}
    assert rows["plain loop"]["times as long as ours"] == pytest.approx((1.5, 1.25, 1.75))  # of 2 and 1
    assert rows["plain loop"]["for each generator pass"].median == pytest.approx(1.5)
    assert rows["the report's code"]["times as long as ours"].median == pytest.approx(2.5)  # of 4 and 1
    assert rows["the report's code"]["for each generator pass"].median == pytest.approx(2.5 * 3 / 9)
    assert rows[reference.LOOPED]["ms"].median == pytest.approx(3500)
    assert rows[reference.LOOPED]["times as long as ours"].median == pytest.approx(2)  # of 3 and 1
