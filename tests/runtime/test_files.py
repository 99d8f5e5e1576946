"""Files are there whole or not at all, whatever interrupts their writing."""

import os
import signal
import subprocess
import sys

import pytest

from tests import ROOT
from thermoebm.runtime.files import replacing, write_text


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    write_text(path, "E_t[ℓ] → log p")
    assert path.read_bytes() == "E_t[ℓ] → log p".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["writing", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_goes_wrong_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where, error):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_):
        raise error

    if where != "writing":
        monkeypatch.setattr(*((os, "fsync") if where == "fsync" else (type(path), "replace")), fail)
    with pytest.raises(type(error)), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("ne")
        if where == "writing":
            fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    if where != "writing":
        with pytest.raises(type(error)):
            write_text(path, "new")
        assert path.read_text() == "old"


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from thermoebm.runtime.files import replacing\n"
        f"with replacing(Path({str(path)!r})) as temporary:\n"
        "    temporary.write_text('ne')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_there_is_no_file_where_there_is_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "absent" / "file", "new")
    assert list(tmp_path.iterdir()) == []
