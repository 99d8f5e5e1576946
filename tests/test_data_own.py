"""One's own images: what was written is what is read, and each fault is a sentence that names its file."""

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from thermoebm.data import Arrays, ImageDataModule, ImageFolder
from thermoebm.data.decode import decode

DRAW = np.random.default_rng(0)
REAL = Path(os.environ.get("THERMOEBM_DATA") or Path(__file__).parents[1].parent / "shared" / "data")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("THERMOEBM_CACHE", str(tmp_path_factory.mktemp("cache")))


def noise(height: int, width: int) -> np.ndarray:
    """A picture (H, W, 3) that no flip, no transposition and no other order of channels leaves as it is."""
    return DRAW.integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Gradients: red to the right, green downwards, little blue."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, np.full(x.shape, 30)], axis=-1).astype(np.uint8)


def encoded(picture: np.ndarray | Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, form, **options)
    return buffer.getvalue()


def ppm(picture: np.ndarray) -> bytes:
    """By hand, without any library."""
    return b"P6 %d %d 255\n" % (picture.shape[1], picture.shape[0]) + picture.tobytes()


def decoded(content: bytes, size=None, crop="whole", channels=3) -> np.ndarray:
    """(H, W, C)."""
    return decode(lambda: content, "it", size, crop, channels).permute(1, 2, 0).numpy()


def write(root: Path, files: dict[str, bytes], zipped: bool = False) -> Path:
    """A folder of these files, or a zip of them."""
    if zipped:
        root = root.with_name(root.name + ".zip")
        with zipfile.ZipFile(root, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name, content)
        return root
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def plain(value: int, side: int = 4) -> bytes:
    """A PNG that is filled with one number."""
    return encoded(np.full((side, side, 3), value, dtype=np.uint8))


def numbered(names: list[str]) -> dict[str, bytes]:
    return {name: plain(value) for value, name in enumerate(names)}


def values(images: torch.Tensor) -> list[int]:
    """The numbers that pictures by :func:`plain` are filled with."""
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


# Decoding


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True}), ("PPM", {})],
)
def test_lossless_formats_give_back_every_value(form, options):
    picture = noise(5, 7)
    assert (decoded(encoded(picture, form, **options)) == picture).all()


def test_channels_come_red_green_blue_by_an_encoding_made_by_hand():
    picture = noise(5, 7)
    assert (decoded(ppm(picture)) == picture).all()


def test_jpeg_comes_back_within_its_error():
    """Quality 95 at full colour resolution loses two levels or so of a smooth picture; no channel is another."""
    picture = smooth(24, 40)
    difference = decoded(encoded(picture, "JPEG", quality=95, subsampling=0)).astype(int) - picture
    assert np.abs(difference).max() <= 6
    assert np.abs(difference).mean() < 1.5


def test_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    picture = decoded(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (picture == [255, 0, 0]).all()


def test_palettes_and_bilevel_pictures_become_colours():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert decoded(encoded(palette)).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert decoded(encoded(Image.new("1", (1, 1), 1)), channels=1).tolist() == [[[255]]]


def test_transparent_parts_show_white():
    """c α + 255 (1 - α) for α in 0, 0.4 and 1."""
    colour = np.array([200, 100, 0])
    picture = np.array([[[*colour, 0], [*colour, 102], [*colour, 255]]], dtype=np.uint8)
    expected = [[255 - (255 - colour) * alpha / 255 for alpha in (0, 102, 255)]]
    assert np.abs(decoded(encoded(picture)) - np.array(expected)).max() <= 1
    grey = Image.new("LA", (1, 1), (0, 102))
    assert abs(int(decoded(encoded(grey), channels=1)[0, 0, 0]) - 153) <= 1
    keyed = Image.new("P", (1, 1))
    keyed.putpalette([10, 20, 30])
    assert decoded(encoded(keyed, transparency=0)).tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_keep_their_high_byte():
    levels = np.array([[0, 255, 256, 40000, 65535]], dtype=np.uint16)
    assert decoded(encoded(levels), channels=1)[..., 0].tolist() == [[0, 0, 1, 156, 255]]
    assert decoded(encoded(levels, "TIFF"), channels=3)[0].tolist() == [[v] * 3 for v in (0, 0, 1, 156, 255)]


def test_inks_become_light():
    """(1 - C)(1 - K) and so on."""
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 128, 0, 0], [0, 0, 255, 128]]], dtype=np.uint8)
    expected = (255.0 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    content = encoded(Image.frombytes("CMYK", (4, 1), inks.tobytes()), "TIFF")
    assert np.abs(decoded(content) - expected).max() <= 1


def test_grey_is_luma():
    """0.299 R + 0.587 G + 0.114 B (ITU-R 601)."""
    picture = noise(6, 6)
    grey = decoded(encoded(picture), channels=1)
    assert grey.shape == (6, 6, 1)
    assert np.abs(grey[..., 0] - picture @ [0.299, 0.587, 0.114]).max() <= 1


def test_pictures_stand_upright_in_all_eight_orientations():
    """What EXIF's table says of the stored picture's first row and column, written out with numpy."""
    stored = noise(3, 5)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }
    for orientation, expected in upright.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert (decoded(encoded(stored, exif=exif)) == expected).all(), orientation


