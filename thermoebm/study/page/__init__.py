"""A study as one HTML page that needs nothing else: no network, no other file, no script to be read.

It shows what is there and tells in a sentence what is not.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "document": "write",
    },
)
