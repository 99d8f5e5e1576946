"""Is the model of a step's time right, and what would more GPUs give? python -m benchmarks.step_time

Measures this machine's rates and some training steps, and compares the steps with what the rates predict
(:mod:`thermoebm.runtime.step_time`). Then predicts steps, runs and a study on 1, 8 and 64 devices: of this machine, or
of the rates that are given.
"""

import thermoebm  # noqa: F401, I001  (before anything that imports torchvision)

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.models import BATCH, NETWORKS, build, images, objective
from thermoebm.cli.train import CLI
from thermoebm.gradients.draws import draw_gradient, trainable
from thermoebm.modules import LatentEBM
from thermoebm.runtime.allocator import keep_freed_memory
from thermoebm.runtime.cost import choose_threads, compiles, synchronise
from thermoebm.runtime.step_time import Rates, all_reduce, measured
from thermoebm.runtime.terminal import quieten
from thermoebm.runtime.threads import threads
from thermoebm.study.planning.file import read
from thermoebm.study.planning.traces import Machine, Part, adam_seconds, trace_gradient
from thermoebm.study.planning.work import Counter

# The runs of one data set in the report, and the steps of each.
RUNS, STEPS = 100, 8000
OBJECTIVES = {"MaximumLikelihood": "maximum likelihood", "contrastive": "TI, contrastive"}


def machine(model: LatentEBM, rates: Rates, device: torch.device, half: bool) -> Machine:
    return Machine(rates, compiles("auto", BATCH * model.chains.generator_flops, device.type), half)


def predicted(model: LatentEBM, how: Machine) -> float:
    """Seconds of a training step that samples the whole ladder."""
    return float(_gradient(model).amount(model, BATCH, how)[1]) + adam_seconds(model, how.rates)


def _gradient(model: LatentEBM) -> Part:
    return trace_gradient(model)[model.objective.whole_ladder(0)]


def compared(name: str, kind: str, steps: int, device: torch.device, half: bool, repeats: int) -> None:
    """Prints a row: predicted and measured seconds of the loss and its gradient, and of Adam's step."""
    model = build(NETWORKS[name], device, objective=objective(kind, 10))
    model.posterior_sampler.num_steps = steps
    x = images(NETWORKS[name], device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, fused=device.type == "cuda" or None)
    context = partial(torch.autocast, device.type, torch.bfloat16, enabled=half)
    cores = choose_threads(BATCH * model.chains.generator_flops) if device.type == "cpu" else torch.get_num_threads()
    with threads(cores):
        seconds, predictions = [], []
        for repeat in range(repeats + 2):  # the first two compile and record
            with context():
                rates = measured(device)
            draw_gradient(partial(model.loss, step=0), model, x, model.stream("step"), context)  # allocates again
            synchronise(device)
            began = time.perf_counter()
            gradient = draw_gradient(partial(model.loss, step=0), model, x, model.stream("step"), context)
            for parameter, g in zip(trainable(model).values(), gradient, strict=True):
                parameter.grad = g
            optimizer.step()
            synchronise(device)
            if repeat >= 2:
                seconds.append(time.perf_counter() - began)
                predictions.append(predicted(model, machine(model, rates, device, half)))
    ratio = statistics.median(p / s for p, s in zip(predictions, seconds, strict=True))
    row = f"{1e3 * statistics.median(predictions):.4g} | {1e3 * statistics.median(seconds):.4g} | {ratio:.2f}"
    print(f"| {name}, K = {steps} | {OBJECTIVES[kind]} | {row} |", flush=True)