def resized_by_torch(picture: np.ndarray, height: int, width: int) -> torch.Tensor:
    """(C, height, width), float."""
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].double()
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)[0]


@pytest.mark.parametrize("shape", [(50, 31), (31, 50), (9, 9), (16, 40)])
def test_whole_pictures_are_squeezed_as_torch_does(shape):
    picture = noise(*shape)
    expected = resized_by_torch(picture, 16, 16)
    assert (torch.from_numpy(decoded(encoded(picture), 16)).permute(2, 0, 1) - expected).abs().max() <= 1


@pytest.mark.parametrize("shape", [(50, 31), (31, 50), (37, 37), (16, 41), (178, 218)])
def test_center_is_resize_of_the_shorter_side_and_then_the_middle(shape):
    """As torchvision's Resize and CenterCrop say it: the longer side rounded down, the start to the nearest."""
    picture, size = noise(*shape), 16
    height, width = (int(size * side / min(shape)) for side in shape)
    top, left = round((height - size) / 2), round((width - size) / 2)
    expected = resized_by_torch(picture, height, width)[:, top : top + size, left : left + size]
    assert (torch.from_numpy(decoded(encoded(picture), size, "center")).permute(2, 0, 1) - expected).abs().max() <= 1.5


def chunk_end(png: bytes) -> int:
    """Where the checksum of a PNG's pixels is."""
    start = png.index(b"IDAT")
    return start + 4 + struct.unpack(">I", png[start - 4 : start])[0]


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


