"""What the C library does with the memory of tensors that are gone, on a CPU."""

import ctypes
import os
import platform

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Has the process keep freed memory for its next tensors, up to 2 GiB; only glibc can be told.

    Every step of a chain frees some tensors of megabytes and takes others. By default glibc gives them back to the
    system, which hands out new pages, zeroed, one fault at a time: up to a third of a step (docs/performance.md).
    Whoever has set glibc's own variables has decided; the setting is then left alone.

    Returns:
        Whether it was told.
    """
    decided = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if decided or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # Tensors up to 1 GiB come from the heap, which would otherwise grow to 32 MiB at most and shrink at once.
    return all([libc.mallopt(_MMAP_THRESHOLD, 2**30), libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)])
