"""How fast is a training step beside the report's own code? python -m benchmarks.reference --code PATH [--python PY]

Times the loss, its gradient and the optimiser's update of three programs in turn: ours, a plain loop
(:mod:`benchmarks.peer`) and the report's code, of which PATH is a clone and PY a Python with jax, flax and optax. That
code runs in a process of its own, on the same cores, with its own functions and hyperparams.ini, in which the sizes of
networks and chains are those of ours. Ours follows configs/report_code.yaml, which computes what that code computed.
"""

import thermoebm  # noqa: F401, I001  (before anything that imports torchvision)

import argparse
import configparser
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from benchmarks import report
from benchmarks.measure import Effort, Group, figure, interleave
from benchmarks.reference_worker import LOOP
from benchmarks.reference_steps import OVERLAYS, Counts, Ours, Plain, Sizes
from thermoebm.modules import LatentEBM
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.runtime.allocator import keep_freed_memory
from thermoebm.runtime.terminal import quieten
from thermoebm.runtime.threads import threads

WORKER = Path(__file__).with_name("reference_worker.py")
LOOPED = "the report's code, steps in a loop"


class Reference:
    """The report's code in a process of its own, which makes a step when it is asked to.

    Args:
        code: A clone of it.
        python: A Python that has what it needs.
        kind: Of OVERLAYS.
        model: The model whose sizes it takes.
        batch: Images in a batch.

    Raises:
        RuntimeError: If the process has ended; with the last line that it wrote.
    """

    def __init__(self, code: Path, python: str, kind: str, model: LatentEBM, batch: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        settings = configparser.ConfigParser()
        with (code / "hyperparams.ini").open() as file:
            settings.read_file(file)
        for section, fields in hyperparameters(kind, model, batch).items():
            settings[section].update({name: f"{value}" for name, value in fields.items()})
        with (folder / "hyperparams.ini").open("w") as file:  # which that code reads in its working folder
            settings.write(file)
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [python, "-c", WORKER.read_text(), str(code.resolve())],
                cwd=folder,
                env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, request: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        if answer := self.process.stdout.readline():
            told: dict[str, Any] = json.loads(answer)
            return told
        raise RuntimeError(f"the report's code has ended: {(self.log.read_text().strip().splitlines() or [''])[-1]}")

    def step(self) -> float:
        return float(self.ask("step")["loss"])

    def loop(self) -> float:
        return float(self.ask("loop")["loss"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.communicate()  # the end of its input ends it
        self.folder.cleanup()


def hyperparameters(kind: str, model: LatentEBM, batch: int) -> dict[str, dict[str, Any]]:
    """What that code's hyperparams.ini has to say for its networks and chains to be those of the model."""
    prior, posterior, objective = model.prior_sampler, model.posterior_sampler, model.objective
    ladder = {"TEMP_POWER": 0.0}  # maximum likelihood
    if isinstance(objective, ThermodynamicIntegration):
        schedule: Any = objective.schedule
        ladder = {"TEMP_POWER": schedule.power, "NUM_TEMPS": schedule.num_temperatures, "KL_BIAS_WEIGHT": objective.eta}
    energy: Any = model.energy
    return {
        "PIPELINE": {"DATASET": "CIFAR10", "BATCH_SIZE": batch},
        "EBM": {"Z_CHANNELS": energy.latent_dim, "EBM_FEATURE_DIM": energy.layers[0].out_features},
        "GEN": {"CHANNELS": model.image_shape[0], "GEN_FEATURE_DIM": model.generator.features},
        "MCMC": {
            **{"E_STEP_SIZE": prior.step_size, "E_SAMPLE_STEPS": prior.num_steps},
            **{"G_STEP_SIZE": posterior.step_size, "G_SAMPLE_STEPS": posterior.num_steps},
        },
        "TEMP": ladder,
    }


def measure(kind: str, sizes: Sizes, code: Path, python: str, effort: Effort, loop: bool = False) -> Group:
    """The table of one objective; ratios are to our time in the same round.

    With ``loop`` the report's code makes its steps within a scan over batches too, which is how it trains.
    """
    ours, plain = Ours(kind, sizes), Plain(kind, sizes)
    with Reference(code, python, kind, ours.model, sizes.batch) as reference:
        facts = reference.ask("facts")
        works = {"ours": ours.step, "plain loop": plain.step, "the report's code": reference.step}
        if loop:
            works[LOOPED] = reference.loop
        timings = interleave(works, torch.device("cpu"), effort)
        for name, timing in timings.items():
            if timing.error or not math.isfinite(timing.result):
                raise RuntimeError(f"{name}: {timing.error or f'the loss is {timing.result}'}")
            if name == LOOPED:
                timing.seconds = [seconds / LOOP for seconds in timing.seconds]
        own, other = ours.counts(), Counts(**reference.ask("counts"))
        counted = {name: own if name in ("ours", "plain loop") else other for name in timings}
    rows = [
        {
            "program": name,
            "ms": figure([1e3 * seconds for seconds in timing.seconds]),
            "times as long as ours": timing.over(timings["ours"]),
            "for each generator pass": timing.over(
                timings["ours"], own.generator_passes / counted[name].generator_passes
            ),
            **counted[name]._asdict(),
            "first_call_s": timing.first,
        }
        for name, timing in timings.items()
    ]
    return Group("training step", kind, {**sizes._asdict(), "rounds": len(timings["ours"].seconds), **facts}, rows)


@contextlib.contextmanager
def cores(count: int) -> Iterator[None]:
    """Keeps this process, and those that it starts, on so many cores: XLA takes as many threads as it has cores."""
    known = hasattr(os, "sched_setaffinity")  # on Linux
    before = os.sched_getaffinity(0) if known else set()
    if known:
        os.sched_setaffinity(0, sorted(before)[:count])
    try:
        with threads(count):
            yield
    finally:
        if known:
            os.sched_setaffinity(0, before)


def state(code: Path) -> str:
    """The commit of a clone, with a + if its programs differ from it."""
    commands = ["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "--", "src"]
    said = [
        subprocess.run(["git", *command], cwd=code, capture_output=True, text=True, check=False) for command in commands
    ]
    return (said[0].stdout.strip() or "unknown") + "+" * bool(said[1].stdout)


def main(argv: Sequence[str] | None = None) -> None:
    keep_freed_memory()  # as training does
    quieten()
    parser = argparse.ArgumentParser("benchmarks.reference", description=__doc__.splitlines()[0])
    parser.add_argument("--code", type=Path, required=True, help="clone of github.com/PritRaj1/JAX-ThermoEBM")
    parser.add_argument("--python", default=sys.executable, help="Python with jax, flax and optax; default: this one")
    parser.add_argument("--only", choices=OVERLAYS, help="default: both")
    parser.add_argument("--loop", action="store_true", help="also time its steps within a loop, as its epochs are")
    parser.add_argument("--features", type=int, default=16, help="of the generator; default %(default)s")
    parser.add_argument("--steps", type=int, default=40, help="of a posterior chain; default %(default)s")
    parser.add_argument("--batch", type=int, default=75, help="default %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each table (default 60); at least 3 rounds")
    parser.add_argument("--json", type=Path, default=Path("runs/reference.json"), help="default: %(default)s")
    options = parser.parse_args(argv)
    sizes = Sizes(options.features, options.steps, options.batch)
    groups = []
    with cores(options.threads):
        facts = report.environment(torch.device("cpu")) | {"commit of the report's code": state(options.code)}
        print(", ".join(f"{name} {value}" for name, value in facts.items()), end="\n\n", flush=True)
        for kind in [options.only] if options.only else OVERLAYS:
            groups.append(measure(kind, sizes, options.code, options.python, Effort(options.seconds), options.loop))
            print(report.markdown(groups[-1]), flush=True)
            report.write(options.json, facts, groups)


if __name__ == "__main__":
    main()