PICTURE = encoded(noise(20, 20))
PHOTO = encoded(noise(40, 40), "JPEG")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"no picture at all", "is not an image"),
        (PICTURE[:-500], "is damaged"),
        (flipped(PICTURE, chunk_end(PICTURE)), "is damaged"),
        (PHOTO[: len(PHOTO) // 2], "is damaged .*truncated"),
        (encoded(Image.new("1", (20_000, 10_000))), "has more than 100,000,000 pixels"),
        (encoded(Image.new("1", (11_000, 10_000))), "has more than 100,000,000 pixels"),
        (encoded(np.ones((2, 2), dtype=np.float32), "TIFF"), "has floating-point pixels"),
        (encoded(np.full((2, 2), 70_000, dtype=np.int32), "TIFF"), "has 32-bit pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
    ],
)
def test_what_is_no_picture_is_told_in_a_sentence(content, said):
    with pytest.raises(ValueError, match=f"^it {said}"):
        decoded(content)


# Folders and zips


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
@pytest.mark.parametrize("around", ["", "faces/"])
def test_train_and_its_counterpart_are_the_splits(tmp_path, zipped, name, around):
    """In the order of names, at any depth, whatever order they come in; what is in neither is not looked at."""
    order = ["train/b.png", "train/c.PNG", "train/d.jpg", f"{name}/a.png", f"{name}/z.png"]
    files = {around + path: content for path, content in numbered(order).items()}
    root = write(tmp_path / "x", dict(reversed(files.items())) | {around + "other/1.png": plain(99)}, zipped)
    data = ImageFolder(root, batch_size=1)
    assert values(data.train_images) == [0, 1, 2]
    assert values(data.held_out_images) == [3, 4]
    assert data.splits[0].labels is None


def test_unsplit_pictures_are_divided_once_for_all_seeds(tmp_path):
    """A tenth is held out, not the last names; folder and zip divide alike; together they are all there is."""
    files = numbered([f"{i // 20}/{i:03}.png" for i in range(60)])
    folder, zipped = (write(tmp_path / "faces", files, zipped) for zipped in (False, True))
    first = ImageFolder(folder, batch_size=1, seed=0)
    train, held_out = values(first.train_images), values(first.held_out_images)
    assert len(held_out) == 6
    assert sorted(train + held_out) == list(range(60))
    assert max(held_out) - min(held_out) > 20
    for root, seed in ((folder, 1), (zipped, 0)):
        splits = ImageFolder(root, batch_size=1, seed=seed).read()  # the cache would not ask the seed
        assert tuple(values(split.images) for split in splits) == (train, held_out)
    fewer = ImageFolder(folder, batch_size=1, num_val=2, num_train=5)
    assert values(fewer.held_out_images) == held_out[:2]
    assert len(fewer.train_images) == 5
    assert not set(values(fewer.train_images)) & set(held_out[:2])


def test_only_as_many_as_are_asked_for_are_decoded(tmp_path):
    root = write(
        tmp_path, numbered(["train/a.png", "train/b.png", "test/a.png"]) | {"train/c.png": b"", "test/b.png": b""}
    )
    data = ImageFolder(root, batch_size=1, num_train=2, num_val=1)
    assert values(torch.cat([data.train_images, data.held_out_images])) == [0, 1, 2]


def test_labels_are_the_class_folders_by_name(tmp_path):
    names = ["train/dog/1.png", "train/cat/2.png", "train/cat/x/3.png", "test/dog/4.png"]
    data = ImageFolder(write(tmp_path / "split", numbered(names)), batch_size=1)
    (train, labels), (held_out, truth) = data.splits
    assert dict(zip(values(train), labels.tolist(), strict=True)) == {0: 1, 1: 0, 2: 0}
    assert (values(held_out), truth.tolist()) == ([3], [1])
    names = [f"{kind}/{i}.png" for i in range(10) for kind in ("b", "a", "c")]
    (train, labels), (held_out, truth) = ImageFolder(write(tmp_path / "whole", numbered(names)), batch_size=1).splits
    kinds = torch.tensor([1, 0, 2])
    assert torch.equal(labels, kinds[torch.tensor(values(train)) % 3])
    assert torch.equal(truth, kinds[torch.tensor(values(held_out)) % 3])


@pytest.mark.parametrize(
    "names",
    [
        ["train/a/1.png", "train/b/1.png", "test/1.png"],  # held-out pictures in no class
        ["train/a/1.png", "train/b/1.png", "test/c/1.png"],  # or in one that none is trained on
        ["train/a/1.png", "train/a/2.png", "test/a/1.png"],  # one class is none
        ["1.png", "a/2.png", "b/3.png"],
    ],
)
def test_there_are_no_labels_unless_all_pictures_have_one(tmp_path, names):
    data = ImageFolder(write(tmp_path, numbered(names)), batch_size=1)
    assert [split.labels for split in data.splits] == [None, None]


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
    with pytest.raises(ValueError, match=r"gone.png is damaged .*No such file"):
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
    ("name", "title"),
    [("CIFAR10.npz", "cifar10"), ("My faces (64).npz", "my-faces-64"), ("a_b-c.npz", "a_b-c"), ("é.npz", "arrays")],
)
def test_title_is_a_name(name, title):
    assert Arrays(name).title == title


def test_title_of_a_folder_keeps_what_follows_a_dot(tmp_path):
    root = write(tmp_path / "Faces.v2", numbered(["1.png", "2.png"]))
    assert ImageFolder(root).title == "faces-v2"


