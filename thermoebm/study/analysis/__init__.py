"""What the runs say: tables collected from their directories, and the tests of the report's claims.

Damaged directories are told in a sentence and the others are collected.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "claims": "check table",
        "collect": "at_equal gather read_tables",
        "quadratic": "Quadratic fit",
        "run_directory": "Run",
        "statistics": "Result holm spearman welch",
    },
)
