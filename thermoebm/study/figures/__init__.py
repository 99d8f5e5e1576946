"""A study's figures, drawn from its tables and runs in one style, and the report's published results drawn alike.

Each figure is a function from a data set's tables to a matplotlib figure; if it cannot be drawn, it says why.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "drawing": "FIGURES PUBLISHED draw draw_published",
        "tables": "Undrawable",
    },
)
