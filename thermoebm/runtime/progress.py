"""Progress of long work: bars for terminals and log files, or reports to whoever listens.

Work tells its steps to a :func:`bar`. What is measured during training does so within :func:`measuring`: a training
has its own display, which the steps are then reported to, and without one (another process, another display) nothing
is shown.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from tqdm import tqdm

from thermoebm.runtime import signals

#: Is told the title of a piece of work, how many of its steps are done, and how many there are; at its end, None.
Listener = Callable[[str | None, int, int], None]

_listener: Listener | None = None
_measuring = False


class Bar(Protocol):
    """What :func:`bar` returns."""

    def update(self, n: int = 1) -> object:
        """Adds n completed steps."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def bar(total: int, title: str | None, unit: str) -> Bar:
    """A progress bar, redrawn in place on a terminal, a line every ten seconds elsewhere; no bar without a title.

    The bar is removed when it is done. It does not appear for work that takes less than a second. Within
    :func:`measuring` it is a report to the listener.
    """
    if _measuring:
        return _Report(total, title)
    moving = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        disable=title is None,
        leave=False,
        delay=1,
        mininterval=0.2 if moving else 10,
        ascii=None if moving else True,
    )


def listen(listener: Listener | None) -> None:
    """Makes this the listener; None: nobody listens any more."""
    global _listener
    _listener = listener


@contextmanager
def measuring() -> Iterator[None]:
    """Within this context, which a callback enters to measure, bars are reports to the listener."""
    global _measuring
    before, _measuring = _measuring, True
    try:
        yield
    finally:
        _measuring = before


class _Report:
    """The steps of one piece of work, told to the listener."""

    def __init__(self, total: int, title: str | None) -> None:
        self.total = total
        self.title = title
        self.done = 0

    def update(self, n: int = 1) -> None:
        self.done += n
        self._tell(self.title)
        signals.check()  # between two parts of a measurement, which is made again

    def __enter__(self) -> Self:
        self._tell(self.title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell(None)

    def _tell(self, title: str | None) -> None:
        if self.title is not None and _listener is not None:
            _listener(title, self.done, self.total)
