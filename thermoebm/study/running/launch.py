"""Runs a study: starts missing runs, tries failed runs again and leaves finished ones alone."""

import contextlib
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thermoebm.runtime.terminal import say
from thermoebm.study.planning.definitions import Run, Study
from thermoebm.study.running import folder
from thermoebm.study.running.board import Board
from thermoebm.study.running.executors import Executor
from thermoebm.study.running.worker import BUSY, DAMAGED

# Seconds between two looks at the workers, and before another look at a run that another process is working on.
_LOOK, _LOOK_AGAIN = 0.2, 5.0


class Launcher:
    """Takes every run of a study to its end, as far as possible.

    Args:
        study: The study.
        output: Its folder, already prepared.
        executor: Executes the runs.
        board: Shows the progress.
    """

    def __init__(self, study: Study, output: Path, executor: Executor, board: Board) -> None:
        self.study = study
        self.output = output
        self.executor = executor
        self.board = board
        self._waiting: deque[tuple[float, Run]] = deque((0.0, run) for run in study.runs)
        self._running: dict[Run, Any] = {}
        self._failures: Counter[Run] = Counter()
        self._stopped_by = 0
        self._seen = -_LOOK_AGAIN  # time of the last look at the runs' memory

    def run(self) -> int:
        """Returns the exit status: 0 if all is done, 1 if some failed, 128 + the number of a signal that stopped it."""
        with self._stoppable():
            try:
                while (self._waiting or self._running) and not self._stopped_by:
                    self._look()
                    self._see_memory()
                    self._start()
                    self.board.show()
                    if self._running or self._waiting:
                        time.sleep(_LOOK)
            finally:
                self.executor.close()
        self.board.show(last=True)
        if self._stopped_by:
            return 128 + self._stopped_by
        return 1 if self.board.failed else 0

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Within the block, SIGINT (Ctrl-C) and SIGTERM are only recorded; the loop of :meth:`run` then ends."""

        def stop(number: int, frame: object) -> None:
            self._stopped_by = number

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self) -> None:
        """Fills free slots with waiting runs; runs that are done, or that another process works on, take no slot."""
        for _ in range(len(self._waiting)):
            if len(self._running) >= self.executor.slots:
                return
            due, run = self._waiting.popleft()
            if time.monotonic() < due:
                self._waiting.append((due, run))
                continue
            place = self.output / "runs" / run.hash
            with self._failing(run):
                state = folder.state(place)
                if state == folder.DONE:
                    self.board.done(run)
                elif state == folder.RUNNING:
                    self._wait(run)
                else:
                    self._running[run] = self.executor.start(place)
                    self.board.started(run)

    def _look(self) -> None:
        for run, handle in list(self._running.items()):
            status = self.executor.poll(handle)
            if status is None:
                continue
            del self._running[run]
            place = self.output / "runs" / run.hash
            with self._failing(run):
                if status == BUSY:
                    self._wait(run)
                elif folder.read(place / "DONE") is not None:
                    self.board.done(run)
                elif status == DAMAGED or self._failures[run] == self.study.retries:
                    self._fail(run, folder.reason(place))
                else:
                    self._failures[run] += 1
                    self.board.again(run, folder.reason(place))
                    self._waiting.append((0.0, run))

    def _see_memory(self) -> None:
        """Tells an executor whose runs are to share a GPU what they take: from the first epoch of each on."""
        if self.executor.sharing.asked == 1 or time.monotonic() < self._seen + _LOOK_AGAIN:
            return
        self._seen = time.monotonic()
        peaks = [folder.peak_memory(self.output / "runs" / run.hash) for run in self.study.runs]
        if known := [peak for peak in peaks if peak]:
            sentence = self.executor.sharing.see(max(known))
            self.board.slots = self.executor.slots
            if sentence:
                say(sentence)

    def _wait(self, run: Run) -> None:
        self.board.elsewhere(run)
        self._waiting.append((time.monotonic() + _LOOK_AGAIN, run))

    @contextlib.contextmanager
    def _failing(self, run: Run) -> Iterator[None]:
        """Within the block, a damaged or unwritable directory makes the run fail, and the other runs go on."""
        try:
            yield
        except (folder.Damaged, OSError) as error:
            self._fail(run, str(error))

    def _fail(self, run: Run, reason: str) -> None:
        place = self.output / "runs" / run.hash
        with contextlib.suppress(OSError):  # a full disk
            folder.write(place / "FAILED", {"attempts": self._failures[run] + 1, "reason": reason})
        self.board.fail(run, reason)
