"""Numbers as people read them."""

import pytest

from thermoebm.runtime.units import duration, scaled, short


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5900, "98 min"),
        (12000, "3 h 20 min"),
        (359_940, "99 h 59 min"),
        (360_000, "100 h"),
        (1_000_000, "278 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0"), (0.0012345, "0.00123"), (12.345, "12.3"), (999, "999"), (12345.6, "12,346")]
)
def test_three_digits_or_all_before_the_point(value, words):
    assert short(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 "), (0.5, "0.500 "), (1000, "1.00 k"), (123_456, "123 k"), (2.7e17, "270 P"), (3e18, "3.00 E"),
     (4e22, "40,000 E")],
)  # fmt: skip
def test_prefixes(value, words):
    assert scaled(value) == words
