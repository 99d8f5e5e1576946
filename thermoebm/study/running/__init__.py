"""How runs are executed: the study's folder, who works on what, on which machine, and what is shown meanwhile.

What is done stays done, whatever is killed.
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
