"""Executes the runs of a study: its folder on disk, the locks on runs, local and Ray executors, the progress display.

A finished run stays finished, whichever process is killed.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "board": "Board",
        "executors": "Local choose",
        "launch": "Launcher",
        "ray_executor": "Ray",
        "workers": "Executor",
    },
)
