"""The plan of a study: its file, each run's config, the hash that names the run, and the operations that it takes.

This package starts no run and writes no file.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "columns": "IDENTITY REGIMES WORDS regime",
        "definitions": "Cell Run Study StudyError",
        "file": "read",
        "work": "Counter Work",
    },
)
