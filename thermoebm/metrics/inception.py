"""torch-fidelity's InceptionV3 as a source of features, and the download of its weights."""

import hashlib
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class Inception(nn.Module):
    """torch-fidelity's InceptionV3 with TensorFlow's weights of 2015, the network of published FID and KID.

    Grey images are repeated over three channels; resizing to 299x299 is torch-fidelity's own.

    Args:
        weights: File of the weights; None: that in torch's download cache.
        download: Download them to that cache if they are not there.

    Raises:
        ValueError: If the weights are absent, cannot be downloaded or have another SHA-256.
    """

    def __init__(self, weights: Path | None = None, download: bool = False) -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = _verified(weights or _kept(download))
        self.layers = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 2048) of images (N, 1 or 3, H, W) in [-1, 1].

        Raises:
            ValueError: If the images have another number of channels.
        """
        if images.shape[1] not in (1, 3):
            raise ValueError(f"Inception takes images with 1 or 3 channels, not {images.shape[1]}.")
        pixels = ((images + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
        features: Tensor = self.layers(pixels)[0]
        return features

    def logits(self, features: Tensor) -> Tensor:
        """Logits (N, 1008) of features (N, 2048), without the bias, as the inception score uses them."""
        return features @ self.layers.fc.weight.T.to(features)


def _kept(download: bool) -> Path:
    """The path of the weights in torch's download cache; if they are absent, downloads them where that is allowed."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / _URL.rpartition("/")[2]
    if not path.exists():
        if not download:
            raise ValueError(
                f"Inception's weights are absent and downloading is off (download: true allows it): put {_URL} at "
                f"{path}, or name your copy as inception:PATH."
            )
        print(f"Inception's weights are absent and are downloaded to {path}.", file=sys.stderr, flush=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(_URL, str(path), _SHA256, sys.stderr.isatty())
        except Exception as error:  # no network, no such server, no space, a wrong checksum
            raise ValueError(
                f"Inception's weights could not be downloaded ({type(error).__name__}): put {_URL} at "
                f"{path}, or name your copy as inception:PATH."
            ) from error
    return path


def _verified(path: Path) -> Path:
    """Returns the path after checking the SHA-256 of the file, since the file is unpickled afterwards."""
    if not path.is_file():
        raise ValueError(f"There are no weights {path}: put {_URL} there.")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _SHA256:
        raise ValueError(
            f"{path} is damaged or another file (its SHA-256 begins with {found[:8]}, not {_SHA256[:8]}): "
            f"put {_URL} there."
        )
    return path
