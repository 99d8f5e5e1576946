"""Absent data sets: a sentence that says where to get them, and downloads that are whole or not at all."""

import gzip
import io
import re
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision import datasets
from torchvision.datasets import utils

import thermoebm.data
from tests.data import originals
from tests.data.originals import said
from thermoebm.data import MNIST, SVHN, CelebA
from thermoebm.data import celeba as celeba_module

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize(
    ("name", "file", "address", "folder"),
    [
        ("MNIST", "MNIST/raw/train-images-idx3-ubyte", "/mnist/train-images-idx3-ubyte.gz", "MNIST/raw"),
        ("CIFAR10", "cifar-10-batches-py/data_batch_1", "/cifar-10-python.tar.gz", ""),
        ("SVHN", "train_32x32.mat", "/housenumbers/train_32x32.mat", ""),
        ("CelebA", "celeba/img_align_celeba.zip", "/projects/CelebA.html", "celeba"),
    ],
)
@pytest.mark.parametrize("download", [False, True])
def test_absent_files_are_told_with_where_to_get_and_put_them(
    tmp_path, monkeypatch, name, file, address, folder, download
):
    """Without permission, and without a network: torchvision's own code fails at the address, half a file written."""

    def fail(path, *rest):
        Path(path).write_bytes(b"half a file")
        raise OSError("no route to host")

    def no_route(file_id, root, name, md5):
        Path(root).mkdir(parents=True)
        fail(Path(root) / name)

    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(utils, "_urlretrieve", lambda url, path: fail(path))
    monkeypatch.setattr(celeba_module, "download_file_from_google_drive", no_route)
    text = said(getattr(thermoebm.data, name)(tmp_path, download=download))
    assert text.startswith(f"{name}: {tmp_path / file} is absent and ")
    assert ("no route to host" in text) == download
    assert ("downloading is off" in text) != download
    assert re.search(rf"https?://[^ ]+{re.escape(address)} .*{re.escape(str(tmp_path / folder))}\.$", text)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_absent_partition_or_image_of_celeba_is_told(tmp_path):
    originals.write_celeba(tmp_path)
    (tmp_path / "img_align_celeba" / "000003.jpg").unlink()
    assert said(CelebA(tmp_path, batch_size=1)) == (
        f"{tmp_path}/img_align_celeba: 1 of 6 pictures cannot be read: img_align_celeba/000003.jpg is absent; "
        "get what is absent or damaged again."
    )
    (tmp_path / "list_eval_partition.txt").unlink()
    assert f"{tmp_path}/list_eval_partition.txt is absent" in said(CelebA(tmp_path, download=False))
    originals.write_celeba(tmp_path / "z", zipped=True)
    with (tmp_path / "z" / "list_eval_partition.txt").open("a") as file:
        file.write("000009.jpg 0\n")
    assert "1 of 7 pictures cannot be read: img_align_celeba/000009.jpg is absent" in said(
        CelebA(tmp_path / "z", batch_size=1)
    )


# Downloads, by torchvision's real code from a server on this machine


