"""What a study runs: its file, the config of each run, the hash that names it, and the operations that it takes.

Nothing is started or written here.
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
