"""Machine and terminal: threads, memory, operation counts, random streams, the disk cache, progress bars and messages.

Nothing here depends on the rest of the package; everything else may import it.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "allocator": "keep_freed_memory",
        "cache": "cached digest one_at_a_time",
        "cost": "Flops choose_precision choose_threads forward_flops peak_memory",
        "progress": "bar",
        "randomness": "stream",
        "terminal": "fail quieten reason say",
        "units": "duration scaled short",
    },
)
