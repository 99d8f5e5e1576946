"""Executes the notebooks of this folder and writes them back with their outputs: ``python docs/notebooks/execute.py``.

Names of notebooks may follow; without any, both are executed, which takes about ten minutes.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
#: Seconds for one cell; training on digits takes several minutes.
TIMEOUT = 1800


def executed(path: Path, folder: Path, parameters: Mapping[str, int] | None = None, **kernel: Any) -> NotebookNode:
    """The notebook with the outputs that this interpreter gives, and nothing that tells when or how fast.

    Args:
        path: The notebook.
        folder: Working directory of the kernel.
        parameters: Numbers that replace those of the cell with the tag ``parameters``.
        kernel: What the kernel is started with, for instance its ``env``.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for name, value in (parameters or {}).items():
        (cell,) = (cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
        cell.source, found = re.subn(rf"^{name} = \d+", f"{name} = {value}", cell.source, flags=re.M)
        if found != 1:
            raise ValueError(f"{path.name}: there is no parameter {name}.")
    NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,  # what is printed in one go is one output, however fast the machine
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only, none of its remarks on its connection
    ).execute(**kernel)
    for cell in cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    return notebook


if __name__ == "__main__":
    for path in [FOLDER / f"{Path(name).stem}.ipynb" for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(executed(path, FOLDER), path)
        print(f"{path.name} is executed, {path.stat().st_size / 1e3:.0f} kB")
