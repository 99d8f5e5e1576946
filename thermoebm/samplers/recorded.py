"""Recorded chains: a CUDA device replays a chain as one graph, at the cost of one launch."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils._pytree import tree_map

from thermoebm.runtime import processes
from thermoebm.samplers.frozen import fingerprint, settings

# Recordings that are kept, each with the memory of one chain. A run uses about ten: on the prior, at t = 1 and on the
# ladder, each for a batch of training, of validation and for the last of validation.
MOST = 16

#: Tensors are one tensor or a tuple of them, at any depth.
Capture = Callable[[Callable[[], Any], torch.device], tuple[Any, Callable[[], Any]]]


def cuda_graph(work: Callable[[], Any], device: torch.device) -> tuple[Any, Callable[[], Any]]:
    """Captures the work, in memory that returns with the graph; its output, and what computes it again in place."""
    # The stream that is set here is set again after a capture that fails, which torch may leave on its own.
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
        stream = _stream(device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()  # libraries allocate their workspaces in the first call on a stream
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # other threads use the device
            output = work()
    return output, graph.replay


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all captures: libraries keep a workspace for each stream for ever."""
    return torch.cuda.Stream(device)


class Recorder:
    """Runs functions of tensors, and replays those that come back.

    The second call with the same key is recorded, and later ones are replayed. A graph freezes addresses and Python
    values, so the key has them; only what a layer keeps in a field of its own, as a slope, is taken for constant.
    Arguments are copied into the recording, and parameters are read in place.

    A function runs unrecorded where its operations must be seen (under a ``TorchDispatchMode``, for instance while
    FLOPs are counted), in distributed training, and where recording has failed, which is told. A copy of a recorder,
    also by pickling, begins without recordings.

    Attributes:
        calls, replays: Number of calls so far outside such modes, and of those that were replayed.
    """

    def __init__(self, capture: Capture = cuda_graph) -> None:
        self.capture = capture
        self.calls = self.replays = 0
        self._works = True
        # By key, the most recent last. None: called once so far. False: could not be recorded.
        self._recordings: OrderedDict[Hashable, _Recording | bool | None] = OrderedDict()

    def __reduce__(self) -> Any:
        return type(self), (self.capture,)

    def __call__(self, function: Callable[..., Any], arguments: Sequence[Tensor], reads: Sequence[Any]) -> Any:
        """``function(*arguments)``.

        Args:
            function: A pure function to tensors, which require no gradient.
            arguments: Tensors on one device.
            reads: All else that the output depends on: modules, tensors, objects whose fields count, values.
        """
        if torch._C._len_torch_dispatch_stack() > 0:
            return function(*arguments)
        self.calls += 1
        if not self._works or processes.count() > 1:
            return function(*arguments)
        key = settings(arguments), fingerprint(tuple(reads))
        with _autocast_without_cache():  # what is cast in a recording lies in its memory
            return self._run(key, function, arguments)

    def clear(self) -> None:
        """Drops all recordings."""
        self._recordings.clear()

    def _run(self, key: Hashable, function: Callable[..., Any], arguments: Sequence[Tensor]) -> Any:
        seen, recording = key in self._recordings, self._recordings.pop(key, None)
        if isinstance(recording, _Recording):
            self.replays += 1
            output = recording(arguments)
        else:
            output = self._unrecorded(function, arguments)
            if seen and recording is None:
                recording = self._record(function, arguments)
        self._recordings[key] = recording
        if len(self._recordings) > MOST:
            self._recordings.popitem(last=False)
        return output

    def _unrecorded(self, function: Callable[..., Any], arguments: Sequence[Tensor]) -> Any:
        """The function's output; if memory runs out, it has that of the recordings too."""
        try:
            return function(*arguments)
        except torch.OutOfMemoryError:
            if not any(self._recordings.values()):
                raise
        self.clear()
        return function(*arguments)

    def _record(self, function: Callable[..., Any], arguments: Sequence[Tensor]) -> "_Recording | bool":
        try:
            return _Recording(self.capture, function, arguments)
        except Exception as error:  # whatever the driver raises, chains can still run
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self._works = isinstance(error, torch.OutOfMemoryError)
        which = "this chain runs" if self._works else "chains run"
        rank_zero_warn(f"A chain could not be recorded ({reason}): {which} unrecorded, which is slower but the same.")
        return False


class _Recording:
    def __init__(self, capture: Capture, function: Callable[..., Any], arguments: Sequence[Tensor]) -> None:
        with torch.inference_mode(False), torch.no_grad():  # the buffers are written to in any mode
            self.inputs = [torch.empty_like(a).copy_(a) for a in arguments]
            self.output, self.replay = capture(lambda: function(*self.inputs), arguments[0].device)

    def __call__(self, arguments: Sequence[Tensor]) -> Any:
        for buffer, argument in zip(self.inputs, arguments, strict=True):
            buffer.copy_(argument)
        self.replay()
        return tree_map(torch.clone, self.output)


@contextmanager
def _autocast_without_cache() -> Iterator[None]:
    caching = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(caching)
