"""As fast as the hardware allows? python -m benchmarks [--only prior,posterior,training,growth]

Every figure is a median over repeats, with quartiles. Contestants and the machine's own limits (a large matrix product
in each precision, a large copy) are timed in turn, and ratios are taken within a round. FLOPs are nominal, as counted
by FlopCounterMode. Every chain is compared with that of a plain loop on the same noise: the exit status is 1 if one
disagrees, or cannot be run.
"""

import thermoebm  # noqa: F401, I001  (before anything that imports torchvision)

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.chains import posterior, prior
from benchmarks.growth import growth
from benchmarks.measure import Effort, Group, Settings, precisions, ways
from benchmarks.models import NETWORKS
from benchmarks.training import training
from thermoebm.runtime.allocator import keep_freed_memory
from thermoebm.runtime.terminal import quieten

SECTIONS: dict[str, Callable[[Settings], Iterator[Group]]] = {
    "prior": prior,
    "posterior": posterior,
    "training": training,
    "growth": growth,
}


# So many versions of a function, and no running uncompiled beyond; torch 2.6 has other names.
LIMITS = (
    {"recompile_limit": 64, "fail_on_recompile_limit_hit": True}
    if hasattr(torch._dynamo.config, "recompile_limit")
    else {"cache_size_limit": 64, "fail_on_cache_limit_hit": True}
)
# Networks that a section measures on a CPU by default: a training step of a larger one takes up to minutes.
ON_CPU = {"training": ("digits",)}


def chosen(text: str, offered: Sequence[str], name: str) -> tuple[str, ...]:
    """The options that a comma-separated argument names, in the order in which they are offered.

    Raises:
        SystemExit: If it names an unknown option.
    """
    asked = [part.strip() for part in text.split(",")]
    if unknown := [part for part in asked if part not in offered]:
        raise SystemExit(f"--{name} does not know {', '.join(unknown)}; choose from {', '.join(offered)}.")
    return tuple(part for part in offered if part in asked)


def settings_of(arguments: argparse.Namespace) -> Settings:
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    quick = arguments.quick
    every = {"ways": ways(device), "precisions": precisions(device), "networks": tuple(NETWORKS)}
    default = {
        # Compiling takes seconds even at toy sizes: the program is the same.
        "ways": ("eager",) if quick else every["ways"],
        "precisions": every["precisions"],
        "networks": ("digits",) if quick else every["networks"],
    }
    asked = {name: getattr(arguments, name) for name in every}
    picked = {name: chosen(text, every[name], name) if text else default[name] for name, text in asked.items()}
    if "float32" not in picked["precisions"]:  # what the others are compared with
        picked["precisions"] = ("float32", *picked["precisions"])
    effort = Effort(0.0, 3, 3) if quick else Effort(arguments.seconds)
    return Settings(device, effort, quick, **picked)


def main(argv: Sequence[str] | None = None) -> int:
    keep_freed_memory()  # as training does
    quieten()
    parser = argparse.ArgumentParser("benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--networks", help=f"of {', '.join(NETWORKS)} (default: all; training on a CPU: digits)")
    parser.add_argument("--ways", help="of eager, compiled and, on CUDA, recorded and graph")
    parser.add_argument("--precisions", help="of float32, bfloat16 and, on CUDA, tf32")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each table (default 20); at least 3 rounds")
    parser.add_argument("--device", help="default: cuda where there is one")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that the program works")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks.json"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    sections = chosen(arguments.only, list(SECTIONS), "only")
    settings = settings_of(arguments)
    facts = report.environment(settings.device)
    print(", ".join(f"{name} {value}" for name, value in facts.items()), end="\n\n")
    groups: list[Group] = []
    status = 0
    for section in sections:
        fewer = section in ON_CPU and settings.device.type == "cpu" and not arguments.networks
        # Past the limit, compiled contestants would run uncompiled.
        with torch._dynamo.config.patch(LIMITS):
            for group in SECTIONS[section](replace(settings, networks=ON_CPU[section]) if fewer else settings):
                print(report.markdown(group), flush=True)
                groups.append(group)
                report.write(arguments.json, facts, groups)  # keeps the results if a later section fails
    rows = [(group.title, row) for group in groups for row in group.rows]
    for sentence, titles in {
        "Disagrees with the peer": [title for title, row in rows if not row.get("agrees", True)],
        "Could not be run": [f"{title} ({row['error']})" for title, row in rows if "error" in row],
    }.items():
        if titles:
            print(f"{sentence}: {'; '.join(dict.fromkeys(titles))}.", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
