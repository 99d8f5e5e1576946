"""Signals: during work that cannot be interrupted halfway and need not be finished, and behind a program's end."""

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


def behind(ended: SystemExit) -> signal.Signals | None:
    """The signal for which Lightning, or :func:`ended_at_once`, ends the program; None: it ends for another reason."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException  # seconds that only training has spent already

    if isinstance(ended, SIGTERMException) or ended.code == 128 + signal.SIGTERM:
        return signal.SIGTERM
    return signal.SIGINT if isinstance(ended.__context__, KeyboardInterrupt) else None
