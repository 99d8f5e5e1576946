"""Terminal output: one line for a message, one sentence for an error, and nothing superfluous."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from thermoebm.runtime.files import as_text


def say(message: str) -> None:
    """Prints one line, in the process of rank 0 only; a progress bar steps aside for it."""
    from lightning.pytorch.utilities import rank_zero_only  # seconds, which --help and a fault do without
    from tqdm import tqdm

    @rank_zero_only
    def write() -> None:
        tqdm.write(as_text(message))
        sys.stdout.flush()

    write()


class _Outliving:
    """A stream whose reader may go away."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._into_nothing():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._into_nothing():
            self._stream.flush()

    @contextlib.contextmanager
    def _into_nothing(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # the stream keeps what it could not write, and would try again
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)


@contextlib.contextmanager
def outliving_readers() -> Iterator[None]:
    """Within it the program goes on if nobody reads its output any more, as after ``| head``, or if ``| tee`` ends."""
    before = sys.stdout, sys.stderr
    streams: Any = [_Outliving(stream) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def tensorboard_command(logdir: Path) -> str:
    """The command that shows a folder of runs in TensorBoard, if possible in that of this environment."""
    program = Path(sys.executable).with_name("tensorboard")
    if not program.exists():
        return f"tensorboard --logdir {logdir}"
    here = Path.cwd()
    return f"{program.relative_to(here) if program.is_relative_to(here) else program} --logdir {logdir}"


def reason(error: BaseException) -> str:
    """The message to show for a chain of errors.

    jsonargparse wraps an error of this package in reports on every type it tried. The message is that of the first
    error in the chain that the package itself raised, else of the innermost ValueError, else of the error itself. An
    error of the system names the file, without the error's number.
    """
    message = _told(error)
    link: BaseException | None = error
    while link is not None:
        frame = link.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        if frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith("thermoebm."):
            return _told(link)
        if isinstance(link, ValueError):
            message = str(link)
        link = link.__cause__ or link.__context__
    return message


def _told(error: BaseException) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    if error.filename is None:
        return f"{error.strerror}."
    return f"{os.fsdecode(error.filename)} cannot be read or written: {error.strerror}."


def fail(message: str) -> NoReturn:
    """Ends the program with one sentence and exit code 2."""
    print(f"error: {as_text(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(2)


def _asked_for(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or Path(record.pathname).parent.name in ("callbacks", "profilers")


def quieten() -> None:
    """Silences Lightning's messages about settings that are intended here, and prints each warning on one line.

    What its callbacks and profilers tell is what somebody asked for.
    """
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_asked_for)
    for hint in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled.*",
    ):
        warnings.filterwarnings("ignore", hint)
    # What jsonargparse 5 removes, and Lightning's own command line still calls.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"lightning\.pytorch\.cli")
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*", FutureWarning)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
