"""The demo as a user runs it: rate, latency and accuracy of the rendered clip, and of recorded samples where they are.

Every row is one key of the report that ``grasp-nodes demo`` prints last. There is no baseline: the accuracy is against
the clip's exact truth. The samples are looked for in the folder named by ``GRASP_NODES_SAMPLES``.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Row

THREADS = 2
UNITS = {
    "frames_in": "frames",
    "frames_out": "frames",
    "found_share": "share",
    "fps": "Hz",
    "latency_p50_ms": "ms",
    "hand_mpjpe_mm": "mm",
    "object_add_s_mm": "mm",
    "contact_f1": "share",
}
SAMPLES = {"ball_stereo": "sphere:0.117", "hand_video.mp4": ""}


def report_of(*arguments: str) -> dict[str, float]:
    """Last line of one run of the demo, in a DDS domain of its own so that nothing else on the machine joins in."""
    environment = os.environ | {"ROS_DOMAIN_ID": str(random.randrange(100, 220))}
    run = subprocess.run(
        [sys.executable, "-m", "grasp_nodes", "demo", "viewer:=false", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.strip().splitlines()[-1])


def rows() -> list[Row]:
    """The rendered clip and the samples."""
    runs = {"default": report_of()}
    folder = Path(os.environ.get("GRASP_NODES_SAMPLES", Path(__file__).parent.parent.parent / "shared" / "samples"))
    for name, shape in SAMPLES.items():
        if (folder / name).exists():
            runs[Path(name).stem] = report_of(f"source:={folder / name}", f"object:={shape}")
    return [
        Row(f"{source}_{key}", float(report[key]), unit)
        for source, report in runs.items()
        for key, unit in UNITS.items()
        if key in report
    ]
