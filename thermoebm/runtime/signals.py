"""Signals: SIGTERM and SIGINT (Ctrl-C) end a program with a sentence and their status, SIGUSR1 saves a training.

A program that listens ends wherever it is, by :class:`Ended`. During training that would leave a state of nothing: a
signal is then only noted, and :func:`check` ends the training at a place that has computed nothing yet which would have
to be kept. Such places lie between the steps of chains, between the parts of a measurement, and before each training
step; work that takes long and has none, such as compilation, is :func:`interruptible` as a whole.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)
_SAVING = getattr(signal, "SIGUSR1", None)  # Windows has none


class Ended(SystemExit):
    """The program ends by a signal; its status is 128 plus the signal's number, as shells have it.

    Attributes:
        signal: The signal.
        at_once: Whether training was ended within a step, after a second Ctrl-C: there is no state to keep.
        told: Whether the user has been told.
    """

    def __init__(self, number: signal.Signals, at_once: bool = False) -> None:
        super().__init__(128 + number)
        self.signal = number
        self.at_once = at_once
        self.told = False


class _State:
    """What this process has received, and what it does about it."""

    def __init__(self) -> None:
        self.listening = False
        self.ending: signal.Signals | None = None
        self.saving = False
        self.deferred = False  # by a training
        self.agreed = False  # only the processes together end: check() does nothing
        self.heard: socket.socket | None = None  # has a byte for each signal, also while no Python code can run
        self.received = b""  # of it


_state = _State()


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Within it the signals have their meaning, and an end by one of them is told.

    No effect outside the main thread, which alone receives signals, and within another such block.
    """
    global _state
    if threading.current_thread() is not threading.main_thread() or _state.listening:
        yield
        return
    before = {number: signal.getsignal(number) for number in _numbers()}
    _state = _State()
    _state.listening = True
    listen()
    try:
        yield
    except Ended as ended:
        if not ended.told and os.environ.get("LOCAL_RANK", "0") == "0":  # perhaps amid the imports of a better answer
            print(f"Ended by {ended.signal.name}", flush=True)
        raise
    finally:
        _state = _State()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python


def listen() -> None:
    """Takes the signals back if something else, as Lightning does, has taken them."""
    for number in _numbers() if _state.listening else ():
        signal.signal(number, _received)


@contextlib.contextmanager
def deferred(together: bool = False) -> Iterator[None]:
    """Within it, signals are noted until :func:`check` or :func:`interruptible`.

    Args:
        together: Several processes train, and end at the same step: they compare what each was :func:`asked`, and
            call :func:`end`; neither of these two ends one alone, unless it :func:`may_end_alone`.
    """
    before = _state.deferred, _state.agreed
    _state.deferred, _state.agreed = True, together
    try:
        with _hearing() if together and _state.listening else contextlib.nullcontext():
            yield
    finally:
        _state.deferred, _state.agreed = before


@contextlib.contextmanager
def _hearing() -> Iterator[None]:
    _state.heard, writes = socket.socketpair()
    for end in (_state.heard, writes):
        end.setblocking(False)
    before = signal.set_wakeup_fd(writes.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        reads, _state.heard = _state.heard, None
        reads.close()
        writes.close()


def heard() -> int:
    """The signal that this process is to end by; 0: none. Any thread may ask.

    The main thread may be waiting for another process, and not have noticed it yet.
    """
    if _state.ending is not None:
        return int(_state.ending)
    with contextlib.suppress(OSError):  # nothing, or no training any more
        _state.received += _state.heard.recv(4096) if _state.heard is not None else b""
    return next((number for number in _state.received if number in _ENDING), 0)


def receive(number: int) -> None:
    """Gives this process a signal that another one of its training has had, unless it has it already."""
    if not heard():
        os.kill(os.getpid(), number)


def may_end_alone(yes: bool) -> None:
    """Whether this process of several may end wherever :func:`check` is, as one without others does.

    It tells the others, which then end wherever they are.
    """
    _state.agreed = not yes


def ends_alone() -> bool:
    """Whether it may; true without others."""
    return not _state.agreed


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within it a signal ends the program at once: it computes for long, and nothing that has to be kept."""
    check()
    before = _state.deferred
    _state.deferred = before and _state.agreed
    try:
        yield
    finally:
        _state.deferred = before


def check() -> None:
    """Ends the program here if a signal has asked for it, unless its processes end together."""
    if _state.ending is not None and not _state.agreed:
        raise Ended(_state.ending)


def asked() -> int:
    """What this process has been asked for: 0 nothing, 1 to save, 2 and 3 to end by SIGINT and SIGTERM."""
    if _state.ending is not None:
        return 2 + _ENDING.index(_state.ending)
    return int(_state.saving)


def end(number: int) -> None:
    """Ends the program as :func:`asked` counts, if that is to end."""
    if number >= 2:
        raise Ended(_ENDING[number - 2])


def saved() -> None:
    """What SIGUSR1 asked for has been done."""
    _state.saving = False


def _numbers() -> list[signal.Signals]:
    return [*_ENDING, *([] if _SAVING is None else [_SAVING])]


def _received(number: int, frame: FrameType | None) -> None:
    if number == _SAVING:
        _state.saving = True
        return
    again = number == _state.ending == signal.SIGINT
    _state.ending = _state.ending or signal.Signals(number)
    if not _state.deferred or again:
        raise Ended(_state.ending, at_once=_state.deferred)
