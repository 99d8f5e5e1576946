"""Memory allocation of the C library: freed memory is kept for the next tensors on a CPU."""

import ctypes
import os
import platform

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Makes the process keep up to 2 GiB of freed memory for its next tensors; only glibc supports this.

    Every step of a chain frees and allocates tensors of some megabytes. By default glibc returns freed memory to the
    system, which then supplies new, zeroed pages, one page fault at a time: up to a third of the time of a step
    (docs/performance.md). If one of glibc's own environment variables is set, nothing is changed.

    Returns:
        Whether glibc accepted the settings.
    """
    decided = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if decided or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # Allocations up to 1 GiB come from the heap (by default at most those up to 32 MiB), which shrinks only late.
    return all([libc.mallopt(_MMAP_THRESHOLD, 2**30), libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)])