class Server(ThreadingHTTPServer):
    """Serves bytes by name; those in ``broken`` it promises whole and sends by half."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.broken: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.files[self.path])))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        content = self.server.files[self.path]
        self.wfile.write(content[: len(content) // 2] if self.path in self.server.broken else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def serve(name: str, server: Server, folder: Path, monkeypatch) -> None:
    """Has torchvision find the set of this name, written in a folder, on the server."""
    address = f"http://127.0.0.1:{server.server_port}/"
    contents = {}
    if name == "MNIST":
        contents = {f"{path.name}.gz": gzip.compress(path.read_bytes()) for path in MNIST(folder).files()}
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
        resources = [(file, originals.md5_of(content)) for file, content in contents.items()]
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
    elif name == "CIFAR10":
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            tar.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
        contents = {"cifar-10-python.tar.gz": buffer.getvalue()}
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}cifar-10-python.tar.gz")
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", originals.md5_of(buffer.getvalue()))
    elif name == "SVHN":
        table = datasets.SVHN.split_list
        contents = {table[split][1]: (folder / table[split][1]).read_bytes() for split in ("train", "test")}
        moved = {split: [f"{address}{file}", file, md5] for split, (_, file, md5) in table.items()}
        monkeypatch.setattr(datasets.SVHN, "split_list", moved)
    else:
        names = ("img_align_celeba.zip", "list_eval_partition.txt")
        contents = {file: (folder / file).read_bytes() for file in names}
        table = [(file, originals.md5_of(content), file) for file, content in contents.items()]
        monkeypatch.setattr(datasets.CelebA, "file_list", table)
        # Google Drive is played by this server, and its client by torchvision's plain download.
        gdown = SimpleNamespace(download=lambda id, output, **_: utils._urlretrieve(address + id, output))
        monkeypatch.setitem(sys.modules, "gdown", gdown)
    server.files = {f"/{file}": content for file, content in contents.items()}


@pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "SVHN", "CelebA"])
def test_a_download_is_whole_or_not_at_all_and_a_second_try_works(name, server, tmp_path, monkeypatch, capfd):
    """Cut off half-way: a sentence, and no file; then in full: the images. Nothing is printed where results go."""
    if name == "CelebA":
        originals.write_celeba(tmp_path / "there", zipped=True)
    else:
        originals.WRITERS[name](tmp_path / "there", monkeypatch)
    serve(name, server, tmp_path / "there", monkeypatch)
    make = partial(getattr(thermoebm.data, name), download=True)
    for broken in (set(server.files), set(list(server.files)[-1:])):
        server.broken = broken
        assert "could not be downloaded (" in said(make(tmp_path / "here", batch_size=1))
        assert not list((tmp_path / "here").rglob(".*"))
    server.broken = set()
    data = make(tmp_path / "here", batch_size=1)
    there = getattr(thermoebm.data, name)(tmp_path / "there", batch_size=1)
    for mine, original in zip(data.splits, there.splits, strict=True):
        assert torch.equal(mine.images, original.images)
    assert not list((tmp_path / "here").rglob(".*"))
    server.files = {}
    make(tmp_path / "here", batch_size=1).setup()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "is absent and is downloaded, as download: true allows." in printed.err


@pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "SVHN", "CelebA"])
def test_a_download_with_another_checksum_is_refused_and_nothing_is_kept(name, server, tmp_path, monkeypatch):
    """One byte of one file is another one: for each file in turn. Some are pickles, which must not be opened."""
    if name == "CelebA":
        originals.write_celeba(tmp_path / "there", zipped=True)
    else:
        originals.WRITERS[name](tmp_path / "there", monkeypatch)
    serve(name, server, tmp_path / "there", monkeypatch)
    for file, content in server.files.items():
        server.files = server.files | {file: content[:-1] + bytes([content[-1] ^ 1])}
        here = tmp_path / f"here{file.replace('/', '-')}"
        assert "could not be downloaded (" in said(getattr(thermoebm.data, name)(here, batch_size=1, download=True))
        assert Path(file).stem not in {path.stem for path in here.rglob("*")}
        server.files = server.files | {file: content}


@pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "SVHN", "CelebA"])
def test_nothing_is_downloaded_unless_it_is_asked_for(name, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a connection"))
    assert "downloading is off (download: true allows it)" in said(getattr(thermoebm.data, name)(tmp_path))


def test_downloads_change_neither_other_sockets_nor_standard_output(tmp_path, monkeypatch, capfd):
    """A server that falls silent is given up; afterwards sockets wait as before. Results are all that is printed."""
    limits = []

    def fetch(*_, **__):
        print("Downloading, as some versions of torchvision say")
        limits.append(socket.getdefaulttimeout())
        raise TimeoutError("timed out")

    monkeypatch.setattr(datasets.SVHN, "download", fetch)
    assert "(timed out)" in said(SVHN(tmp_path, download=True))
    assert limits == [30]
    assert socket.getdefaulttimeout() is None
    printed = capfd.readouterr()
    first, second = printed.err.splitlines()
    assert first == f"SVHN: {tmp_path}/train_32x32.mat is absent and is downloaded, as download: true allows."
    assert (printed.out, second) == ("", "Downloading, as some versions of torchvision say")
