"""What a run leaves behind."""

from thermoebm.runs.directories import (
    check_density,
    check_writable,
    claim,
    continues,
    load_checkpoint,
    load_data,
    load_model,
    read_checkpoint,
    run_of,
    write_samples,
)

__all__ = [
    "check_density",
    "check_writable",
    "claim",
    "continues",
    "load_checkpoint",
    "load_data",
    "load_model",
    "read_checkpoint",
    "run_of",
    "write_samples",
]
