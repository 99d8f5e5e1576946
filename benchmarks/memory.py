"""Peak memory of a piece of work, in bytes beyond those allocated before it."""

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler prints when it starts and stops


def peak(work: Callable[[], Any], device: torch.device) -> int:
    """The largest number of bytes allocated at once.

    On CUDA this is the allocator's own statistic. On CPU the profiler sees every allocation and release of torch's
    allocator, whether by an operator, by autograd or from Python, and their running sum is exact and reproducible. The
    profiler remembers addresses of earlier measurements, so a release counts only if the work itself allocated what it
    releases. The resident size of the process would include memory kept by the C library and used by other code.
    Scratch memory that oneDNN and MKL allocate themselves is not seen.

    Python's collector of cycles runs before the work and not during it: it would release tensors at a moment that
    depends on everything that the process did before.
    """
    if device.type == "cuda":
        work()  # lets the libraries allocate their workspaces
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
            work()
    finally:
        if enabled:
            gc.enable()
    assert profiler.profiler is not None
    results: Any = profiler.profiler.kineto_results
    held: dict[int, int] = {}
    live = most = 0
    for _, address, size in sorted(_moves(results.experimental_event_tree())):
        if size > 0:
            held[address] = size
        live += size if size > 0 else -held.pop(address, 0)
        most = max(most, live)
    return most


def _moves(events: list[Any]) -> Iterator[tuple[int, int, int]]:
    """(time in ns, address, bytes, negative for a release) of all allocations below these events."""
    for event in events:
        kind, fields = event.typed
        if kind == _EventType.Allocation:
            yield event.start_time_ns, fields.ptr, fields.alloc_size
        yield from _moves(event.children)
