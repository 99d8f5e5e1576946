"""CelebA as its mirrors pack it: a folder within the folder, a partition with a byte-order mark or as a table."""

import shutil

import pytest
import torch

from tests.data import originals
from tests.data.originals import said
from tests.data.raw_images import repacked
from thermoebm.data import CelebA
from thermoebm.data.celeba import partition

pytestmark = pytest.mark.usefixtures("own_cache")


def written(root, change=lambda lines: lines, name="list_eval_partition.txt", zipped=False):
    """The small set of :mod:`originals`, with its partition changed and under another name."""
    originals.write_celeba(root, zipped)
    path = root / "list_eval_partition.txt"
    lines = path.read_text()
    path.unlink()
    (root / name).write_bytes(change(lines).encode())
    return root


def images(root) -> torch.Tensor:
    return torch.cat([split.images for split in CelebA(root, batch_size=1, download=False).splits])


FORMS = {
    "byte-order mark": (lambda lines: "\ufeff" + lines, "list_eval_partition.txt"),
    "line ends": (lambda lines: "\ufeff" + lines.replace("\n", "\r\n"), "list_eval_partition.txt"),
    "table": (lambda lines: "image_id,partition\n" + lines.replace(" ", ","), "list_eval_partition.csv"),
    "table with a mark": (
        lambda lines: "\ufeffimage_id,partition\n" + lines.replace(" ", ","),
        "list_eval_partition.csv",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_partitions_in_other_forms_are_the_same(tmp_path, form):
    expected = images(written(tmp_path / "plain"))
    assert torch.equal(images(written(tmp_path / "other", *FORMS[form])), expected)


@pytest.mark.parametrize("form", ["byte-order mark", "table"])
def test_the_official_partition_in_other_forms_passes_its_checksum(tmp_path, form):
    """Of its 202,599 lines none may be another."""
    change, name = FORMS[form]
    path = tmp_path / name
    parts = [0] * 162_770 + [1] * 19_867 + [2] * 19_962
    path.write_bytes(change("".join(f"{i:06}.jpg {part}\n" for i, part in enumerate(parts, 1))).encode())
    assert list(partition(path).values()) == parts
    path.write_bytes(path.read_bytes()[:-2] + b"1\n")
    with pytest.raises(ValueError, match="is not CelebA's"):
        partition(path)


@pytest.mark.parametrize("below", ["", "celeba"])
def test_a_folder_within_the_folder_is_found(tmp_path, below):
    expected = images(written(tmp_path / "plain"))
    root = written(tmp_path / "x" / below)
    shutil.move(root / "img_align_celeba", root / "inner")
    (root / "img_align_celeba").mkdir()
    shutil.move(root / "inner", root / "img_align_celeba" / "img_align_celeba")
    assert torch.equal(images(tmp_path / "x"), expected)
    (root / "img_align_celeba" / "img_align_celeba" / "000003.jpg").write_bytes(originals.jpeg(originals.face(9)))
    assert not torch.equal(images(tmp_path / "x"), expected)


@pytest.mark.parametrize("zipped", [False, True])
def test_the_authors_folders_may_be_around_the_files(tmp_path, zipped):
    expected = images(written(tmp_path / "plain"))
    root = written(tmp_path / "x" / "celeba", zipped=zipped)
    for folder, name in (("Eval", "list_eval_partition.txt"), ("Img", f"img_align_celeba{'.zip' if zipped else ''}")):
        (root / folder).mkdir()
        shutil.move(root / name, root / folder / name)
    for place in (root.parent, root):
        assert torch.equal(images(place), expected)


def test_an_archive_that_cannot_be_read_here_is_not_called_damaged(tmp_path):
    root = written(tmp_path, zipped=True)
    repacked(root / "img_align_celeba.zip", "img_align_celeba/000001.jpg", 9)
    text = said(CelebA(root, batch_size=1))
    assert "000001.jpg in " in text
    assert "is packed by Deflate64, which cannot be read here" in text
    assert " is damaged" not in text
