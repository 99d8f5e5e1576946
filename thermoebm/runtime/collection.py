"""Python's garbage collector, which need not look at modules."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For the imports of a program: collects no garbage in the block, nor looks at what was imported ever after.

    Torch and Lightning make some million objects, and nearly all of them stay. To look for garbage among them takes a
    quarter of the time of their import.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
