"""What does a training step cost with corrected prior chains? python -m benchmarks.prior_step

The loss of maximum likelihood and its gradient on 75 images, with sixty uncorrected or Metropolis-adjusted steps of the
prior's chains and compiled steps, in turn; the ratio is taken round by round: median and quartiles.
"""

import argparse
from functools import partial

import torch

from benchmarks.measure import Effort, interleave
from benchmarks.models import NETWORKS, Networks, build, images
from thermoebm.modules import LatentEBM
from thermoebm.samplers import MALA, ULA

SHAPES = {
    "digits": NETWORKS["digits"],
    "mnist": Networks(32, (1, 28, 28), 4),
    "cifar10 features 16": NETWORKS["cifar10 features 16"],
}


def gradient(model: LatentEBM, x: torch.Tensor) -> None:
    model.zero_grad()
    model.loss(x, model.stream("benchmark")).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print("| networks | uncorrected, ms | corrected, ms | ratio |\n|---|---|---|---|")
    for name, networks in SHAPES.items():
        x = images(networks, device)
        kernels = {"uncorrected": ULA(0.16, 60), "corrected": MALA(0.16, 60, target_acceptance=0.574)}
        steps = {
            of: partial(gradient, build(networks, device, prior_sampler=kernel), x) for of, kernel in kernels.items()
        }
        timed = interleave(steps, device, Effort(seconds, 5, 400))
        plain, corrected = timed["uncorrected"], timed["corrected"]
        print(
            f"| {name} | {1e3 * plain.per(1).median:.1f} | {1e3 * corrected.per(1).median:.1f} | "
            f"{corrected.over(plain):.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
