"""Classes that a config names by their path: where they are looked for, and what is said if one is not there."""

import contextlib
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Any


def look_here() -> None:
    """Classes are looked for in the working directory too, whichever program runs and wherever it is.

    The directory comes last on Python's path, so that no file in it hides a package. In Python's safe mode, which is
    there to keep the directory off the path, nothing changes.
    """
    with contextlib.suppress(FileNotFoundError):  # a working directory that was removed
        here = str(Path.cwd())
        if not sys.flags.safe_path and not {"", here} & {*sys.path}:
            sys.path.append(here)


def check(config: Any) -> None:
    """Imports every class that a part of a config names, at any depth.

    Raises:
        ValueError: If one cannot be imported: which, from where, and what to do.
    """
    if isinstance(config, dict):
        if isinstance(path := config.get("class_path"), str):
            _import(path)
        config = [*config.values()]
    for part in config if isinstance(config, list) else ():
        check(part)


def _import(path: str) -> None:
    name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(name)
        there = hasattr(module, attribute)
    except ModuleNotFoundError as error:
        with contextlib.suppress(ImportError, AttributeError):
            pkgutil.resolve_name(path)  # a class within a class
            return
        wanted = f"the class {path} cannot be imported: "
        if not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"{wanted}{name} needs {error.name}, which is not installed.") from error
        raise ValueError(
            f"{wanted}there is no module {error.name} in {Path.cwd()} or on Python's path; start from the folder that "
            "has it, or add that folder to PYTHONPATH."
        ) from error
    if not there:
        raise ValueError(f"the class {path} cannot be imported: {module.__file__} has no {attribute}.")
