"""Writing waits for what may be mended, for as long as it is told, and leaves whole files."""

import errno
import io
import os
import signal

import pytest

from thermoebm.runtime import patience, signals
from thermoebm.runtime.patience import Appended, patiently, waiting


class Disk:
    """Fails ``times`` times with an error number; a clock on which waiting costs no time."""

    def __init__(self, number, times, monkeypatch):
        self.number, self.times, self.tries, self.now = number, times, 0, 100.0
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(patience.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.now += seconds

    def __call__(self):
        self.tries += 1
        if self.tries <= self.times:
            raise OSError(self.number, os.strerror(self.number))
        return "written"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EIO])
def test_what_may_be_mended_is_waited_for(monkeypatch, capsys, number):
    disk = Disk(number, 7, monkeypatch)
    with waiting(20):
        assert patiently("a.ckpt", disk) == "written"
    assert (disk.tries, disk.now) == (8, 107.0)
    out, err = capsys.readouterr()
    said = f"a.ckpt cannot be read or written: {os.strerror(number)}. Training waits for at most 20 s until it can be."
    assert err == f"warning: {said}\n"
    assert "a.ckpt can be written after 7 s: training goes on" in out


@pytest.mark.parametrize(
    ("number", "seconds", "tries"), [(errno.ENOSPC, 20.0, 21), (errno.ENOSPC, 0.0, 1), (errno.EFBIG, 20.0, 1)]
)
def test_waiting_ends_and_some_errors_are_not_waited_for(monkeypatch, number, seconds, tries):
    disk = Disk(number, 10**6, monkeypatch)
    with waiting(seconds), pytest.raises(OSError, match=os.strerror(number)) as error:
        patiently("a.ckpt", disk)
    assert (disk.tries, error.value.filename) == (tries, "a.ckpt")


def test_outside_of_a_training_nothing_waits(monkeypatch):
    disk = Disk(errno.ENOSPC, 1, monkeypatch)
    with waiting(20), pytest.raises(OSError, match="No space"), waiting(0):
        patiently("a.ckpt", disk)
    disk.tries = 0
    with pytest.raises(OSError, match="No space"):
        patiently("a.ckpt", disk)


def test_a_signal_ends_the_waiting(monkeypatch):
    disk = Disk(errno.ENOSPC, 10**6, monkeypatch)
    monkeypatch.setattr(patience.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with signals.listening(), signals.deferred(), waiting(1e6):
        with pytest.raises(OSError, match="No space"):
            patiently("a.ckpt", disk)
        assert disk.tries == 2
        with pytest.raises(signals.Ended):
            signals.check()


def test_what_is_appended_is_there_once_whatever_a_failed_try_has_left(tmp_path, monkeypatch):
    """Two tries write a part of the bytes before they fail; short writes go on."""
    path = tmp_path / "events"
    path.write_bytes(b"before ")
    file, parts = Appended(path), iter([3, OSError(errno.ENOSPC, "full"), 1, 2, OSError(errno.EIO, "away"), 2, 99, 99])
    whole = io.FileIO.write

    class Short(io.FileIO):
        def write(self, data):
            part = next(parts)
            if isinstance(part, OSError):
                raise part
            return whole(self, data[:part])

    monkeypatch.setattr(patience, "_PAUSE", 0.001)
    with waiting(20), monkeypatch.context() as patch:
        patch.setattr(type(path), "open", lambda self, mode, buffering: Short(self, mode.replace("b", "")))
        file.write(b"one two ")
        file.write(b"three")
    assert path.read_bytes() == b"before one two three"
