"""Which numbers single precision can compute with."""

#: Of numbers from here to the inverse of this, squares and inverse squares are normal in single precision.
_LEAST = 1e-18


def positive(value: float) -> bool:
    """Whether a standard deviation, step size or rate is positive and finite in single precision, squared or not."""
    return _LEAST <= value <= 1 / _LEAST
