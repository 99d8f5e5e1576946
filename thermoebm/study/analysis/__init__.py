"""Collects the runs' results into tables, and tests the report's claims on them.

A damaged directory is reported in a sentence, and the others are still collected.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "claims": "check table",
        "collect": "at_equal gather read_tables",
        "quadratic": "Quadratic fit",
        "ranks": "spearman",
        "statistics": "Result holm welch",
    },
)
