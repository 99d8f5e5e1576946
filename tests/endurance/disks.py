"""Trainings whose disk is full, read-only or away for a while, or for longer than they wait.

They need a disk of their own, which a mount namespace gives them: without the right to make one nothing is tried, and
that is said. (``python -m tests.endurance.disks FOLDER [--short]`` is the part within it.)
"""

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests import ROOT
from tests.endurance.kills import left, start
from tests.endurance.run import same
from thermoebm.runs.checkpoints import load_checkpoint

_NAMESPACE = ("unshare", "--map-root-user", "--mount")


def trials(folder: Path, short: bool = False) -> Iterator[tuple[str, bool]]:
    try:
        subprocess.run([*_NAMESPACE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        print("disks: not tried, since this user may make no mount namespace", file=sys.stderr)
        return
    command = [*_NAMESPACE, sys.executable, "-m", "tests.endurance.disks", str(folder), *["--short"] * short]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for line in program.stdout:
            what, held = json.loads(line)
            yield what, held
    if program.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {program.returncode}")


def _full(disk: Path) -> Callable[[], None]:
    """Fills the disk; what it returns makes room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return filler.unlink


def _read_only(disk: Path) -> Callable[[], None]:
    _mount("-o", "remount,ro", disk)
    return lambda: _mount("-o", "remount,rw", disk)


def _away(disk: Path) -> Callable[[], None]:
    """The folder of the runs is where nobody finds it."""
    runs, elsewhere = disk / "runs", disk / "elsewhere"
    runs.rename(elsewhere)

    def back() -> None:
        shutil.rmtree(runs, ignore_errors=True)
        elsewhere.rename(runs)

    return back


def _mount(*arguments: Any) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def _within(folder: Path, short: bool) -> Iterator[tuple[str, bool]]:
    harms = {"full": _full} if short else {"full": _full, "read-only": _read_only, "away": _away}
    with start(folder / "whole") as program:
        program.wait()
    expected = left(folder / "whole")
    for (name, harm), i in itertools.product(harms.items(), range(1 if short else 3)):
        for lasting in (False,) if short else (False, True):
            disk = folder / f"{name}-{i}-{lasting}"
            disk.mkdir()
            _mount("-t", "tmpfs", "-o", "size=20m", "tmpfs", disk)
            what = f"disk {name}, " + ("for longer than training waits" if lasting else "and then mended")
            yield what, _held(disk, harm, lasting, None if lasting else expected)


def _held(disk: Path, harm: Callable[[Path], Callable[[], None]], lasting: bool, expected: Any) -> bool:
    said = disk.with_suffix(".txt")
    last = disk / "runs" / "digits" / "0" / "checkpoints" / "last.ckpt"
    patience = 2 if lasting else 120
    with said.open("wb") as stderr, start(disk / "runs", "--disk_patience", patience, stderr=stderr) as program:
        while not last.exists():
            time.sleep(0.005)
        mend = harm(disk)
        if not lasting:
            while "Training waits" not in said.read_text() and program.poll() is None:
                time.sleep(0.1)
            time.sleep(2)
            mend()
        program.wait()
    if lasting:
        mend()
        lines = said.read_text().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        told = len(errors) == 1 and "Traceback" not in said.read_text() and "Training waits" in said.read_text()
        return program.returncode == 2 and told and load_checkpoint(last)["epoch"] < 3  # it is whole, and not the end
    return program.returncode == 0 and same(left(disk / "runs"), expected)


if __name__ == "__main__":
    for trial in _within(Path(sys.argv[1]), "--short" in sys.argv):
        print(json.dumps(trial), flush=True)
