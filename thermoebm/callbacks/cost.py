"""The cost of training: operations, time by phase and memory."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from thermoebm.callbacks.flops import count_flops
from thermoebm.callbacks.phases import MEASURING, TRAINING, Phases
from thermoebm.modules import ImageModel, LatentEBM
from thermoebm.runtime import processes
from thermoebm.runtime.cost import matrix_rate, peak_memory
from thermoebm.runtime.units import scaled, short


@dataclass
class Spent:
    """The cost of some training steps, over all processes.

    Args:
        steps, images: Number of each.
        flops: Nominal floating-point operations; see :class:`thermoebm.runtime.cost.Flops`.
        seconds: Seconds of each phase; see :class:`thermoebm.callbacks.phases.Phases`.
    """

    steps: int = 0
    images: int = 0
    flops: int = 0
    seconds: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: "Spent") -> "Spent":
        self.steps += other.steps
        self.images += other.images
        self.flops += other.flops
        self.seconds.update(other.seconds)
        return self

    @property
    def training(self) -> float:
        """Seconds of all phases except measuring."""
        return sum(self.seconds[phase] for phase in TRAINING)


class Cost(pl.Callback):
    """Logs the cost of each training epoch over all processes and, separately, the time spent on measurements.

        cost/flops_per_step         nominal floating-point operations of a step, averaged over the epoch
        cost/flops                  operations of all steps since the run began, across resumptions
        cost/flops_per_second       achieved rate
        cost/images_per_second
        cost/seconds                training time, without callbacks and validation
        cost/seconds/PHASE          its parts: ``loading``, ``sampling``, ``backward``, ``optimizer``, ``rest``
        cost/seconds_measuring      time of callbacks and validation since the previous epoch was logged
        cost/seconds_first_step     from the set-up of this fit to the end of its first step; in its first epoch only
        cost/seconds_per_step       training time of a step, averaged over the epoch without this first step
        cost/of_matrix_rate         the rate of these steps as a share of that of large matrix products on this machine
        cost/recorded               share of the epoch's chains that were replayed as CUDA graphs; of latent EBMs
        cost/peak_memory            bytes so far, of the largest process: :func:`thermoebm.runtime.cost.peak_memory`

    The first step compiles the Langevin steps: it belongs to ``cost/seconds`` and ``cost/seconds/sampling``.

    Operations are counted by running one extra step of each kind outside training, whose time counts as ``measuring``.
    A resumed run counts its earlier steps with its present settings: its ``cost/flops`` is that of an uninterrupted
    run if the settings have not changed. All batches must have the size of the first.
    """

    def __init__(self) -> None:
        self._phases: Phases | None = None
        self._began = math.nan
        self._mean: Callable[[Tensor], Tensor] = torch.clone  # over processes
        self._before, self._until = Spent(), 0  # of the epoch in which the run was resumed; flops since it began
        self._restart()

    def _restart(self) -> None:
        self._flops: dict[bool, int] = {}  # of a step, by whether it computes the whole ladder
        self._earlier = 0  # flops of the steps before the first of this fit
        self._first: Spent | None = None  # of the first step, until its epoch ends
        self._epoch, self._fit = Spent(), Spent()
        self._step = Spent()  # what the present step adds
        self._memory = self._matrix_rate = math.nan
        self._processes = 1
        self._chains = (0, 0)  # calls and replays before this epoch

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._began = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()
        self._processes = trainer.world_size
        self._mean = lambda values: processes.mean(values.to(pl_module.device))
        with trainer.precision_plugin.train_step_context():
            self._matrix_rate = matrix_rate(pl_module.device)
        self._phases = Phases(trainer.profiler, pl_module.device)  # type: ignore[attr-defined]
        trainer.profiler = self._phases  # type: ignore[attr-defined]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Tensor, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ImageModel)
        step, processes = trainer.global_step, trainer.world_size
        context = trainer.precision_plugin.train_step_context

        def flops(step: int) -> int:
            kind = pl_module.measures_in(step)
            if kind not in self._flops:
                self._flops[kind] = count_flops(pl_module, batch, step, context)
                trainer.strategy.barrier()  # else the others would wait in the gradients' all-reduce, which is training
            return processes * self._flops[kind]

        if not (self._fit.steps or self._first or self._epoch.steps):
            self._earlier = sum(map(flops, range(step)))
        self._step = Spent(1, processes * len(batch), flops(step))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._epoch += self._step
        if not (self._fit.steps or self._first):
            self._first, self._epoch = self._epoch, Spent()
            self._first.seconds.update(self._take())
            waited = time.perf_counter() - self._began
            pl_module.log("cost/seconds_first_step", waited, on_step=False, on_epoch=True, sync_dist=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        first, self._first = self._first, None
        if not (first or self._epoch.steps or self._before.steps):
            return  # a resumed run repeats the end of its finished epoch
        later, epoch, self._epoch = self._epoch, Spent(), Spent()
        later.seconds.update(self._take())
        for part in (first, later) if first else (later,):
            epoch += part
        self._fit += epoch
        total = self._total(Spent())
        before, self._before = self._before, Spent()
        epoch += before
        if not later.steps:
            later = epoch
        rate = later.flops / later.training
        scalars = {
            "flops_per_step": epoch.flops / epoch.steps,
            "flops": float(total),
            "flops_per_second": epoch.flops / epoch.training,
            "images_per_second": epoch.images / epoch.training,
            "seconds": epoch.training,
            **{f"seconds/{phase}": epoch.seconds[phase] for phase in TRAINING},
            "seconds_measuring": epoch.seconds[MEASURING],
            "seconds_per_step": later.training / later.steps,
            "of_matrix_rate": rate / (self._processes * self._matrix_rate),
        }
        if isinstance(pl_module, LatentEBM):
            scalars["recorded"] = self._recorded(pl_module)
        pl_module.log_dict({f"cost/{name}": value for name, value in scalars.items()}, sync_dist=True)
        self._memory = peak_memory(pl_module.device)
        pl_module.log("cost/peak_memory", self._memory, sync_dist=True, reduce_fx="max")

    def state_dict(self) -> dict[str, Any]:
        """What this epoch has cost so far, up to its last completed step."""
        if self._phases is not None and (self._first or self._epoch.steps):
            self._epoch.seconds.update(self._take())
        here, spent = Spent(), Spent()
        for part in (self._first, self._epoch):
            here += part or Spent()
        for part in (here, self._before):
            spent += part
        fields = vars(spent) | {"seconds": dict(spent.seconds)}
        return {"epoch": fields, "until": self._total(here)} if spent.steps else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        fields = state_dict["epoch"]
        self._before, self._until = Spent(**fields | {"seconds": Counter(fields["seconds"])}), state_dict["until"]

    def _total(self, epoch: Spent) -> int:
        """Operations since the run began, with those of an epoch of which this fit has not been told yet."""
        steps, flops = self._fit.steps + epoch.steps, self._fit.flops + epoch.flops
        return self._earlier + flops if steps else self._until

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._phases is not None:
            self._fit.seconds.update(self._take())
        self._remove(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._remove(trainer)

    def _take(self) -> dict[str, float]:
        """Seconds of each phase since the last call, the mean of all processes, which all make the call."""
        assert self._phases is not None
        seconds = self._phases.take()
        mean = self._mean(torch.tensor(list(seconds.values())))
        return dict(zip(seconds, mean.tolist(), strict=True))

    def _recorded(self, module: LatentEBM) -> float:
        before, recorder = self._chains, module.chains.recorder
        self._chains = recorder.calls, recorder.replays
        return (recorder.replays - before[1]) / max(recorder.calls - before[0], 1)

    def _remove(self, trainer: pl.Trainer) -> None:
        if self._phases is not None:
            trainer.profiler = self._phases.inner  # type: ignore[attr-defined]
            self._phases = None

    def summary(self) -> str:
        """The cost of this fit in one line; empty if it had no step."""
        fit, seconds = self._fit, self._fit.training
        if not fit.steps:
            return ""
        of_limit = fit.flops / seconds / (self._processes * self._matrix_rate)
        shares = sorted(((fit.seconds[phase] / seconds, phase) for phase in TRAINING), reverse=True)
        return (
            f"{fit.steps:,} steps in {short(seconds)} s: {short(fit.steps / seconds)} steps/s, "
            f"{short(fit.images / seconds)} images/s, {scaled(fit.flops / seconds)}FLOP/s, {100 * of_limit:.0f} % of "
            "the rate of large matrix products; "
            f"{', '.join(f'{phase} {100 * share:.0f} %' for share, phase in shares)}; "
            f"{short(fit.seconds[MEASURING])} s more of measuring; peak memory {scaled(self._memory)}B"
        )
