"""Launchers of pretended studies in processes of their own, and what is seen of their runs from outside."""

import itertools
import json
import subprocess
import time
from pathlib import Path

from tests.study.fake import EPOCHS, PROGRAM
from thermoebm.study.running import folder


def places(output: Path) -> list[Path]:
    return sorted((output / "runs").iterdir())


def start(output: Path, count: int = 6, jobs: int = 2) -> subprocess.Popen[str]:
    """A launcher in a process of its own."""
    command = [*PROGRAM, "launch", str(output), str(count), str(jobs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(output: Path, count: int = 6, jobs: int = 2) -> tuple[int, str]:
    launcher = start(output, count, jobs)
    said = launcher.communicate(timeout=60)[0]
    return launcher.returncode, said


def faults(output: Path, **by_seed: str) -> None:
    output.mkdir(exist_ok=True)
    (output / "faults.json").write_text(json.dumps({seed.removeprefix("s"): f for seed, f in by_seed.items()}))


def wait_for(condition, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def workers(output: Path) -> list[int]:
    """Processes that work on the study's runs."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if entry.name.isdecimal() and len(line) > 2 and line[2].decode().startswith(str(output / "runs")):
            found.append(int(entry.name))
    return found


def trained(place: Path) -> list[int]:
    """Epochs in the order in which they were begun."""
    return [int(line.split()[1]) for line in (place / "trace").read_text().splitlines()]


def assert_complete(output: Path) -> None:
    for place in places(output):
        assert folder.state(place) == folder.DONE
        assert folder.read(place / "test" / "metrics.json") == {"epochs": EPOCHS}
        epochs = trained(place)
        assert sorted(set(epochs)) == list(range(EPOCHS))
        # Resumed where the last checkpoint was: an epoch is begun again only if it was the one that was cut short.
        assert all(after - before in (0, 1) for before, after in itertools.pairwise(epochs)), epochs
        assert not (place / "not alone").exists()


def marks(output: Path) -> dict[str, tuple[int, int, bytes]]:
    """What tells whether a finished run was touched: identity, time and content of its DONE, and its trace."""
    done = [place / "DONE" for place in places(output) if (place / "DONE").exists()]
    return {
        path.parent.name: (path.stat().st_ino, path.stat().st_mtime_ns, (path.parent / "trace").read_bytes())
        for path in done
    }
