"""Langevin steps eager and compiled, in one run: python benchmarks/sampling_speed.py

Milliseconds a step (median of repeats, one thread) of the prior chain and of the posterior chain at t = 1, B = 75.
"""

import statistics
import time

import torch

from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.samplers import ULA

SIZES = {"8x8, d 32, features 8": (32, (1, 8, 8), 8), "32x32, d 100, features 8": (100, (3, 32, 32), 8)}
STEPS, BATCH, REPEATS = 10, 75, 9


def milliseconds(sample: object, repeats: int = REPEATS) -> float:
    """Median time of one step of a chain, after one call that may compile."""
    assert callable(sample)
    sample()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        sample()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times) / STEPS


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'':28}{'eager':>10}{'compiled':>10}{'ratio':>8}")
    for name, (d, shape, features) in SIZES.items():
        x = torch.rand(BATCH, *shape) * 2 - 1
        rows: dict[str, list[float]] = {"prior": [], "posterior": []}
        for compile in ("off", "on"):
            kernels = {"prior_sampler": ULA(0.16, STEPS), "posterior_sampler": ULA(0.01, STEPS)}
            model = LatentEBM(EnergyMLP(d), ConvGenerator(d, shape, features), compile=compile, **kernels)
            model.training_batch = BATCH
            rows["prior"].append(milliseconds(lambda model=model: model.sample_prior(BATCH, model.stream("b"))))
            rows["posterior"].append(
                milliseconds(lambda model=model, x=x: model.sample_posterior(x, x.new_ones(1), model.stream("b")))
            )
        for chain, (eager, compiled) in rows.items():
            print(f"{chain:10}{name:24}{eager:7.3f}{compiled:9.3f}{eager / compiled:9.2f}")


if __name__ == "__main__":
    main()
