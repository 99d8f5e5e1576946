"""Studies to draw figures of."""

from pathlib import Path

import pytest

from tests.study import tables as study_tables


@pytest.fixture
def folder(tmp_path) -> Path:
    """A study with a few cells."""
    study_tables.write(tmp_path, study_tables.FEW)
    return tmp_path


@pytest.fixture
def whole(tmp_path) -> Path:
    """A study with all cells."""
    study_tables.write(tmp_path)
    return tmp_path
