"""Inception's weights are verified before they are read, and it receives the pixels of torch-fidelity."""

import hashlib

import pytest
import torch
from torch import nn

from tests.metrics.test_features import pictures
from thermoebm.metrics import inception
from thermoebm.metrics.features import extractor


def test_inception_weights_that_are_absent_or_damaged_are_told_in_a_sentence(monkeypatch, tmp_path, capsys):
    url = inception._URL
    with pytest.raises(ValueError, match=f"There are no weights {tmp_path}/w.pth: put {url} there"):
        extractor(f"inception:{tmp_path}/w.pth")
    (tmp_path / "w.pth").write_bytes(b"half of it")
    found = hashlib.sha256(b"half of it").hexdigest()[:8]
    with pytest.raises(ValueError, match=f"w.pth is damaged or another file .*begins with {found}, not 6726825d"):
        extractor(f"inception:{tmp_path}/w.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(inception, "_URL", "file:///nowhere/weights-inception.pth")
    with pytest.raises(
        ValueError, match=r"absent and downloading is off \(download: true allows it\): put file:.* at "
    ):
        extractor("inception")
    with pytest.raises(ValueError, match=rf"\(URLError\): put file:.* at {tmp_path}/hub/checkpoints/weights-inception"):
        extractor("inception", download=True)
    assert capsys.readouterr().err.startswith(f"Inception's weights are absent and are downloaded to {tmp_path}/hub/")


def test_inception_weights_that_are_downloaded_are_verified(monkeypatch, tmp_path):
    """Others than the published ones are not kept, and none are asked for where they are."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "weights.pth").write_bytes(b"not those of 2015")
    monkeypatch.setattr(inception, "_URL", f"file://{tmp_path}/weights.pth")
    with pytest.raises(ValueError, match=r"could not be downloaded \(RuntimeError\)"):
        extractor("inception", download=True)
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


def test_inception_receives_the_pixels_of_torch_fidelity(monkeypatch, tmp_path):
    """With a stand-in for its layers: bytes 0 to 255, grey over three channels, and logits without their bias."""

    class Layers(nn.Module):
        def __init__(self, name, wanted, path):
            super().__init__()
            assert (name, wanted) == ("inception-v3-compat", ["2048"])
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            assert x.dtype == torch.uint8
            return (x[:, :, 0, 0].float(),)

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3", Layers)
    (tmp_path / "w.pth").write_bytes(b"weights")
    monkeypatch.setattr(inception, "_SHA256", hashlib.sha256(b"weights").hexdigest())
    network = extractor(f"inception:{tmp_path}/w.pth")
    assert network.name == "inception"
    images = pictures()
    assert torch.equal(network(images), images[:, :, 0, 0].float().expand(-1, 3))
    assert torch.equal(network(images.expand(-1, 3, -1, -1)), network(images))
    torch.testing.assert_close(network.head(network(images)), network(images) @ network.network.layers.fc.weight.T)
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        network(images.expand(-1, 2, -1, -1))
