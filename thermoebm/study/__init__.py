"""A study: many runs that one file defines; they are planned, executed, collected, tested and plotted here.

``python -m thermoebm.study run STUDY.yaml`` does all of it; each step is a subpackage.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "planning.definitions": "Cell Run Study StudyError",
        "planning.file": "read",
        "analysis.collect": "at_equal read_tables",
        "figures": "draw draw_published",
    },
)
