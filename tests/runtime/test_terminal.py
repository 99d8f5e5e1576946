"""What is printed: faults in a sentence, warnings on a line, and of Lightning what somebody asked for."""

import errno
import io
import json
import logging
import os
import sys
import warnings
from pathlib import Path

import pytest

from tests.cli.test_train import SHORT, cli
from thermoebm.runs import directories
from thermoebm.runtime import terminal
from thermoebm.runtime.terminal import quieten, reason


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "/x/y"), "/x/y cannot be read or written: No such file."),
        (PermissionError(errno.EACCES, "Permission denied", b"/x"), "/x cannot be read or written: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device."),
        (FileNotFoundError("There is no checkpoint x."), "There is no checkpoint x."),
        (ValueError("threads is 0"), "threads is 0"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_no_number(error, said):
    assert reason(error) == said
    assert reason(raised(error)) == said


def test_a_name_that_is_too_long_is_no_folder():
    with pytest.raises(ValueError, match=r"x cannot be written to: File name too long\."):
        directories.check_writable(Path("x" * 300))


@pytest.fixture
def spoken(monkeypatch) -> io.StringIO:
    """What Lightning's handler prints, as quieten leaves it."""
    stream = io.StringIO()
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        own = [logging.StreamHandler(stream)] if name == "lightning.pytorch" else []
        monkeypatch.setattr(logging.getLogger(name), "handlers", own)
    with warnings.catch_warnings():
        yield stream


def test_callbacks_and_profilers_are_heard_and_lightning_is_not(tmp_path, spoken):
    """Silent: which devices there are and that training is over. Heard: who was asked for by name."""
    stop = {"monitor": "train/loss", "check_on_train_epoch_end": True, "patience": 9, "verbose": True}
    given = ["--trainer.callbacks", json.dumps([{"class_path": "EarlyStopping", "init_args": stop}])]
    fields = ["--trainer.limit_train_batches", 1, "--trainer.limit_val_batches", 0, "--runs", tmp_path]
    cli("fit", *SHORT, *given, "--trainer.profiler", "simple", *fields)
    cli("fit", *SHORT, "--trainer.max_time", "00:00:00:00", *fields)
    said = spoken.getvalue()
    assert "train/loss improved" in said
    assert "FIT Profiler Report" in said
    assert "Time limit reached." in said
    for silent in ("GPU available", "stopped:", "Seed set", "litlogger"):
        assert silent not in said


def test_warnings_are_one_line_and_only_known_hints_are_silent(spoken):
    hints = ("The dataloader does not have many workers", "GPU available but not used")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quieten()
        for message in ("energy runs away", *hints):
            warnings.warn(message, stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["energy runs away"]
    assert warnings.formatwarning("energy runs away", UserWarning, "file.py", 7) == "warning: energy runs away\n"
    logger = logging.getLogger("lightning.pytorch")
    logger.info("a hint")
    logger.warning("a fault")
    assert spoken.getvalue().splitlines() == ["a fault"]


def test_a_program_goes_on_when_nobody_reads_its_output_any_more(monkeypatch):
    """Not even what was buffered is an error later, and the streams are the same afterwards."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with terminal.outliving_readers():
            print("heard", flush=True)
            assert os.read(read, 100) == b"heard\n"
            os.close(read)
            for _ in range(3):
                print("x" * 10_000)
                sys.stdout.flush()
            assert sys.stdout.fileno() == stream.fileno()
        assert sys.stdout is stream
        print("y", flush=True)
