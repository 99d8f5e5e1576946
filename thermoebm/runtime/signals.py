"""Signals during work that cannot be interrupted halfway and need not be finished."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """Within the block SIGTERM raises SystemExit(143), as Ctrl-C raises KeyboardInterrupt.

    Lightning only notes a SIGTERM, and ends the program after the present training step; a step that compiles takes
    long, and has computed nothing that could be lost. No effect outside the main thread, which alone receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)  # None: not set by Python
