"""Lightning's reading and writing of checkpoints, which waits for a disk that is full or away."""

from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

from thermoebm.runtime.patience import patiently


class PatientIO(CheckpointIO):
    """Another plugin's, written again until it can be (:func:`thermoebm.runtime.patience.patiently`).

    Args:
        inner: The plugin.
    """

    def __init__(self, inner: CheckpointIO) -> None:
        self.inner = inner

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        patiently(path, lambda: self.inner.save_checkpoint(checkpoint, path, storage_options))

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.inner.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Any) -> None:
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        self.inner.teardown()
