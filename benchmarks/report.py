"""The results as Markdown tables and as JSON."""

import datetime
import json
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Figure, Group

# Column -> heading, factor and format.
COLUMNS = {
    "ms_per_step": ("ms a step", 1, ".3g"),
    "slowest_ms_per_step": ("slowest", 1, ".3g"),
    "flops_per_second": ("GFLOP/s", 1e-9, ".3g"),
    "of_matrix_rate": ("% of matrix rate", 100, ".3g"),
    "times_peer": ("times as fast as the peer", 1, ".2f"),
    "first_call_s": ("first call s", 1, ".2g"),
    "deviation": ("off the peer", 1, ".1e"),
    "ms": ("ms", 1, ".3g"),
    "peak_bytes": ("peak MiB", 2**-20, ".3g"),
    **{
        phase: (f"{phase} %", 100, ".2g")
        for phase in ("sampling", "backward", "optimiser", "logging", "loading", "rest")
    },
    "outside_sampling": ("outside sampling %", 100, ".2g"),
    "exponent": ("exponent", 1, ".3f"),
    "standard_error": ("standard error", 1, ".3f"),
    "copy_bytes_per_second": ("copy GB/s", 1e-9, ".3g"),
    **{f"matrix_flops_per_second_{p}": (f"matmul {p} GFLOP/s", 1e-9, ".3g") for p in ("float32", "tf32", "bfloat16")},
    **{f"{network}_cosine": (f"{network} gradient cosine", 1, ".6f") for network in ("energy", "generator")},
    **{f"{network}_norm_ratio": (f"{network} norm ratio", 1, ".5f") for network in ("energy", "generator")},
    **{name: (name.replace("_", " "), 1, ".2f") for name in ("short_run_evidence", "left_sum", "right_sum")},
    "mean_off_max": ("mean off, largest", 1, ".1e"),
    "mean_off_se_rms": ("rms, in standard errors", 1, ".4f"),
    "variance_off_max": ("variance off, largest", 1, ".1e"),
    "variance_off_se_rms": ("rms, in its standard errors", 1, ".4f"),
    "path_rms": ("same chain off, rms", 1, ".1e"),
    "flops_per_step": ("GFLOP a step", 1e-9, ".3g"),
}


def environment(device: torch.device) -> dict[str, Any]:
    """The device, the versions of software, the number of threads, the commit and the date."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
    }


def processor() -> str:
    """The processor's model name where Linux gives it, else the platform's name for it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the checkout, with a + if files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def cell(column: str, value: Any) -> str:
    """One number, with its quartiles if it is a median."""
    _, factor, spec = COLUMNS.get(column, ("", 1, ".3g"))
    if isinstance(value, Figure):
        return format(Figure(*(factor * part for part in value)), spec)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "NO", None: ""}[value]
    if isinstance(value, list):
        return ", ".join(f"{part:.3g}" for part in value)
    return format(factor * value, spec) if isinstance(value, float) or column == "peak_bytes" else str(value)


def markdown(group: Group) -> str:
    """A heading, the facts and a table."""
    facts = "; ".join(f"{heading(name)} {cell(name, value)}" for name, value in group.facts.items())
    columns = list(dict.fromkeys(name for row in group.rows for name in row))
    lines = [f"### {group.section}: {group.title}", "", facts, ""]
    lines += ["| " + " | ".join(map(heading, columns)) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(name, row.get(name)) for name in columns) + " |" for row in group.rows]
    return "\n".join([*lines, ""])


def heading(column: str) -> str:
    return COLUMNS.get(column, (column.replace("_", " "),))[0]


def write(path: Path, facts: dict[str, Any], groups: Iterable[Group]) -> None:
    """Everything as JSON; a median with its quartiles is an object."""

    def plain(value: Any) -> Any:
        if isinstance(value, Figure):
            return value._asdict()
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, list | tuple) else value

    found = {"environment": facts, "groups": [plain(vars(group)) for group in groups]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
