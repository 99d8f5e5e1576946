"""What is kept on disk: whole or not at all, and at no cost to the result."""

import resource

import pytest
import torch

from thermoebm import cache


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
