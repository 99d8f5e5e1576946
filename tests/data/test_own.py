"""Folders and zips of one's own pictures: what is no picture, and a sentence for each fault that names its file."""

import os
import struct
from pathlib import Path

import pytest
import torch

from tests.data.own_images import PICTURE, numbered, plain, values, write
from thermoebm.data import ImageFolder

pytestmark = pytest.mark.usefixtures("own_cache")


def test_unreadable_pictures_are_all_named_and_left_out_only_if_wanted(tmp_path, capsys):
    """Both splits' in one sentence, of more than ten the number; what is left out is replaced by the next name."""
    bad = {f"train/{i:02}.png": PICTURE[:50] for i in range(0, 22, 2)}
    good = numbered([f"train/{i:02}.png" for i in range(1, 22, 2)] + ["test/b.png", "test/c.png"])
    root = write(tmp_path, bad | good | {"test/a.png": b"<html>"})
    with pytest.raises(ValueError, match=r"^12 of 25 pictures") as caught:
        ImageFolder(root, batch_size=1).setup()
    assert str(caught.value).count(".png") == 10
    with pytest.raises(ValueError, match=r"^2 of 4 pictures .*test/a.png is not an image.*train/00.png is damaged"):
        ImageFolder(root, batch_size=1, num_train=2, num_val=2).setup()
    data = ImageFolder(root, batch_size=1, num_train=3, num_val=1, skip_unreadable=True)
    data.setup()
    assert values(data.train_images) == [0, 1, 2]
    assert values(data.held_out_images) == [11]
    said = capsys.readouterr().out
    assert "4 pictures are left out" in said
    assert all(name in said for name in ("test/a.png", "train/00.png", "train/02.png", "train/04.png"))


def test_labels_stay_with_their_pictures_when_others_are_skipped(tmp_path):
    names = ["train/a/1.png", "train/b/2.png", "train/c/3.png", "test/a/1.png", "test/c/2.png"]
    files = numbered(names) | {"train/a/0.png": b"", "train/b/2.png": b"", "test/a/1.png": b""}
    for split in ImageFolder(write(tmp_path, files), batch_size=1, skip_unreadable=True).splits:
        assert split.labels.tolist() == ["abc".index(names[i].split("/")[1]) for i in values(split.images)]


def test_skipped_pictures_of_an_unsplit_folder_stay_in_no_split(tmp_path, capsys):
    files = numbered([f"{i:02}.png" for i in range(20)]) | {f"{i:02}.png": b"" for i in range(0, 20, 3)}
    data = ImageFolder(write(tmp_path, files), batch_size=1, num_val=5, skip_unreadable=True)
    together = values(torch.cat([data.train_images, data.held_out_images]))
    assert sorted(together) == [i for i in range(20) if i % 3]
    assert len(data.held_out_images) == 5
    assert "7 pictures are left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="2 of 2 pictures"):
        ImageFolder(write(tmp_path / "bad", {"a.png": b"", "b.png": b""}), batch_size=1, skip_unreadable=True).setup()


def test_what_systems_leave_in_folders_is_no_picture(tmp_path):
    """Hidden files, macOS's shadows, thumbnails; links that lead in circles; a pipe, which would be waited for."""
    junk = dict.fromkeys((".a.png", ".git/b.png", "__MACOSX/._1.png", "Thumbs.db", "1.txt", "sub/.DS_Store"), b"junk")
    files = numbered(["1.png", "sub/2.png"])
    zipped, root = (write(tmp_path / "x", files | junk, zipped) for zipped in (True, False))
    (root / "sub" / "up").symlink_to(root)
    (root / "sub" / "self").symlink_to("self")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    for place in (root, zipped):
        data = ImageFolder(place, batch_size=1)
        assert sorted(values(torch.cat([data.train_images, data.held_out_images]))) == [0, 1]
    (root / "gone.png").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"gone.png cannot be read .*No such file"):
        ImageFolder(root, batch_size=1).setup()


def test_a_name_that_climbs_out_of_a_zip_writes_nothing(tmp_path):
    root = write(tmp_path / "a" / "b", {}, False)
    root.mkdir(parents=True)
    zipped = write(root / "x", numbered(["../../../evil.png", "/evil2.png", "./1.png"]), zipped=True)
    data = ImageFolder(zipped, batch_size=1)
    assert sorted(values(torch.cat([data.train_images, data.held_out_images]))) == [0, 1, 2]
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "x.zip"]


def test_sizes_must_agree_unless_one_is_given(tmp_path):
    root = write(tmp_path / "one", {"train/1.png": plain(1, 4), "train/2.png": plain(2, 5), "test/3.png": plain(3, 4)})
    with pytest.raises(ValueError, match=r"2.png has 5x5 pixels and .*1.png 4x4; set image_size"):
        ImageFolder(root, batch_size=1).setup()
    assert ImageFolder(root, batch_size=1, image_size=3).image_shape == (3, 3, 3)
    assert ImageFolder(root, batch_size=1, image_size=3, channels=1).image_shape == (1, 3, 3)
    root = write(tmp_path / "two", {"train/1.png": plain(1, 4), "test/3.png": plain(3, 5)})
    with pytest.raises(ValueError, match=r"training pictures have 4x4 pixels and held-out ones 5x5; set image_size"):
        ImageFolder(root, batch_size=1).setup()


