"""The tests, in the folders of the package."""

from pathlib import Path

#: The repository.
ROOT = Path(__file__).parents[1]