def scaled(name: str, rates: Rates, link: float, half: bool) -> None:
    """Prints the table of 1, 8 and 64 devices with BATCH images each; a study gives each device runs of its own."""
    for kind in OBJECTIVES:
        model = build(NETWORKS[name], torch.device("cpu"), objective=objective(kind, 10))
        model.posterior_sampler.num_steps = 40
        step = predicted(model, Machine(rates, True, half))
        size = sum(p.nbytes for p in trainable(model).values())
        for count in (1, 8, 64):
            shared = all_reduce(size, count, link)
            images_per_second = count * BATCH / (step + shared)
            print(
                f"| {OBJECTIVES[kind]} | {count} | {1e3 * step:.3g} | {1e3 * shared:.2g} | {images_per_second:,.0f} | "
                f"{100 * step / (step + shared):.0f} % | {STEPS * step / 60:.3g} | "
                f"{RUNS * STEPS * step / 3600 / count:.3g} |"
            )


def chain_steps(name: str, rates: Rates, half: bool) -> None:
    """Prints the predicted time of one Langevin step, at one temperature and at ten, compiled and not."""
    for kind, count in (("MaximumLikelihood", 1), ("contrastive", 10)):
        whole = _gradient(build(NETWORKS[name], torch.device("cpu"), objective=objective(kind, count)))
        for fused in (True, False):
            one, prior, posterior = (1e3 * rates.seconds(operations, fused=fused, half=half) for operations in whole)
            how = "compiled" if fused else "uncompiled"
            print(f"A posterior step at {count} temperature(s), {how}: {posterior - one:.3g} ms; ", end="")
            print(f"a prior step {prior - one:.3g} ms.")


def study(path: str, rates: Rates, half: bool) -> None:
    """Prints the hours of a study's runs on one device, one after another, with their measurements."""
    made = read(path, CLI)
    counter = Counter(lambda cell: Machine(rates, True, half))
    works = {cell.name: counter.work(cell) for cell in made.cells}
    training, measuring = (
        sum(getattr(works[run.cell], part).seconds for run in made.runs for part in parts) / 3600
        for parts in (("training",), ("draws", "chains"))
    )
    print(f"\n{path}: {len(made.runs)} runs, {training:.3g} h of training and {measuring:.3g} h of measuring.")


def main(argv: Sequence[str] | None = None) -> None:
    keep_freed_memory()  # as training does
    quieten()
    parser = argparse.ArgumentParser("benchmarks.step_time", description=__doc__.splitlines()[0])
    on_gpu = torch.cuda.is_available()
    default = "cifar10 features 64,celeba features 64" if on_gpu else "digits,cifar10 features 16,celeba features 16"
    parser.add_argument("--networks", default=default, help="to measure; default %(default)s")
    parser.add_argument("--steps", type=int, default=40 if on_gpu else 4, help="of a posterior chain; %(default)s")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--rates", help="of a device: the fields of Rates, as 7.31e14,6.3e14,2.9e12,4.6e-6,2.9e12")
    parser.add_argument("--link", type=float, default=2e11, help="bytes/s between devices; default %(default)s")
    parser.add_argument("--study", nargs="*", default=[], help="study files whose runs to predict")
    options = parser.parse_args(argv)
    device = torch.device("cuda" if on_gpu else "cpu")
    half = on_gpu
    print("| network | objective | predicted ms | measured ms | ratio |\n|---|---|---|---|---|")
    for name in filter(None, options.networks.split(",")):
        for kind in OBJECTIVES:
            compared(name, kind, 20 if name == "digits" else options.steps, device, half, options.repeats)
    if options.rates:
        rates, half = Rates(*map(float, options.rates.split(","))), True
    else:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            rates = measured(device)
    print(
        f"\n{rates}, a link of {options.link:.3g} B/s; CIFAR-10, features 64, K = 40, {BATCH} images on a device:\n\n"
        "| objective | devices | step ms | all-reduce ms | images/s | of one device's, each | 8,000 steps, minutes | "
        "100 runs, one on each device, hours |\n|---|---|---|---|---|---|---|---|"
    )
    scaled("cifar10 features 64", rates, options.link, half)
    chain_steps("cifar10 features 64", rates, half)
    for path in options.study:
        study(path, rates, half)


if __name__ == "__main__":
    main()