# Arrays


def save(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def drawn(*shape: int, high: int = 256) -> np.ndarray:
    return DRAW.integers(0, high, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((6, 8, 9), None), ((6, 8, 9, 1), (0, 3, 1, 2)), ((6, 8, 9, 3), (0, 3, 1, 2)), ((6, 3, 8, 9), (0, 1, 2, 3))],
)
@pytest.mark.parametrize("held_out", ["test", "val"])
def test_arrays_of_every_layout(tmp_path, shape, axes, held_out):
    """The first images of each, with their labels, whatever else is in the file."""
    train, test, truth = drawn(*shape), drawn(4, *shape[1:]), drawn(4, high=9)
    labels = np.arange(6, dtype=np.int16)
    extra = {"indices": np.arange(3), "mean": np.ones(3)}
    path = tmp_path / "x.npz"
    save(path, train=train, train_labels=labels, **{held_out: test, f"{held_out}_labels": truth}, **extra)
    (images, found), (held, found_truth) = Arrays(path, batch_size=1, num_train=5).splits
    for array, tensor in ((train[:5], images), (test, held)):
        assert (tensor.numpy() == (array[:, None] if axes is None else array.transpose(axes))).all()
    assert (found.tolist(), found_truth.tolist()) == (list(range(5)), truth.tolist())
    assert found.dtype == torch.int64


@pytest.mark.parametrize("key", ["images", "x", "arr_0", "faces"])
def test_one_array_is_divided_with_its_labels(tmp_path, key):
    images = np.arange(50, dtype=np.uint8).reshape(-1, 1, 1).repeat(4, axis=1).repeat(4, axis=2)
    path = save(tmp_path / "x.npz", **{key: images, "labels": np.arange(50)[::-1]})
    data, other = Arrays(path, batch_size=1), Arrays(path, batch_size=1, seed=1)
    (train, labels), (held_out, truth) = data.splits
    assert sorted(values(train) + values(held_out)) == list(range(50))
    assert len(held_out) == 5
    assert (49 - labels).tolist() == values(train)
    assert (49 - truth).tolist() == values(held_out)
    assert torch.equal(other.read()[1].images, held_out)  # the cache would not ask the seed


def test_arrays_are_resized(tmp_path):
    array = drawn(3, 20, 12, 3)
    data = Arrays(save(tmp_path / "x.npz", train=array, test=array), batch_size=1, image_size=8)
    for image, expected in zip(data.train_images, array, strict=True):
        assert (image - resized_by_torch(expected, 8, 8)).abs().max() <= 1


GOOD = drawn(6, 8, 8, 3)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"train": GOOD / 255, "test": GOOD}, "train in .*x.npz holds float64 values; save uint8, 0 to 255"),
        ({"train": GOOD, "test": GOOD.astype(np.int64)}, "test in .*x.npz holds int64 values; save uint8"),
        ({"train": GOOD.astype(object), "test": GOOD}, "train in .*x.npz holds Python objects; save uint8"),
        ({"train": GOOD.reshape(6, -1), "test": GOOD}, r"train in .*x.npz has the shape \(6, 192\); save"),
        ({"train": GOOD[..., :2], "test": GOOD}, r"train in .*x.npz has the shape \(6, 8, 8, 2\); save"),
        ({"train": GOOD[:, :3], "test": GOOD}, r"has the shape \(6, 3, 8, 3\), in which either axis"),
        ({"train": GOOD[:0], "test": GOOD}, r"has the shape \(0, 8, 8, 3\) and no pixels"),
        ({"train": GOOD, "test": GOOD[..., :1]}, "train are 3 x 8 x 8 and of test 1 x 8 x 8"),
        ({"train": GOOD, "test": GOOD, "train_labels": np.arange(6)}, "labels for one of train and test only"),
        ({"images": GOOD, "labels": np.arange(5)}, r"labels in .*x.npz has the shape \(5,\); images has 6 images"),
        ({"images": GOOD, "labels": np.arange(6.0)}, "labels in .*x.npz holds float64 values; save integers"),
        ({"images": GOOD, "labels": np.arange(6) - 1}, "labels in .*x.npz goes from -1 to 4"),
        ({"images": GOOD, "labels": np.array(list("abcdef"))}, "labels in .*x.npz holds <U1 values"),
        ({"a": GOOD, "b": GOOD}, "x.npz has the arrays a, b; save images as train and test"),
        ({"labels": np.arange(6)}, "x.npz has the arrays labels; save"),
        ({"images": GOOD[:1]}, "1 images are to be held out of the 1"),
    ],
)
def test_arrays_that_are_no_images_are_told_in_a_sentence(tmp_path, arrays, said):
    with pytest.raises(ValueError, match=said) as caught:
        Arrays(save(tmp_path / "x.npz", **arrays), batch_size=1).setup()
    assert "\n" not in str(caught.value)


