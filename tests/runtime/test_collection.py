"""Imports without the garbage collector."""

import gc

import pytest

from thermoebm.runtime.collection import importing


def test_nothing_is_collected_meanwhile_nor_looked_at_after():
    before = gc.get_freeze_count()
    try:
        with importing():
            assert not gc.isenabled()
            made = [[] for _ in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(made)
        assert not any(entry is made[0] for entry in gc.get_objects())
    finally:
        gc.unfreeze()


def test_a_failed_import_leaves_the_collector_on():
    try:
        with pytest.raises(ImportError), importing():
            raise ImportError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
