"""The graph under faults and over time: killed nodes, storms, a slow subscriber, a full disk, jumping clocks, a soak.

``GRASP_NODES_SOAK_MINUTES=30`` makes the soak that long (1); ``GRASP_NODES_FAULTS=soak,storm`` runs only some. There is
no baseline: every fault asserts what must hold, and a row says what was seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks._graph_faults import FAULTS
from benchmarks._graph_processes import isolated
from benchmarks.report import Row

UNITS = {"mb": "MB", "hz": "Hz", "s": "s", "seconds": "s"}


def rows() -> list[Row]:
    """What every fault returns, each row named after its fault.

    Raises:
        RuntimeError: something that must hold did not.
    """
    wanted = os.environ.get("GRASP_NODES_FAULTS", "")
    names = [fault.__name__ for fault in FAULTS if not wanted or fault.__name__ in wanted.split(",")]
    answer = []
    for name in names:
        command = [sys.executable, "-m", "benchmarks._graph_faults", name]
        done = subprocess.run(command, env=isolated(), stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: did not hold (exit code {done.returncode}, above)")
        values = json.loads(done.stdout.strip().splitlines()[-1])
        answer += [Row(f"{name}_{key}", float(value), _unit(key)) for key, value in values.items()]
    return answer


def _unit(key: str) -> str:
    last = key.rsplit("_", 1)[-1]
    return "messages" if key.endswith("in_3_s") else UNITS.get(last, "messages" if last != "mb" else "MB")
