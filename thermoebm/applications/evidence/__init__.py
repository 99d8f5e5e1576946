"""The log-evidence of images under a trained model: annealed, with its error, and between two bounds.

``python -m thermoebm.applications.evidence CHECKPOINT`` measures it, ``evaluate.py`` too.
"""

from thermoebm.applications.evidence.bidirectional import Bounds, bounds
from thermoebm.modules.annealed import (
    Annealing,
    Evidence,
    annealed_evidence,
    dequantised,
    paired,
    remarks,
    summary,
)
from thermoebm.modules.starts import Starts, draw_starts

__all__ = [
    "Annealing",
    "Bounds",
    "Evidence",
    "Starts",
    "annealed_evidence",
    "bounds",
    "dequantised",
    "draw_starts",
    "paired",
    "remarks",
    "summary",
]
