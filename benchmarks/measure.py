"""Tools of all benchmarks: precisions, interleaved timing, the machine's own limits, figures with their spread."""

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch

from thermoebm.runtime.cost import synchronise

COPY = "copy"


def ways(device: torch.device) -> tuple[str, ...]:
    """The ways in which the device can run a chain."""
    return ("eager", "compiled", "recorded", "graph") if device.type == "cuda" else ("eager", "compiled")


def precisions(device: torch.device) -> tuple[str, ...]:
    """The precisions that the device offers; TF32 exists on CUDA only."""
    return ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16")


@contextlib.contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Computes matrix products of float32 numbers in ``float32``, ``tf32`` or, under autocast, ``bfloat16``."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = name == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class Figure(NamedTuple):
    """A median over repeats, and the quartiles around it."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}}–{self.high:{spec}})"


def figure(values: list[float]) -> Figure:
    """The median of some repeats and its spread."""
    if len(values) == 1:
        return Figure(*values * 3)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(median, low, high)


@dataclass
class Timing:
    """Seconds of one contestant's first call, which may compile, and of each later call; and the last call's result."""

    first: float = float("nan")
    seconds: list[float] = field(default_factory=list)
    result: Any = None
    error: str | None = None

    def over(self, other: "Timing", factor: float = 1) -> Figure:
        """This time over another's, times a factor, round by round: a disturbance of a round slows both."""
        return figure([factor * a / b for a, b in zip(self.seconds, other.seconds, strict=True)])

    def per(self, work: float) -> Figure:
        """Seconds for each unit of work."""
        return figure([seconds / work for seconds in self.seconds])

    def rate(self, work: float) -> Figure:
        """Units of work a second."""
        return figure([work / seconds for seconds in self.seconds])


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds go on for ``seconds``, but are no fewer than ``least`` and no more than ``most``."""

    seconds: float = 20.0
    least: int = 3
    most: int = 15


@dataclass(frozen=True)
class Settings:
    """Settings of the measurements.

    Args:
        device: Device to measure on.
        effort: How long to measure each group of contestants.
        quick: Use toy sizes, to see that the program works.
        ways: ``eager``, ``compiled`` and, on CUDA, ``recorded`` and ``graph``.
        precisions: See :func:`precision`.
        networks: Names of the networks, see :mod:`benchmarks.models`.
    """

    device: torch.device
    effort: Effort
    quick: bool
    ways: tuple[str, ...]
    precisions: tuple[str, ...]
    networks: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """A table of contestants measured side by side, with its title and the facts that hold for all of its rows."""

    section: str
    title: str
    facts: dict[str, Any]
    rows: list[dict[str, Any]]


def interleave(contestants: Mapping[Any, Callable[[], Any]], device: torch.device, effort: Effort) -> dict[Any, Timing]:
    """Times contestants in turn, A B C, C B A, A B C ..., so that noise of the machine affects all of them.

    A contestant that raises in its first call is left out, and the reason is recorded. So is one that cannot be
    compiled or recorded: the library would run it all the same, and its time would appear under a wrong name. On CUDA
    the first call stands for three calls, since a chain is recorded in the second and replayed from the third on.
    """
    first_calls = 3 if device.type == "cuda" else 1
    timings = {name: Timing() for name in contestants}

    def call(name: Any) -> float:
        synchronise(device)
        begin = time.perf_counter()
        timings[name].result = contestants[name]()
        synchronise(device)
        return time.perf_counter() - begin

    for name, timing in timings.items():
        try:
            with warnings.catch_warnings():
                for failure in ("torch.compile failed", "A chain could not be recorded"):
                    warnings.filterwarnings("error", message=failure)
                timing.first = sum(call(name) for _ in range(first_calls))
        except Exception as error:
            timing.error = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    order = [name for name, timing in timings.items() if timing.error is None]
    begin = time.perf_counter()
    rounds = 0
    while rounds < effort.least or (rounds < effort.most and time.perf_counter() - begin < effort.seconds):
        for name in order if rounds % 2 == 0 else reversed(order):
            timings[name].seconds.append(call(name))
        rounds += 1
    return timings


def limits(settings: Settings) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """The machine's own limits as contestants, and their work: FLOPs of a matrix product, bytes read and written.

    The product is large enough for the rate not to depend on its size. On CUDA it is repeated, so that its launch and
    the synchronisation are negligible.
    """
    device = settings.device
    side, times, numbers = (8192, 5, 2**29) if device.type == "cuda" else (2048, 1, 2**26)
    side, times, numbers = (256, 1, 2**16) if settings.quick else (side, times, numbers)
    contestants: dict[str, Callable[[], Any]] = {}
    work: dict[str, float] = {}

    def product(name: str, a: torch.Tensor, out: torch.Tensor) -> None:
        with precision(name, device):
            for _ in range(times):
                torch.mm(a, a, out=out)

    for name in settings.precisions:
        a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if name == "bfloat16" else torch.float32)
        contestants[name] = partial(product, name, a, torch.empty_like(a))
        work[name] = 2.0 * side**3 * times
    source = torch.ones(numbers, device=device)
    contestants[COPY] = partial(torch.empty_like(source).copy_, source)
    work[COPY] = 2.0 * source.nbytes
    return contestants, work


def limit_facts(timings: Mapping[Any, Timing], work: Mapping[str, float]) -> dict[str, Figure]:
    """The rates of the machine in the rounds of one group: FLOP/s of each precision, bytes a second of a copy."""
    return {
        "copy_bytes_per_second" if name == COPY else f"matrix_flops_per_second_{name}": timings[name].rate(amount)
        for name, amount in work.items()
    }
