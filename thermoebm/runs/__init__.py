"""What a run leaves behind: its directory, checkpoints, tables of metrics and settings.

Everything that is written there is made sure of here: no two runs share a directory, and no row or checkpoint is lost.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "checkpoints": "load_checkpoint load_data load_model read_checkpoint",
        "directories": "claim run_of write_samples",
        "loggers": "MetricsCSV",
        "logged": "VARIANCES distance",
    },
)
