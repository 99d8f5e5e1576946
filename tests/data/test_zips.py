"""Zips as programs write them: names with either slash, methods that cannot be read, names that are no UTF-8."""

import os
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from tests.data.own_images import flipped, numbered, values, write
from tests.data.raw_images import repacked
from thermoebm.data import ImageFolder

pytestmark = pytest.mark.usefixtures("own_cache")

NAMES = ["ds/train/1.png", "ds/train/2.png", "ds/test/1.png"]


def all_values(root: Path, **options) -> list[int]:
    data = ImageFolder(root, batch_size=1, **options)
    return values(torch.cat([data.train_images, data.held_out_images]))


@pytest.mark.parametrize("method", [9, 98, 200])
def test_what_nobody_reads_may_be_packed_by_any_method(tmp_path, method):
    path = write(tmp_path / "x", numbered(NAMES) | {"ds/readme.txt": b"hello"}, zipped=True)
    assert all_values(repacked(path, "ds/readme.txt", method)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("method", "name"), [(1, "Shrink"), (6, "Implode"), (9, "Deflate64"), (98, "PPMd"), (200, "method 200 .*")]
)
def test_a_method_that_cannot_be_read_is_named(tmp_path, method, name, capsys):
    path = repacked(write(tmp_path / "x", numbered(NAMES), zipped=True), NAMES[1], method)
    said = f"ds/train/2.png in {path} is packed by {name}, which cannot be read here; unpack the zip or pack it anew"
    with pytest.raises(ValueError, match=said) as caught:
        all_values(path)
    assert "damaged" not in str(caught.value)
    assert all_values(path, skip_unreadable=True) == [0, 2]
    assert "; no classes; left out: 1 unreadable\n" in capsys.readouterr().out


@pytest.mark.parametrize("mark", [b"PK\1\2", b"PK\3\4"], ids=["directory", "contents"])
def test_one_of_a_member_s_two_names_may_have_backslashes(tmp_path, mark):
    """Whether it is a picture or not; a name that differs otherwise is still damage."""
    path = write(tmp_path / "x", numbered(NAMES) | {"ds/more/readme.txt": b"hello"}, zipped=True)
    content = path.read_bytes()
    begin = content.index(b"PK\1\2")
    parts = {b"PK\3\4": content[:begin], b"PK\1\2": content[begin:]}
    parts[mark] = parts[mark].replace(b"/", b"\\")
    content = b"".join(parts.values())
    path.write_bytes(content)
    assert all_values(path) == [0, 1, 2]
    path.write_bytes(flipped(content, content.rindex(b"2.png")))
    with pytest.raises(ValueError, match="damaged"):
        all_values(path)


@pytest.mark.parametrize("mark", [b"PK\1\2", b"PK\3\4"], ids=["directory", "contents"])
def test_one_of_a_member_s_two_names_may_be_said_to_be_in_other_letters(tmp_path, mark):
    """The same bytes, of which only one place says that they are UTF-8 (bit 11 of the flags)."""
    path = write(
        tmp_path / "x", numbered([*NAMES[:2], "ds/test/caf\N{LATIN SMALL LETTER E WITH ACUTE}.png"]), zipped=True
    )
    content = bytearray(path.read_bytes())
    flags = content.rindex(mark) + (8 if mark == b"PK\1\2" else 6)
    assert content[flags + 1] == 8
    content[flags + 1] = 0
    path.write_bytes(content)
    assert all_values(path) == [0, 1, 2]


@pytest.mark.parametrize("zipped", [False, True])
def test_names_need_not_be_utf_8(tmp_path, zipped, capsys):
    """Of the folder or zip, and of a folder and a file in it; a Latin-1 system wrote them."""
    made = write(tmp_path / "x", numbered(NAMES) | {"ds/other/1.png": b""}, zipped)
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9" + os.fsencode(made.suffix)))
    shutil.move(made, root)
    if not zipped:
        (root / "ds" / "other").rename(root / "ds" / os.fsdecode(b"\xe9"))
        (root / NAMES[1]).rename(root / "ds" / "train" / os.fsdecode(b"\xe9.png"))
    for _ in range(2):
        assert all_values(root) == [0, 1, 2]
    place = "other" if zipped else "\N{REPLACEMENT CHARACTER}"
    assert f"left out: 1 in {place}/\n" in capsys.readouterr().out


def test_the_pictures_of_a_zip_may_be_counted_from_its_directory(tmp_path, capsys):
    """What macOS adds is one folder, however many shadows are in it."""
    shadows = {f"__MACOSX/ds/train/._{i}.png": b"junk" for i in (1, 2)}
    path = write(tmp_path / "x", numbered(NAMES) | shadows | {"ds/.DS_Store": b""}, zipped=True)
    assert all_values(path) == [0, 1, 2]
    assert capsys.readouterr().out.endswith("; no classes; left out: 1 __MACOSX/, 1 hidden\n")


def test_the_odd_zips_of_these_tests_are_read_as_odd(tmp_path):
    path = repacked(write(tmp_path / "x", numbered(NAMES), zipped=True), NAMES[2], 9)
    with zipfile.ZipFile(path) as opened:
        assert [member.compress_type for member in opened.infolist()] == [8, 8, 9]
        offset = opened.infolist()[2].header_offset
    assert struct.unpack_from("<H", path.read_bytes(), offset + 8) == (9,)
