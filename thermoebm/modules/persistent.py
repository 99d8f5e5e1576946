"""Chains that go on where the last visit to their image ended, and batches that say which images they have."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from thermoebm.runtime import processes


class Batch(NamedTuple):
    """Images (B, C, H, W) and the keys (B,), int64, of their chains: another one for a mirror image."""

    images: Tensor
    keys: Tensor


def apart(batch: Tensor | Batch) -> tuple[Tensor, Tensor | None]:
    """The images of a batch, and their keys if it has any."""
    return batch if isinstance(batch, Batch) else (batch, None)


class KeyedData(Protocol):
    """A data set whose batches are a :class:`Batch` each, with keys from 0 to ``num_keys`` - 1."""

    num_keys: int

    def identity(self) -> str:
        """A text that is the same for the same images under the same keys, and for no others."""
        ...


class _Table(NamedTuple):
    """States (R, N, d) of chains by rung and key, and whether each has been visited (R, N); the last rung is first."""

    states: Tensor
    visited: Tensor


class PersistentChains:
    """Chains that outlive the training step, by image, as in persistent contrastive divergence.

    For the prior: Tieleman 2008; for the posterior: Han et al. 2017 (arXiv 1606.08571), algorithm 1.

    A visit to image i runs K steps of the kernel T_t on from the state that the visit before it left,

        z_i ← T_t^K(z_i),    at the first visit from z_i ~ π0,

    so that after V visits the chain has had V K steps, while the parameters moved on. The chains are those of the prior
    (one for each image as well) and of each rung of the objective's ladder. Rungs are counted from the last one, t = 1,
    which therefore is the same chain whether or not a step samples the inner rungs; where a schedule changes, a rung's
    chains go on at its new temperature.

    States are kept on the device: d floats and a byte for each key and temperature, in float32 (1 + T) N (4 d + 1)
    bytes for the prior's chains and T rungs, with N the number of images, or twice that with mirroring. With several
    processes each has the whole table, and what all of them sampled is gathered at each step. Nothing makes the host
    wait for the device.
    """

    def __init__(self) -> None:
        self._identity = ""
        self._num_keys = 0
        self._tables: dict[str, _Table] = {}
        self._restored: dict[str, Any] | None = None  # of a checkpoint, until it is known which images are trained on
        self._keys: Tensor | None = None  # of the images that are visited now
        self._everyones: Tensor | None = None  # those of all processes, if their states are written

    def begin(self, data: KeyedData | Any, latent_dim: int) -> None:
        """Goes on with the chains of these training images, or starts anew and says so if there are only others.

        Raises:
            ValueError: If the batches of the data set have no keys.
        """
        if not hasattr(data, "num_keys"):
            raise ValueError(NO_KEYS)
        identity = f"{data.identity()}, latents of size {latent_dim}"
        if self._restored:
            tables = self._restored["tables"]
            self._identity, self._tables = self._restored["identity"], {n: _Table(**t) for n, t in tables.items()}
            self._restored = None
        if self._tables and self._identity != identity:
            self._tables = {}
            rank_zero_warn(
                "Persistent chains start anew: the ones so far are of other training images, of another augmentation "
                "or of latents of another size."
            )
        self._identity, self._num_keys = identity, data.num_keys

    def to(self, device: torch.device | str) -> None:
        """Moves all states to a device."""
        self._tables = {name: _Table(*(part.to(device) for part in table)) for name, table in self._tables.items()}

    @contextmanager
    def visiting(self, keys: Tensor | None, write: bool = False) -> Iterator[None]:
        """Within it chains start where those of these keys (B,) were left, and if ``write`` is set, leave their ends.

        Without keys, all start at their fresh states.

        Raises:
            ValueError: If there is nothing to write to.
        """
        if write and keys is None:
            raise ValueError(NO_KEYS)
        if keys is not None:
            self.to(keys.device)  # of a checkpoint, or of a training before
        self._keys, self._everyones = keys, processes.gathered(keys, 0) if write and keys is not None else None
        try:
            yield
        finally:
            self._keys = self._everyones = None

    def starts(self, name: str, fresh: Tensor) -> Tensor:
        """Where chains start that would start at ``fresh`` (B, d), or (T, B, d) at ascending temperatures.

        Fresh states are always drawn, whether or not they are needed: no stream depends on what was visited.
        """
        if self._keys is None:
            return fresh
        if fresh.shape[-2] != len(self._keys):
            raise ValueError(
                f"Persistent chains: {fresh.shape[-2]} chains at a temperature for {len(self._keys)} images; "
                "under chain_start: persistent an objective samples one for each image."
            )
        if name not in self._tables:
            return fresh
        rungs = fresh.view(-1, *fresh.shape[-2:])
        states, visited = (part[: len(rungs)].index_select(1, self._keys).flip(0) for part in self._tables[name])
        unknown = len(rungs) - len(states)  # the lowest rungs, if fewer have been sampled so far
        known = torch.where(visited.unsqueeze(-1), states, rungs[unknown:])
        return torch.cat([rungs[:unknown], known]).view_as(fresh)

    def leave(self, name: str, ends: Tensor) -> None:
        """Leaves chains at their ends, of the shape of :meth:`starts`, if they are to be written."""
        if self._everyones is None:
            return
        rungs = processes.gathered(ends.detach().reshape(-1, *ends.shape[-2:]), 1).flip(0)
        states, visited = self._table(name, rungs)
        states[: len(rungs)].index_copy_(1, self._everyones, rungs)
        visited[: len(rungs)].index_fill_(1, self._everyones, True)

    def _table(self, name: str, rungs: Tensor) -> _Table:
        """The table, with at least so many rungs."""
        table = self._tables.get(name)
        missing = len(rungs) - (len(table.states) if table else 0)
        if missing > 0:
            states = rungs.new_zeros(missing, self._num_keys, rungs.shape[-1])
            more = _Table(states, torch.zeros(states.shape[:-1], dtype=torch.bool, device=states.device))
            table = _Table(*(torch.cat(pair) for pair in zip(table, more, strict=True))) if table else more
            self._tables[name] = table
        assert table is not None
        return table

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps of the chains, in tensors and texts; None: there are none."""
        if self._restored or not self._tables:
            return self._restored
        return {"identity": self._identity, "tables": {name: table._asdict() for name, table in self._tables.items()}}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Takes what :meth:`state` gave in place of what there is; it is looked at when training begins."""
        self._tables, self._restored = {}, state


#: Raised for training batches that are tensors.
NO_KEYS = (
    "LatentEBM: chain_start is persistent, and the training batches do not say which images they have; train on an "
    "ImageDataModule itself, trainer.fit(model, data), or take another chain_start."
)
