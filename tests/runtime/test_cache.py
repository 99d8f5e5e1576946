"""What is kept on disk: whole or not at all, and at no cost to the result."""

import errno
import multiprocessing
import os
import resource
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from thermoebm.data.download import obtain
from thermoebm.runtime import cache


@pytest.fixture
def full_disk():
    """No file may grow beyond 10,000 bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_leaves_no_part_of_a_file(full_disk, tmp_path, capfd):
    """The result is returned all the same, with one warning."""
    path = tmp_path / "kept.pt"
    made = cache.cached(path, lambda: {"x": torch.arange(10_000)})
    assert torch.equal(made["x"], torch.arange(10_000))
    assert list(tmp_path.iterdir()) == []
    error = capfd.readouterr().err
    assert error == f"warning: {path} cannot be written (File too large): nothing is kept.\n"


def test_a_write_that_is_interrupted_leaves_no_part_of_a_file(monkeypatch, tmp_path):
    """Ctrl-C while the file is written, when other processes do not see it yet: no file of any name."""
    path = tmp_path / "kept.pt"
    seen = []

    class Interrupted:
        def digest(self):
            seen.append(path.exists())
            raise KeyboardInterrupt

    monkeypatch.setattr(cache.hashlib, "sha256", lambda _: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        cache.cached(path, lambda: {"x": torch.arange(10)})
    assert seen == [False]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_what_is_damaged_is_made_again(tmp_path, damage, capfd):
    """At every twentieth place of the file; afterwards it is whole again."""
    path = tmp_path / "kept.pt"
    cache.cached(path, lambda: {"x": torch.arange(10)})
    content = path.read_bytes()
    for where in range(0, len(content), 20):
        flipped = content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]
        path.write_bytes({"flip": flipped, "cut": content[:where], "empty": b"", "foreign": b"x" * where}[damage])
        assert torch.equal(cache.cached(path, lambda: {"x": torch.arange(10)})["x"], torch.arange(10))
        assert capfd.readouterr().err == f"warning: {path} is damaged and is made again.\n"
        assert cache.cached(path, lambda: pytest.fail("made again"))["x"].shape == (10,)


def test_a_folder_that_cannot_be_made_costs_only_the_cache(monkeypatch, tmp_path, capfd):
    """A file stands where the folder would be."""
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.setenv("THERMOEBM_CACHE", str(tmp_path / "cache"))
    made = cache.cached(cache.folder() / "inner" / "kept.pt", lambda: {"x": torch.arange(3)})
    assert torch.equal(made["x"], torch.arange(3))
    assert "kept.pt cannot be written (Not a directory): nothing is kept." in capfd.readouterr().err


def make_slowly(made: Path) -> dict[str, torch.Tensor]:
    """Leaves a trace of who made it."""
    (made / str(os.getpid())).touch()
    time.sleep(1)
    return {"x": torch.arange(3)}


def download_slowly(made: Path, temporary: Path) -> None:
    make_slowly(made)
    (temporary / "file").touch()


def get(folder: Path, kind: str, ready: object) -> None:
    """What one of several processes does."""
    ready.wait()
    if kind == "cached":
        found = cache.cached(folder / "kept.pt", partial(make_slowly, folder / "made"))
        assert found["x"].tolist() == [0, 1, 2]
    else:
        obtain("It", folder, {folder / "file": "ask for it"}, partial(download_slowly, folder / "made"))
        assert (folder / "file").exists()


def together(folder: Path, kind: str, count: int = 3) -> int:
    """How many of so many processes made it."""
    (folder / "made").mkdir()
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(count)
    processes = [context.Process(target=get, args=(folder, kind, ready)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count
    return len(list((folder / "made").iterdir()))


@pytest.mark.parametrize("kind", ["cached", "obtain"])
def test_of_processes_that_start_together_one_makes_it(tmp_path, kind):
    assert together(tmp_path, kind) == 1


@pytest.mark.parametrize("kind", ["cached", "obtain"])
@pytest.mark.parametrize("lack", ["folder", "fcntl", "flock", "patience"])
def test_without_a_lock_each_makes_it(tmp_path, monkeypatch, kind, lack):
    """No folder to write to, no locks on this system or file system, or no more patience: at the cost of work only."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if lack == "folder":
        (tmp_path / "in the way").touch()
        monkeypatch.setenv("THERMOEBM_CACHE", str(tmp_path / "in the way" / "cache"))
    elif lack == "fcntl":
        monkeypatch.setattr(cache, "fcntl", None)
    elif lack == "flock":
        monkeypatch.setattr(cache.fcntl, "flock", flock)
    else:
        monkeypatch.setattr(cache, "_PATIENCE", 0.2)
    assert together(tmp_path, kind) > 1


def test_a_process_that_is_killed_keeps_nobody_waiting(tmp_path):
    (tmp_path / "made").mkdir()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=get, args=(tmp_path, "cached", context.Barrier(1)))
    process.start()
    while not list((tmp_path / "made").iterdir()):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    start = time.monotonic()
    assert cache.cached(tmp_path / "kept.pt", lambda: {"x": torch.arange(4)})["x"].shape == (4,)
    assert time.monotonic() - start < 10
    process.join()
