"""Peak memory of a piece of work, in bytes beyond what was there before it."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler prints when it starts and stops


def peak(work: Callable[[], Any], device: torch.device) -> int:
    """Most bytes that were allocated at once.

    On CUDA it is the allocator's own statistic. On CPU the profiler sees every allocation and release of torch's
    allocator, whether of an operator, of autograd or of Python, and their running sum is exact and repeats; the
    resident size of a process would add what the C library keeps and what other code touches. Scratch memory that
    oneDNN and MKL take for themselves is not seen.
    """
    if device.type == "cuda":
        work()  # the libraries take their workspaces
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        work()
    assert profiler.profiler is not None
    results: Any = profiler.profiler.kineto_results
    moves = [event for event in results.events() if event.name() == "[memory]"]
    live = most = 0
    for move in sorted(moves, key=lambda event: event.start_ns()):
        live += move.nbytes()
        most = max(most, live)
    return most
