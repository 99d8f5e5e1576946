"""Peak memory of a piece of work, in bytes beyond those allocated before it."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler prints when it starts and stops


def peak(work: Callable[[], Any], device: torch.device) -> int:
    """The largest number of bytes allocated at once.

    On CUDA this is the allocator's own statistic. On CPU the profiler sees every allocation and release of torch's
    allocator, whether by an operator, by autograd or from Python, and their running sum is exact and reproducible. The
    resident size of the process would include memory kept by the C library and used by other code. Scratch memory that
    oneDNN and MKL allocate themselves is not seen.
    """
    if device.type == "cuda":
        work()  # lets the libraries allocate their workspaces
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
