"""A study as one self-contained HTML page: it needs no network and no other file, and can be read without scripts.

It shows what the study has, and says in a sentence what is missing.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "document": "write",
    },
)
