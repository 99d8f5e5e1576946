"""The output of a training run: its directory, checkpoints, table of metrics and settings.

This package ensures that no two runs share a directory, and that no row or checkpoint is lost.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "checkpoints": "check_density chosen_by continues load_checkpoint load_data load_model read_checkpoint",
        "directories": "check_writable claim run_of write_samples",
        "finding": "find_checkpoint find_checkpoints without_best",
        "loggers": "MetricsCSV",
        "logged": "VARIANCES distance renamed",
    },
)
