"""The log-evidence of images under a trained model: annealed, with its error, and between two bounds.

``python -m thermoebm.applications.evidence CHECKPOINT`` measures it, ``evaluate.py`` too.
"""

from thermoebm.applications.evidence.annealed import Annealing, Evidence, annealed_evidence, paired, remarks, summary
from thermoebm.applications.evidence.bidirectional import Bounds, bounds
from thermoebm.applications.evidence.starts import Starts, draw_starts

__all__ = [
    "Annealing",
    "Bounds",
    "Evidence",
    "Starts",
    "annealed_evidence",
    "bounds",
    "draw_starts",
    "paired",
    "remarks",
    "summary",
]
