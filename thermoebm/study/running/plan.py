"""Predicts what a study will cost: its operations, and its time from the rates of this machine."""

import time
from pathlib import Path

import torch

from thermoebm.modules import LatentEBM
from thermoebm.runtime.cost import choose_precision, choose_threads, compiles
from thermoebm.runtime.step_time import Rates, measured
from thermoebm.runtime.threads import threads
from thermoebm.runtime.units import duration, scaled
from thermoebm.study.planning.definitions import Cell, Study
from thermoebm.study.planning.traces import Machine
from thermoebm.study.planning.work import Counter, Work
from thermoebm.study.running import board, folder
from thermoebm.study.running.executors import Local

# Seconds from a worker's start to its first step, by device and whether steps are compiled, from an empty cache
# (docs/performance.md).
_START_UP = {("cpu", True): 40.0, ("cpu", False): 10.0, ("cuda", True): 25.0, ("cuda", False): 15.0}


class Machines:
    """How the runs of each cell are executed on this machine; its rates are measured once for each way.

    Args:
        threads_each: CPU threads of a run, of which small networks use one.
    """

    def __init__(self, threads_each: int) -> None:
        self.threads = threads_each
        self._rates: dict[tuple[str, int, bool], Rates] = {}

    @property
    def measured(self) -> list[Rates]:
        """All rates that were needed so far."""
        return list(self._rates.values())

    def device(self, cell: Cell) -> torch.device:
        accelerator = cell.composed.config["trainer"]["accelerator"]
        on_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
        return torch.device("cuda" if on_gpu else "cpu")

    def __call__(self, cell: Cell) -> Machine:
        config, model, device = cell.composed.config, cell.composed.model, self.device(cell)
        batch = int(config["data"]["init_args"]["batch_size"])
        half = "16" in str(config["trainer"]["precision"] or choose_precision(config["trainer"]["accelerator"]))
        flops = batch * model.image_flops()
        with threads(self.threads):
            count = choose_threads(flops)
        way = device.type, count, half
        if way not in self._rates:
            with threads(count), torch.autocast(device.type, torch.bfloat16, enabled=half):
                self._rates[way] = measured(device)
        fused = isinstance(model, LatentEBM) and compiles(model.chains.compile, flops, device.type)
        return Machine(self._rates[way], fused, half)

    def seconds(self, cell: Cell, work: Work) -> float:
        """Predicted duration of a run of the cell."""
        return _START_UP[self.device(cell).type, self(cell).fused] + work.seconds


# The printed plan


def plan(study: Study, output: Path, jobs: int | None, threads_each: int | None, runs_per_gpu: int) -> list[str]:
    """The plan as lines of text: a row for each run, then the cost of all runs together."""
    executor = Local(jobs, threads_each, runs_per_gpu)
    started = time.perf_counter()
    machines = Machines(executor.threads)
    counter = Counter(machines, study.runs[0].evidence)
    works = {cell.name: counter.work(cell) for cell in study.cells}
    seconds = {cell.name: machines.seconds(cell, works[cell.name]) for cell in study.cells}
    took = time.perf_counter() - started
    places = {run: output / "runs" / run.hash for run in study.runs}
    states = {run: board.state_of(place)[0] for run, place in places.items()}
    rows: list[tuple[str, ...]] = [("cell", "seed", "run", "FLOPs", "time", "state")]
    for run in study.runs:
        taken = board.seconds_of(places[run])
        shown = duration(taken) if taken else f"~ {duration(seconds[run.cell])}"
        flops = f"{scaled(works[run.cell].training.flops)}FLOP"
        rows.append((run.cell, str(run.seed), run.hash, flops, shown, states[run]))
    rest = [run for run in study.runs if states[run] != folder.DONE]
    total = sum(works[run.cell].training.flops for run in study.runs)
    known = {run: spent for run in study.runs if (spent := board.seconds_of(places[run]))}
    scale = sum(known.values()) / sum(seconds[run.cell] for run in known) if known else 1.0
    left = scale * sum(seconds[run.cell] for run in rest) / executor.slots
    return [
        *board.aligned(rows),
        "",
        f"{len(study.runs)} runs of {len(study.cells)} cells, {scaled(total)}FLOP of training; "
        f"{len(study.runs) - len(rest)} done, {len(rest)} to do in about {duration(left)}, {executor}.",
        "A time with ~ follows from the operations of training and measuring and from this machine's rates "
        f"({duration(took)}): {_rates(machines)}" + ("; what is left also from what runs took." if known else "."),
    ]


def _rates(machines: Machines) -> str:
    def one(rates: Rates) -> str:
        return (
            f"{scaled(rates.matrix)}FLOP/s of matrix products, {scaled(rates.convolution)}FLOP/s of convolutions, "
            f"{scaled(rates.bandwidth)}B/s, transposed {scaled(rates.transposition)}B/s, "
            f"{1e6 * rates.launch:.1f} µs for each operation"
        )

    return "; ".join(map(one, machines.measured))
