"""Two checkouts against each other: how fast a burst of jobs goes, and what many jobs cost.

    .venv/bin/python benchmarks/against.py BEFORE AFTER [--rounds 3] [--only burst scale]
        [--jobs 64] [--finished 20000] [--pending 2000]

BEFORE and AFTER are clones of this project, each at the commit that is meant; the Python that runs this runs both.
What each has in `benchmarks/burst.py` and `benchmarks/scale.py` is measured in turns (before, after, before, after
...), each time in a process of its own on a fresh home, so that what else the machine does meets both alike. For each
figure the medians are printed, and the ratio after / before: less is better. On a busy machine only CPU seconds
and memory say much; the rounds are printed as they come, and a ratio is worth believing when they do not overlap.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

BURST = """
import burst, json, sys
found = burst.burst(int(sys.argv[1]), size=256, batch_size=None)
print(json.dumps({"burst, s": found.seconds, "burst, CPU s per job": found.cpu_per_job}))
"""
SCALE = """
import json, multiprocessing, resource, scale, sys
from concurrent.futures import ProcessPoolExecutor

def cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

look = getattr(scale, "read_and_tick", None) or scale.look  # its name up to version 0.1.0
found, seconds = {}, []
with scale.fresh_home(postgres=False):
    for work, given in ((scale.fill, [int(sys.argv[1])]), (scale.submit, [int(sys.argv[2])]), (look, [])):
        before = cpu()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found |= pool.submit(work, *given).result()
        seconds.append(cpu() - before)
figures = {label: found[name] * factor for label, name, factor in scale.ROWS}
print(json.dumps({"all of submitting, CPU s": seconds[1], "all of looking, CPU s": seconds[2]} | figures))
"""
"""Run in a checkout; they print figures as JSON in their last line, exactly and not as the tables round them."""


def measure(checkout: Path, program: str, given: Sequence[int]) -> dict[str, float]:
    """The figures of one program, run on a checkout's own code.

    Raises:
        SystemExit: it failed, or the code was not the checkout's.
    """
    check = "import jobs, sys; print(jobs.__file__, file=sys.stderr)\n"
    command = [sys.executable, "-c", check + program, *map(str, given)]
    others = {name: value for name, value in os.environ.items() if not name.startswith(("FC_", "DAGSTER_"))}
    path = os.pathsep.join((str(checkout), str(checkout / "benchmarks")))
    done = subprocess.run(
        command, cwd=checkout, env=others | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{checkout}: the benchmark failed:\n{done.stdout}{done.stderr}")
    used = Path(done.stderr.splitlines()[0]).parent.parent
    if used != checkout:
        raise SystemExit(f"{checkout}: its benchmark ran on the code of {used}; is this a folder of the project?")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(found: dict[str, tuple[list[float], list[float]]]) -> list[str]:
    """Medians and ratios, as lines of Markdown."""
    lines = ["| figure | before | after | after / before |", "|---|---|---|---|"]
    for name, (before, after) in found.items():
        old, new = median(before), median(after)
        ratio = f"{new / old:.3f}" if old else "-"
        lines.append(f"| {name} | {old:.3g} | {new:.3g} | {ratio} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["burst", "scale"], nargs="+", default=["burst", "scale"])
    parser.add_argument("--jobs", type=int, default=64, help="jobs of the burst")
    parser.add_argument("--finished", type=int, default=20_000, help="finished jobs in the database of scale")
    parser.add_argument("--pending", type=int, default=2000, help="jobs that scale submits")
    given = parser.parse_args()
    programs = {"burst": (BURST, (given.jobs,)), "scale": (SCALE, (given.finished, given.pending))}
    found: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for number in range(given.rounds):
        for name in given.only:
            for place, checkout in enumerate((given.before.resolve(), given.after.resolve())):
                figures = measure(checkout, *programs[name])
                print(
                    f"round {number + 1}, {('before', 'after')[place]}: "
                    + "; ".join(f"{label} {value:.4g}" for label, value in figures.items()),
                    flush=True,
                )
                for label, value in figures.items():
                    found[label][place].append(value)
    print(f"{given.rounds} rounds, load {os.getloadavg()[0]:.1f} at the end, {os.cpu_count()} cores")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
