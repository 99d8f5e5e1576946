"""Where the time of training goes, by phase."""

import time
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch.profilers import Profiler

TRAINING = ("loading", "sampling", "backward", "optimizer", "rest")
MEASURING = "measuring"

# What Lightning announces, and the phase that begins with it. It calls a hook of all callbacks before the model's own,
# so the model's, which is announced though it may be empty, says that the callbacks have ended.
_BEGINS = {
    "run_training_epoch": "loading",  # starts the loader's workers
    "train_dataloader_next": "loading",
    "training_step": "sampling",
    "on_before_backward": "backward",
    "on_after_backward": "rest",
    "optimizer_step": "optimizer",
    "on_before_optimizer_step": "optimizer",
    "on_train_batch_end": "rest",
}


class Phases(Profiler):
    """Adds up the time of each phase, by what Lightning announces to its profiler; passes everything on to the former.

        loading     waiting for a batch, and taking it to the device
        sampling    the objective: chains, and the loss at their ends
        backward    the gradient of the loss, and with several processes its mean
        optimizer   the optimiser's step
        rest        logging, learning rates and Lightning's own
        measuring   everything that callbacks do, wherever they do it, validation, and all between two epochs

    An instant belongs to one phase, and the phases sum to the time that has passed. On CUDA that is the device's time,
    between events in its stream: no step waits for it, and what is hidden behind it, such as loading, costs nothing.

    Args:
        inner: The trainer's own profiler.
        device: Where the model is trained.
    """

    def __init__(self, inner: Profiler, device: torch.device) -> None:
        super().__init__()
        self.inner = inner
        self._on_cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = [(MEASURING, self._now())]

    def start(self, action_name: str) -> None:
        self.inner.start(action_name)
        if action_name.startswith("[Callback]"):
            self._enter(MEASURING)
        elif (phase := _BEGINS.get(action_name.rpartition(".")[2])) is not None:
            self._enter(phase)

    def stop(self, action_name: str) -> None:
        if action_name == "optimizer_step":
            self._enter("rest")
        self.inner.stop(action_name)

    def take(self) -> dict[str, float]:
        """Seconds of each phase since the last call, or since the beginning; waits for the device."""
        phase, now = self._marks[-1][0], self._now()
        self._marks.append((phase, now))
        if self._on_cuda:
            now.synchronize()
        seconds = dict.fromkeys((*TRAINING, MEASURING), 0.0)
        for (phase, begin), (_, end) in pairwise(self._marks):
            seconds[phase] += begin.elapsed_time(end) / 1000 if self._on_cuda else end - begin
        del self._marks[:-1]
        return seconds

    def _enter(self, phase: str) -> None:
        if phase != self._marks[-1][0]:
            self._marks.append((phase, self._now()))

    def _now(self) -> Any:
        """Seconds, or on CUDA an event."""
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
