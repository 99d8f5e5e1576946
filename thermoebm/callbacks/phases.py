"""The time of training by phase."""

import time
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch.profilers import Profiler

TRAINING = ("loading", "sampling", "backward", "optimizer", "rest")
MEASURING = "measuring"

# Actions that Lightning reports to its profiler, and the phase that begins with each. Lightning calls a hook of all
# callbacks before the model's own. The latter is reported even if it is empty, so it marks the end of the callbacks.
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
    """Adds up the time of each phase from Lightning's calls to its profiler, and forwards the calls to ``inner``.

        loading     waiting for a batch, and moving it to the device
        sampling    the objective: chains, and the loss at their ends
        backward    the gradient of the loss, and its mean over several processes
        optimizer   the optimiser's step
        rest        logging, learning rates and Lightning's own work
        measuring   all callbacks in any hook, validation, and everything between two epochs

    Each instant belongs to one phase, and the phases sum to the elapsed time. On CUDA this is device time, between
    events in the stream: no step waits for it, and host work that overlaps it, such as loading, costs nothing.

    Args:
        inner: The trainer's own profiler.
        device: Device on which the model is trained.
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
        """The present time in seconds, or on CUDA a recorded event."""
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