def test_files_that_are_no_npz_are_told_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        Arrays(tmp_path).setup()
    np.save(tmp_path / "x.npy", GOOD)
    with pytest.raises(ValueError, match=r"x.npy is not a zip file"):
        Arrays(tmp_path / "x.npy").setup()
    content = save(tmp_path / "x.npz", train=GOOD, test=GOOD).read_bytes()
    for broken in (content[:-30], b"", content[: len(content) // 2]):
        (tmp_path / "x.npz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"x.npz is not a zip file, or damaged"):
            Arrays(tmp_path / "x.npz").setup()


def test_header_that_promises_less_than_there_is_does_not_pass(tmp_path):
    """A damaged shape would end the reading before the checksum, in a file larger than what is read ahead."""
    np.savez(tmp_path / "x.npz", images=drawn(6, 64, 64, 3))
    content = (tmp_path / "x.npz").read_bytes()
    assert content.count(b"(6, 64, 64, 3)") == 1
    (tmp_path / "x.npz").write_bytes(content.replace(b"(6, 64, 64, 3)", b"(3, 64, 64, 3)"))
    with pytest.raises(ValueError, match=r"images in .*x.npz is damaged"):
        Arrays(tmp_path / "x.npz").setup()


# Damage of every kind


@pytest.mark.parametrize("old", [b"labels.npy", b"PK\1\2"])
def test_a_damaged_directory_does_not_lose_labels(tmp_path, old):
    """The last entry's name is another, or its mark is gone; or the entry before swallows it, as its comment."""
    path = save(tmp_path / "x.npz", images=GOOD, labels=np.arange(6))
    content = path.read_bytes()
    place = content.rindex(old)
    path.write_bytes(flipped(content, place))
    with pytest.raises(ValueError, match=r"x.npz is (damaged|not a zip file)"):
        Arrays(path, batch_size=1).setup()
    second, first = content.rindex(b"PK\1\2"), content.index(b"PK\1\2")
    length = content.index(b"PK\5\6") - second
    path.write_bytes(content[: first + 32] + struct.pack("<H", length) + content[first + 34 :])
    with pytest.raises(ValueError, match=r"x.npz is damaged"):
        Arrays(path, batch_size=1).setup()


def test_a_damaged_name_does_not_hide_a_picture(tmp_path):
    path = write(tmp_path / "x", numbered(["train/1.png", "train/2.png", "test/1.png"]), zipped=True)
    content = path.read_bytes()
    path.write_bytes(flipped(content, content.rindex(b"2.png") + 4))
    with pytest.raises(ValueError, match=r"x.zip is damaged"):
        ImageFolder(path, batch_size=1).setup()


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """Some bytes changed, an end cut off, other content, or none."""
    kind = draw.integers(6)
    if kind == 0:
        return content[: draw.integers(len(content))]
    if kind == 1:
        return bytes(draw.integers(0, 256, draw.integers(200), dtype=np.uint8))
    changed = bytearray(content)
    for place in draw.integers(0, len(content), draw.integers(1, 4)):
        changed[place] ^= 1 << draw.integers(8)
    return bytes(changed)


def outcome(data: ImageDataModule, name: str) -> tuple[torch.Tensor, ...] | None:
    """Both splits' images; None if they are refused in one line that names the file."""
    try:
        return data.train_images, data.held_out_images
    except ValueError as error:
        said = str(error)
    assert name in said
    assert "\n" not in said
    return None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_a_damaged_picture_is_refused_or_has_its_shape(tmp_path, form, capfd):
    draw = np.random.default_rng(0)
    content = encoded(noise(9, 9), form)
    refused = 0
    for number in range(25):
        root = write(tmp_path / str(number), {"train/a.png": damaged(content, draw), "test/b.png": plain(1, 9)})
        found = outcome(ImageFolder(root, batch_size=1, image_size=9), "a.png")
        refused += found is None
        if found is not None:
            assert found[0].shape == (1, 3, 9, 9)
            assert form != "PNG" or (found[0][0].permute(1, 2, 0).numpy() == decoded(content)).all()
    assert refused >= 5
    assert capfd.readouterr() == ("", "")


def test_a_damaged_zip_is_refused_or_unharmed(tmp_path):
    """What is still read is the picture that was written: a zip has checksums."""
    draw = np.random.default_rng(0)
    files = {f"train/{i}.jpg": encoded(smooth(8, 8) + i, "JPEG") for i in range(3)} | {
        "test/a.bmp": encoded(noise(8, 8), "BMP")
    }
    content = write(tmp_path / "x", files, zipped=True).read_bytes()
    written = {decoded(file).tobytes() for file in files.values()}
    for number in range(75):
        root = write(tmp_path, {f"{number}.zip": damaged(content, draw)}) / f"{number}.zip"
        found = outcome(ImageFolder(root, batch_size=1), f"{number}.zip")
        for image in () if found is None else torch.cat(found):
            assert image.permute(1, 2, 0).contiguous().numpy().tobytes() in written


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_refused_or_unharmed(tmp_path, writer):
    draw = np.random.default_rng(0)
    labels = np.arange(6)
    writer(tmp_path / "x.npz", train=GOOD, test=GOOD[::-1], train_labels=labels, test_labels=labels[::-1])
    content = (tmp_path / "x.npz").read_bytes()
    whole = Arrays(tmp_path / "x.npz", batch_size=1)
    for number in range(60):
        path = write(tmp_path, {f"{number}.npz": damaged(content, draw)}) / f"{number}.npz"
        data = Arrays(path, batch_size=1)
        if outcome(data, f"{number}.npz") is not None:
            for found, split in zip(data.splits, whole.splits, strict=True):
                assert torch.equal(found.images, split.images)
                assert torch.equal(found.labels, split.labels)


# Real data


def real(name: str) -> Path:
    if not (REAL / name).exists():
        pytest.skip(f"{REAL / name} is not there; set THERMOEBM_DATA to the folder it is in.")
    return REAL / name


def test_celeba_64_is_read_from_its_zip():
    """The first and the last pictures of each split are looked up by name; the rest is counted."""
    path = real("celeba_64.zip")
    data = ImageFolder(path)
    train, held_out = data.train_images, data.held_out_images
    assert (train.shape, held_out.shape) == ((12_000, 3, 64, 64), (4_500, 3, 64, 64))
    assert data.title == "celeba_64"
    with zipfile.ZipFile(path) as file:
        for images, folder in ((train, "train/"), (held_out, "test/")):
            names = sorted(name for name in file.namelist() if name.startswith(folder) and name.endswith(".jpg"))
            for index in (0, 1, 777, -1):
                expected = np.asarray(Image.open(io.BytesIO(file.read(names[index]))))
                assert (images[index].permute(1, 2, 0).numpy() == expected).all()


def test_cifar10_is_read_from_its_npz():
    path = real("cifar10.npz")
    data = Arrays(path)
    with np.load(path) as file:
        for split, key in zip(data.splits, ("train", "test"), strict=True):
            assert (split.images.permute(0, 2, 3, 1).numpy() == file[key]).all()
            assert (split.labels.numpy() == file[f"{key}_labels"]).all()
    assert (len(data.train_images), len(data.held_out_images)) == (12_000, 4_500)
