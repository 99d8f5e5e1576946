"""log p(x) of the same held-out images by every method, and the temperatures that each schedule needs.

    python -m benchmarks.evidence runs/digits/0/checkpoints/last.ckpt --images 50

Short chains: the trapezium as training logs it. Long chains and exchange: ladders of MALA with ten intervals at equal
thermodynamic length, without and with exchange of replicas; the trapezium, its bracket, and stepping stones. Annealed,
and both bounds on images simulated from the model. All but the bounds are paired with the annealed figure by image.

Schedules: E_t[log p(x|z)] of the first twelve images on a ladder of forty intervals, interpolated; the trapezium on N
intervals of each schedule against the integral of the interpolant. Only the discretisation differs.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from thermoebm import evidence
from thermoebm.applications import evaluation
from thermoebm.applications.evidence import Annealing, Evidence, annealed_evidence, bounds, paired, short_run
from thermoebm.applications.settings import Settings
from thermoebm.densities import PowerPosterior
from thermoebm.ladders import equal_length
from thermoebm.modules import LatentEBM
from thermoebm.modules.annealed import dequantised, plan
from thermoebm.runtime.cost import choose_threads
from thermoebm.runtime.threads import threads
from thermoebm.schedules import power_law

POWERS = (1.0, 2.0, 3.0, 6.0)


def ladder(
    model: LatentEBM, x: Tensor, found: Evidence, intervals: int, steps: int, exchanging: bool, seed: int
) -> tuple[Tensor, evidence.Ladder]:
    """Temperatures, and a ladder of two replicas for each image after as many steps of burn-in."""
    points, kernel = plan(found.pilot, intervals)
    rng = torch.Generator(x.device).manual_seed(seed)
    z = found.starts.draw((len(points), 2, len(x)), rng)
    path = PowerPosterior(model.prior, model.likelihood, x, torch.zeros(()))
    return points, evidence.exchange_ladder(
        path, points, kernel, z, rng, steps=steps, burn_in=steps, exchanging=exchanging
    )


def needed(expected: Tensor, points: Tensor, tolerance: float) -> dict[str, int | None]:
    """The fewest intervals whose trapezium is within ``tolerance`` nats of the integral, by schedule."""
    position = torch.linspace(0, 1, len(points), dtype=torch.float64)  # the points are at equal length
    curve, where = PchipInterpolator(position, expected), PchipInterpolator(position, points)
    fine = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    t, e = torch.from_numpy(where(fine)), torch.from_numpy(curve(fine))
    exact = evidence.trapezium(t, e)

    def error(schedule: Tensor) -> float:
        index = torch.searchsorted(t, schedule).clamp(1, len(t) - 1)
        share = (schedule - t[index - 1]) / (t[index] - t[index - 1])
        return abs((evidence.trapezium(schedule, torch.lerp(e[index - 1], e[index], share)) - exact).item())

    found: dict[str, int | None] = {}
    schedules = {f"p = {power:g}": lambda n, power=power: power_law(n, power) for power in POWERS}
    schedules["equal length"] = lambda n: equal_length(points, expected, n)
    for name, schedule in schedules.items():
        found[name] = next((n for n in range(2, 500) if error(schedule(n)) <= tolerance), None)
        print(f"  {name}: N = 10 off by {error(schedule(10)):.2f} nats, {found[name]} intervals for {tolerance:g} nats")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1000, help="steps of long chains, after as many of burn-in")
    parser.add_argument("--max_steps", type=int, default=1000, help="of annealing")
    parser.add_argument("--no_schedules", action="store_true")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = Settings(evidence_images=options.images, device=device)
    model, data = evaluation.load(options.checkpoint, settings)
    levels = data.held_out_images[: options.images]
    flops = 400 * model.chains.generator_flops
    with threads(choose_threads(flops) if device == "cpu" else torch.get_num_threads()):
        x = torch.cat(list(dequantised(levels, model.device, settings.stream)))
        begun = time.perf_counter()
        found = annealed_evidence(model, x, Annealing(max_steps=options.max_steps), settings.stream)
        seconds = {"annealed": time.perf_counter() - begun}
        rows: dict[str, Tensor] = {"annealed": found.images.value}

        begun = time.perf_counter()
        rows["short chains"] = short_run.sums(model, x, settings.stream("evidence", 0))[0]
        seconds["short chains"] = time.perf_counter() - begun
        for name, exchanging in (("long chains", False), ("exchange", True)):
            begun = time.perf_counter()
            points, told = ladder(model, x, found, 10, options.steps, exchanging, 1)
            expected = told.expected.cpu()
            rows[f"{name}, trapezium"] = evidence.trapezium(points, expected)
            rows[f"{name}, left sum"], rows[f"{name}, right sum"] = evidence.bracket(points, expected)
            rows[f"{name}, stepping stone"] = told.value.cpu()
            seconds[f"{name}, trapezium"] = time.perf_counter() - begun
            rates = {key: [round(v, 3) for v in rate.tolist()] for key, rate in told.rates.items()}
            print(f"{name}: {rates}, Monte Carlo error {told.standard_error.square().sum().sqrt() / len(x):.3f}")
        print(f"| method | log p(x), nats | less annealed, paired | seconds |\n|{'---|' * 4}")
        for name, values in rows.items():
            difference, error = paired(values.cpu(), found.images.value)
            spread = values.double().std().item() / math.sqrt(len(values))
            took = f"{seconds[name]:.0f}" if name in seconds else ""
            print(f"| {name} | {values.mean():.2f} ± {spread:.2f} | {difference:+.2f} ± {error:.2f} | {took} |")
        begun = time.perf_counter()
        last = bounds(model, options.images, found, settings.stream)[-1]
        print(
            f"Simulated images: lower {last.lower.value.mean():.2f}, upper {last.upper.value.mean():.2f}, gap "
            f"{last.gap[0]:.2f} ± {last.gap[1]:.2f} nats, {time.perf_counter() - begun:.0f} s"
        )
        if not options.no_schedules:
            points, told = ladder(model, x[:12], found, 40, options.steps, True, 2)
            print("Schedules:")
            needed(told.expected.mean(1).cpu(), points, 0.35)


if __name__ == "__main__":
    main()
