"""Predicts what a study will cost: its operations, by counting; its time, from a short probe of this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thermoebm.gradients.draws import draw_gradient
from thermoebm.runtime.cost import Flops
from thermoebm.runtime.threads import threads
from thermoebm.runtime.units import duration, scaled
from thermoebm.study.planning.definitions import Cell, Study
from thermoebm.study.planning.work import Counter, Work
from thermoebm.study.running import board, folder
from thermoebm.study.running.executors import Local

# The number of steps that are timed, and the most operations of one: of a larger batch only a part is timed.
_TIMED, _MOST_FLOPS = 5, 1e10


@dataclass(frozen=True)
class Speed:
    """How fast this machine is.

    Args:
        overhead: Seconds that a step takes besides its operations.
        per_flop: Seconds per operation of a training step.
        per_flop_measuring: Seconds per operation of a measurement; these run uncompiled.
        start_up: Seconds that a run takes before its first step, compilation included.
    """

    overhead: float
    per_flop: float
    per_flop_measuring: float
    start_up: float

    def seconds(self, work: Work) -> float:
        """Estimated duration of a run."""
        steps = work.steps * (1 + work.draws / work.training)
        computing = (work.training + work.draws) * self.per_flop + work.chains * self.per_flop_measuring
        return self.start_up + steps * self.overhead + computing


def probe(cells: list[Cell], works: list[Work], importing: float) -> Speed:
    """Times a few training steps, and chains as in measurements, of the cells whose steps cost least and most.

    Args:
        cells: The cells of a study.
        works: The operations of a run of each cell.
        importing: Seconds that importing the program takes.
    """
    order = sorted(range(len(cells)), key=lambda i: works[i].training / works[i].steps)
    chosen = list(dict.fromkeys((order[0], order[-1])))
    timed = [_time(cells[i], works[i]) for i in chosen]
    if len(timed) == 1 or timed[1].flops < 1.5 * timed[0].flops:
        slope, overhead = timed[-1].seconds / timed[-1].flops, 0.0
    else:
        slope = max(0.0, (timed[1].seconds - timed[0].seconds) / (timed[1].flops - timed[0].flops))
        overhead = max(0.0, timed[0].seconds - slope * timed[0].flops)
    return Speed(overhead, slope, timed[-1].per_flop_measuring, importing + max(t.compiling for t in timed))


class _Timed(NamedTuple):
    flops: float
    seconds: float
    compiling: float
    per_flop_measuring: float


def _time(cell: Cell, work: Work) -> _Timed:
    model, config = cell.composed.model, cell.composed.config
    on_gpu = torch.cuda.is_available() and config["trainer"]["accelerator"] in ("auto", "gpu", "cuda")
    model.to("cuda" if on_gpu else "cpu")
    batch = int(config["data"]["init_args"]["batch_size"])
    flops = work.training / work.steps
    part = max(2, min(batch, int(batch * _MOST_FLOPS / flops)))
    x = torch.zeros(part, *model.generator.image_shape, device=model.device)

    def seconds(does: Callable[[], Any]) -> float:
        start = time.perf_counter()
        does()
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def step() -> list[Tensor]:
        return draw_gradient(model.loss, model, x, model.stream("plan"))

    model.chains.training_batch = part if part == batch else None  # only the whole batch is compiled in training
    first = seconds(step)
    each = min(seconds(step) for _ in range(_TIMED if first < 10 else 1))
    model.chains.training_batch = None
    rng = model.stream("plan")
    with Flops() as counted:
        model.ladder(x, model.evidence_schedule, rng)
    measuring = seconds(lambda: model.ladder(x, model.evidence_schedule, rng)) / counted.total
    return _Timed(flops * part / batch, each, max(0.0, first - each), measuring)


# The printed plan


def plan(study: Study, output: Path, jobs: int | None, threads_each: int | None, importing: float) -> list[str]:
    """The plan as lines of text: a row for each run, then the cost of all runs together."""
    counter, executor = Counter(), Local(jobs, threads_each)
    works = {cell.name: counter.work(cell) for cell in study.cells}
    places = {run: output / "runs" / run.hash for run in study.runs}
    states = {run: board.state_of(place)[0] for run, place in places.items()}
    started = time.perf_counter()
    with threads(executor.threads):
        speed = probe(list(study.cells), list(works.values()), importing)
    took = time.perf_counter() - started
    seconds = {name: speed.seconds(work) for name, work in works.items()}
    rows: list[tuple[str, ...]] = [("cell", "seed", "run", "FLOPs", "time", "state")]
    for run in study.runs:
        taken = board.seconds_of(places[run])
        shown = duration(taken) if taken else f"~ {duration(seconds[run.cell])}"
        flops = f"{scaled(works[run.cell].training)}FLOP"
        rows.append((run.cell, str(run.seed), run.hash, flops, shown, states[run]))
    rest = [run for run in study.runs if states[run] != folder.DONE]
    total = sum(works[run.cell].training for run in study.runs)
    known = {run: spent for run in study.runs if (spent := board.seconds_of(places[run]))}
    scale = sum(known.values()) / sum(seconds[run.cell] for run in known) if known else 1.0
    left = scale * sum(seconds[run.cell] for run in rest) / executor.slots
    return [
        *board.aligned(rows),
        "",
        f"{len(study.runs)} runs of {len(study.cells)} cells, {scaled(total)}FLOP of training; "
        f"{len(study.runs) - len(rest)} done, {len(rest)} to do in about {duration(left)}, {executor}.",
        f"A time with ~ follows from steps timed on this machine just now ({duration(took)}) and from the "
        "operations of training and measuring" + (", what is left also from what runs took." if known else "."),
    ]
