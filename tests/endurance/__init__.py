"""What a run must survive, tried many times: python -m tests.endurance. A short form is in tests/test_endurance.py.

Each module is one kind of harm. It has ``trials(folder, short)``, which makes what it needs in an empty folder, does
the harm, and yields for each try what was done, in words that are a row of the table, and whether the promise held.
"""

import importlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

#: The modules, in the order of the table.
HARMS = ("flips", "contents", "values", "kills", "disks", "ranks")


def trials(harms: Iterable[str], folder: Path, short: bool = False) -> Iterator[tuple[str, bool]]:
    """The trials of these modules, each in a folder of its own."""
    for harm in harms:
        (place := folder / harm).mkdir()
        yield from importlib.import_module(f"tests.endurance.{harm}").trials(place, short)


def table(tried: Iterable[tuple[str, bool]]) -> str:
    """A line for each kind of trial: what was done, how often, and how often it held."""
    tried = list(tried)
    tries, held = Counter(what for what, _ in tried), Counter(what for what, fine in tried if fine)
    width = max(map(len, ("what", *tries)))
    rows = [(what, str(number), str(held[what])) for what, number in tries.items()]
    return "\n".join(f"{a:{width}}  {b:>6}  {c:>6}" for a, b, c in [("what", "tries", "held"), *rows])
