"""What do extrapolated distances cost beyond feature extraction? python benchmarks/extrapolation_cost.py 64 2048

Seconds for 4,500 real and as many generated images at the report's ten sizes, for each number of dimensions, and as a
ratio to one plain Fréchet distance and one plain kernel distance on all the images.
"""

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial

import torch

from thermoebm.metrics import FrechetDistance, mmd2
from thermoebm.metrics.extrapolation import SIZES, Extrapolator
from thermoebm.metrics.kernels import poly


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def frechet(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    metric = FrechetDistance(real.shape[1])
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dimensions", nargs="*", type=int, default=[64])
    print("dimensions   Fréchet          poly             rbf      both kernels and Fréchet   peak memory")
    for d in parser.parse_args().dimensions:
        rng = torch.Generator().manual_seed(0)
        real, fake = torch.randn(SIZES[-1], d, generator=rng), 0.1 + torch.randn(SIZES[-1], d, generator=rng)
        extrapolator = Extrapolator(real, fake, SIZES, rng)
        extrapolator.kernel("rbf")  # the first product of a process wakes its threads
        once = seconds(partial(frechet, real, fake)), seconds(partial(mmd2, real, fake, poly))
        took = seconds(extrapolator.frechet), seconds(partial(extrapolator.kernel, "poly"))
        last = seconds(partial(extrapolator.kernel, "rbf"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{d:10d}   {took[0]:6.2f} ({took[0] / once[0]:4.1f}x)   {took[1]:6.2f} ({took[1] / once[1]:4.1f}x)   "
            f"{last:6.2f}   {sum(took) + last:23.2f}   {peak:8.2f} GiB"
        )


if __name__ == "__main__":
    main()
