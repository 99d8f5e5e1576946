"""Files of torch.save are read as they were written, or refused."""

import io
import re

import pytest
import torch

from tests.endurance.run import same
from thermoebm.runtime import archives

CONTENT = {
    "a": torch.arange(6.0),
    "b": {"c": 3, "d": "text", "e": [0.5, True]},
    "f": torch.tensor([], dtype=torch.int8),
}


@pytest.fixture
def whole():
    torch.save(CONTENT, file := io.BytesIO())
    return file.getvalue()


def test_whatever_is_flipped_is_noticed_or_harmless(whole, tmp_path):
    """Every 27th bit of the file: each place in a byte, and each part of the archive, has its turn."""
    path, noticed = tmp_path / "file", 0
    bits = range(0, 8 * len(whole), 27)
    for bit in bits:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert same(archives.read(path), CONTENT), bit
        except archives.Unreadable:
            noticed += 1
    assert noticed > 0.2 * len(bits)


@pytest.mark.parametrize("read", [archives.read, archives.verify])
def test_a_flip_in_a_record_names_it(whole, tmp_path, read):
    """Every fifth bit of the numbers 0 to 5, which torch.load would take as they are."""
    path = tmp_path / "file"
    start = whole.index(CONTENT["a"].numpy().tobytes())
    for bit in range(8 * start, 8 * (start + 24), 5):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert not same(torch.load(path, weights_only=True), CONTENT)
        with pytest.raises(archives.Unreadable, match=r"^is damaged: its record data/0 does not match its checksum$"):
            read(path)


def test_a_record_with_the_mark_of_a_folder_is_refused(whole, tmp_path):
    """Each bit of each record's attributes: torch.load does not read such a record, and gives what the memory holds."""
    path, start, records = tmp_path / "file", 0, 0
    while (start := whole.find(b"PK\1\2", start + 1)) >= 0:  # an entry in the list of records
        records += 1
        for bit in range(8 * (start + 36), 8 * (start + 42)):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            with pytest.raises(archives.Unreadable, match=r"^is damaged: its record \S+ is not listed as torch.save"):
                archives.read(path)
    assert records > 5


def test_a_flip_at_the_end_of_a_large_record_is_noticed(tmp_path):
    """Records are read in pieces of a MiB."""
    torch.save({"a": torch.ones(2**19)}, path := tmp_path / "file")
    archives.verify(path)
    data = bytearray(path.read_bytes())
    data[data.rindex(torch.ones(9).numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(archives.Unreadable, match="data/0"):
        archives.verify(path)


def test_what_is_whole_is_read(whole, tmp_path):
    (path := tmp_path / "file").write_bytes(whole)
    archives.verify(path)
    assert same(archives.read(path), CONTENT)


def test_an_archive_of_something_else_is_refused(tmp_path):
    """Its checksums are right."""
    path = tmp_path / "file"
    writer = torch._C.PyTorchFileWriter(str(path))
    writer.write_record("other", b"0", 1)
    writer.write_end_of_file()
    archives.verify(path)
    with pytest.raises(archives.Unreadable, match=r"^is damaged: torch cannot read it"):
        archives.read(path)


def test_what_the_system_refuses_is_said_in_its_words(tmp_path):
    with pytest.raises(archives.Unreadable, match=re.escape("cannot be read (Is a directory)")):
        archives.read(tmp_path)
