"""Processes that train together, and notice that one of them is lost or has received a signal."""

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable

from torch import distributed

INTERVAL = 1.0  # seconds between beats
LONGEST = 15.0  # seconds without one after which a process is lost


def connection_lost(error: BaseException) -> bool:
    """Whether a collective operation failed, as it does at once where another process has ended."""
    kinds = tuple(kind for name in ("DistError", "DistBackendError") if (kind := getattr(distributed, name, None)))
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


class Heartbeat(threading.Thread):
    """Calls ``lost`` once, in this thread, if another process has not been heard of for :data:`LONGEST` seconds.

    Collective operations may wait for a lost process for half an hour. Each process sends a datagram (UDP) to the first
    one every second, and the first one to all others; whoever notices a loss tells it on. A process that has never been
    heard of is not missed: a network may not let datagrams through. One that computes alone for long beats meanwhile.

    A beat also tells the first process by which signal this one is to end; :meth:`end` tells the others that the first
    one has ended so.

    Args:
        rank: Of this process.
        agree: Gives the first process's value to all.
        lost: Takes the rank of the lost process.
        asked: The number of the signal that this process is to end by; 0: none.
        ask: Takes such a number from another process; called in the first one.
        ended: Called in the other processes when the first one has ended by a signal.
    """

    def __init__(
        self,
        rank: int,
        agree: Callable[[tuple[int, str]], tuple[int, str]],
        lost: Callable[[int], None],
        asked: Callable[[], int] = lambda: 0,
        ask: Callable[[int], None] = lambda number: None,
        ended: Callable[[], None] = lambda: None,
    ):
        super().__init__(name="heartbeat", daemon=True)
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.bind(("", 0))
        self._socket.settimeout(INTERVAL / 2)
        port, token = agree((self._socket.getsockname()[1], secrets.token_hex(8)))
        self._rank, self._lost, self._token = rank, lost, token.encode()  # nobody else's datagrams count
        self._asked, self._ask, self._ended = asked, ask, ended
        self._known = {} if rank == 0 else {0: (address[0], port, *address[2:])}
        self._heard: dict[int, float] = {}
        self._stopped = threading.Event()

    def run(self) -> None:
        with self._socket:
            lost = self._watch()
        if lost is not None:
            self._lost(lost)

    def _watch(self) -> int | None:
        """The rank of the first process that is lost; None: this one was told to stop before."""
        due = 0.0
        while not self._stopped.is_set():
            if time.monotonic() >= due:
                self._send("beats", self._asked())
                due = time.monotonic() + INTERVAL
            gone = self._receive()
            missed = [other for other, heard in self._heard.items() if time.monotonic() - heard > LONGEST]
            if gone is None and missed:
                gone = missed[0]
                self._send("lost", gone)
            if gone is not None and not self._stopped.is_set():
                return gone
        return None

    def _send(self, what: str, number: int) -> None:
        for address in list(self._known.values()):
            try:
                self._socket.sendto(b"%s %d %s %d" % (self._token, self._rank, what.encode(), number), address)
            except OSError:  # its silence will be noticed
                continue

    def _receive(self) -> int | None:
        """The rank of a process that another one has lost."""
        try:
            said, address = self._socket.recvfrom(256)
        except OSError:  # nothing came, or nobody listens there any more
            return None
        token, *told = said.split(b" ")
        if token != self._token:
            return None
        rank, what, number = int(told[0]), told[1].decode(), int(told[2])
        self._known[rank] = address
        self._heard[rank] = time.monotonic()
        if what == "ended":
            self._ended()
        elif what == "beats" and number and self._rank == 0:
            self._ask(number)
        return number if what == "lost" else None

    def end(self) -> None:
        """Tells all others that the first process, which this is, has ended by a signal."""
        for _ in range(3):  # a datagram may be lost
            self._send("ended", 0)
            time.sleep(INTERVAL / 10)

    def hears(self) -> bool:
        """Whether a datagram of another process has come through."""
        return bool(self._heard)

    def stop(self) -> None:
        """Stops beating and listening: this process is about to end."""
        self._stopped.set()


def end_process(sentence: str) -> None:
    """Ends this process from any thread, whatever its others wait for, with one sentence and status 2."""
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    os._exit(2)