def zip_with_flag(path: Path) -> Path:
    """A zip whose directory says that its member is encrypted."""
    write(path.with_suffix(""), numbered(["1.png"]), zipped=True)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    return path


def declares(path: Path, size: int) -> Path:
    """A zip whose directory promises that many bytes."""
    write(path.with_suffix(""), numbered(["1.png", "2.png"]), zipped=True)
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\1\2") + 24
    content[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: ImageFolder(at / "absent"), "absent does not exist"),
        (lambda at: ImageFolder(at), "has no pictures in it"),
        (lambda at: ImageFolder(write(at / "x", {"1.txt": b""}, zipped=True)), "x.zip has no pictures in it"),
        (lambda at: ImageFolder(write(at, {"x.zip": b"PK"}) / "x.zip"), "x.zip is not a zip file, or damaged"),
        (lambda at: ImageFolder(write(at, {"x.tar": b"tar"}) / "x.tar"), "x.tar is not a zip file"),
        (lambda at: ImageFolder(write(at, numbered(["1.png"]))), "1 images are to be held out of the 1"),
        (lambda at: ImageFolder(write(at, numbered(["1.png", "2.png"])), num_val=2), "2 images are to be held out of"),
        (lambda at: ImageFolder(zip_with_flag(at / "x.zip")), "x.zip is encrypted"),
        (lambda at: ImageFolder(declares(at / "x.zip", 2**31)), "1.png in .*x.zip takes 2,147,483,648 bytes"),
        (lambda at: ImageFolder(at, crop="center"), "crop is center, which needs image_size"),
        (lambda at: ImageFolder(at, channels=4), "channels is 4"),
    ],
)
def test_what_cannot_be_a_folder_of_images_is_told_in_a_sentence(tmp_path, make, said):
    with pytest.raises(ValueError, match=said):
        make(tmp_path).setup()


def test_cache_is_used_until_a_file_or_an_option_changes(tmp_path, monkeypatch):
    root = write(tmp_path / "x", numbered(["train/1.png", "train/2.png", "test/1.png"]))
    reads = []
    read = ImageFolder.read
    monkeypatch.setattr(ImageFolder, "read", lambda self: reads.append(1) or read(self))

    def trained(**options) -> list[int]:
        return values(ImageFolder(root, batch_size=1, **options).train_images)

    assert (trained(), trained(), len(reads)) == ([0, 1], [0, 1], 1)
    (root / "train" / "0.png").write_bytes(plain(7))
    assert trained() == [7, 0, 1]
    (root / "train" / "1.png").unlink()
    assert trained() == [7, 1]
    (root / "train" / "0.png").write_bytes(plain(9))
    assert trained() == [9, 1]
    (root / "train" / "0.png").rename(root / "train" / "3.png")
    assert trained() == [1, 9]
    before = len(reads)
    for options in ({"channels": 1}, {"image_size": 8}, {"image_size": 8, "crop": "center"}, {"skip_unreadable": True}):
        trained(**options)
    assert len(reads) == before + 4
    zipped = write(tmp_path / "y", numbered(["train/1.png", "test/1.png"]), zipped=True)
    assert values(ImageFolder(zipped, batch_size=1).train_images) == [0]
    write(tmp_path / "y", {"train/1.png": plain(5), "test/1.png": plain(6)}, zipped=True)
    assert values(ImageFolder(zipped, batch_size=1).train_images) == [5]


@pytest.mark.parametrize(
    ("place", "earlier"), [("thermoebm.data.base._VERSION", 2), ("PIL.__version__", "12.0")], ids=["ours", "Pillow's"]
)
def test_what_other_decoders_made_is_made_again(tmp_path, monkeypatch, place, earlier):
    """2 is the number of decoders that showed some transparent parts as opaque."""
    root = write(tmp_path / "x", numbered(["train/1.png", "test/1.png"]))
    reads = []
    read = ImageFolder.read
    monkeypatch.setattr(ImageFolder, "read", lambda self: reads.append(1) or read(self))
    with monkeypatch.context() as patched:
        patched.setattr(place, earlier)
        ImageFolder(root, batch_size=1).setup()
    for _ in range(2):
        ImageFolder(root, batch_size=1).setup()
    assert len(reads) == 2


def test_title_of_a_folder_keeps_what_follows_a_dot(tmp_path):
    root = write(tmp_path / "Faces.v2", numbered(["1.png", "2.png"]))
    assert ImageFolder(root).title == "faces-v2"
