"""Chains that are recorded on a CPU too."""

import pytest

from thermoebm.modules.chains import Chains


@pytest.fixture
def recording(monkeypatch):
    """Chains are recorded on the CPU too."""
    monkeypatch.setattr(Chains, "_records", lambda chains, device: chains.compile == "graph")
