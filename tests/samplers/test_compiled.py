"""Compiled steps: the same chains, said when they are compiled, and given up where they fail."""

import os
import signal
from functools import partial

import pytest
import torch

from tests.oracle import DTYPE, LinearGaussian
from thermoebm.densities import GaussianPrior
from thermoebm.runtime import signals
from thermoebm.samplers import ULA, compilations, run
from thermoebm.samplers import base as base_module


def compiled_by(monkeypatch, function):
    """Puts a function in the place of the compiler's, in a process that has compiled nothing yet."""
    steps = base_module._CompiledSteps()
    steps.compiled = function
    monkeypatch.setattr(base_module._CompiledSteps, "instance", steps)


def test_compiled_equals_eager():
    oracle = LinearGaussian()
    start, noise = torch.zeros(9, 3, dtype=DTYPE), torch.randn(10, 9, 3, dtype=DTYPE)
    density = oracle.power_posterior(0.5, 9)
    eager, _ = run(ULA(0.02, 10), density, start, noise)
    compiled, _ = run(ULA(0.02, 10), density, start, noise, block=5)
    torch.testing.assert_close(compiled.z, eager.z, rtol=0, atol=1e-10)


def test_chains_within_a_distributed_step_are_compiled_as_elsewhere(tmp_path):
    """The compiler would split them at the buckets of gradients, and here fail on buckets so small: with a warning."""
    oracle = LinearGaussian()
    start, noise, density = (
        torch.zeros(9, 3, dtype=DTYPE),
        torch.randn(4, 9, 3, dtype=DTYPE),
        oracle.power_posterior(0.5, 9),
    )

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.energy, self.generator = oracle.energy, oracle.generator

        def forward(self, block):
            return run(ULA(0.02, 4), density, start, noise, block=block)[0].z

    torch.compiler.reset()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        step = torch.nn.parallel.DistributedDataParallel(Step(), bucket_cap_mb=1e-3)
        torch.testing.assert_close(step(2), step(None), rtol=0, atol=1e-10)
    finally:
        torch.distributed.destroy_process_group()


def test_a_failing_compiler_costs_a_warning_and_nothing_else(monkeypatch):
    """What has failed is not tried again."""
    tried = []

    def broken(*args):
        tried.append("compiled")
        raise RuntimeError("no compiler here\nand a long story")

    compiled_by(monkeypatch, broken)
    start, noise = torch.zeros(2, 3), torch.randn(5, 2, 3)
    chain = partial(run, ULA(0.1, 5), GaussianPrior(), start, noise)
    expected = chain()[0].z
    with pytest.warns(
        UserWarning, match=r"torch.compile failed \(no compiler here\): sampling goes on uncompiled"
    ) as told:
        torch.testing.assert_close(chain(block=1)[0].z, expected)
    assert len(told) == 1
    chain(block=1)  # a warning would be an error here
    assert tried == ["compiled"]


def test_what_is_compiled_is_said_once_for_each_shape(monkeypatch, capsys):
    compiled_by(monkeypatch, base_module._steps)
    for count in (2, 3, 2):
        run(ULA(0.1, 6), GaussianPrior(), torch.zeros(count, 3), torch.randn(6, count, 3), block=3)
    assert capsys.readouterr().out.splitlines() == [
        f"Compiling 3 ULA steps on the GaussianPrior for {n}x3: about ten seconds, fewer where torch's cache has them."
        for n in (2, 3)
    ]
    assert compilations() == 2


def test_a_program_that_compiles_ends_at_once_when_it_is_told_to(monkeypatch):
    """Amid a training too, which ends between steps otherwise; afterwards the signal is whose it was."""
    before = signal.getsignal(signal.SIGTERM)

    def slow(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("still compiling")

    compiled_by(monkeypatch, slow)
    with pytest.raises(signals.Ended) as ended, signals.listening(), signals.deferred():
        run(ULA(0.1, 1), GaussianPrior(), torch.zeros(2, 3), torch.randn(1, 2, 3), block=1)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_chain_ends_between_two_steps_when_it_is_told_to():
    """It has made the one in which it was told."""
    seen = []

    class Telling(ULA):
        def step(self, *args):
            seen.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
            return super().step(*args)

    with pytest.raises(signals.Ended), signals.listening(), signals.deferred():
        run(Telling(0.1, 5), GaussianPrior(), torch.zeros(2, 3), torch.randn(5, 2, 3))
    assert len(seen) == 1
    signals.check()  # nothing is left of it
