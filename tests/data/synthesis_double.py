"""A stand-in for the synthesis: random hands at once, the same for a seed, and the accidents that tests ask for.

The environment says which: DOUBLE_SHORT (a family that gives a third of what it is asked for), DOUBLE_FAILS (an object
that raises), DOUBLE_KILLS (a folder: the first attempt at every object of DOUBLE_KILLED dies by SIGKILL and leaves its
name there), DOUBLE_SLEEP (seconds per object).
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.data.labelled_grasps import KINDS, GraspedObject, LabelledGrasps
from grasp_nodes.hand.files import load_hand_arrays
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.registry import ObjectName

SYNTHESIS_VERSION = 1


def synthesize_grasps(name: ObjectName, count: int, seed: int) -> LabelledGrasps:
    """Random hands in float16's values."""
    _accidents(str(name))
    if os.environ.get("DOUBLE_SHORT") == name.family:
        count = count // 3
    rng = np.random.default_rng(seed)

    def half(*shape: int, scale: float = 0.1) -> torch.Tensor:
        return torch.from_numpy(rng.normal(0.0, scale, (count, *shape)).astype(np.float16).astype(np.float32))

    transform = np.eye(4)
    transform[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    hand = load_hand_arrays("right")
    return LabelledGrasps(
        source="double",
        hands=HandParams(half(3), half(45), half(10, scale=1.0), half(3), torch.ones(count)),
        hand_model_id=hand.model_id,
        hand_fingerprint=hand.fingerprint,
        objects=[GraspedObject(str(name), f"family:{name}", transform=transform, category=name.family, split="train")],
        object_index=np.zeros(count, np.int64),
        kind=np.sort(rng.integers(0, len(KINDS), count)),
        subject=np.full(count, ""),
        sequence=np.full(count, ""),
        frame=np.zeros(count, np.int64),
        metrics={
            "depth": rng.uniform(0, 0.003, count).astype(np.float16),
            "fingers": rng.integers(3, 6, count).astype(np.float16),
        },
        attributes={"tried": str(2 * count)},
    )


def _accidents(name: str) -> None:
    time.sleep(float(os.environ.get("DOUBLE_SLEEP", "0")))
    if os.environ.get("DOUBLE_FAILS") == name:
        raise ArithmeticError(f"no grasp of {name}, as ordered")
    folder, killed = os.environ.get("DOUBLE_KILLS"), os.environ.get("DOUBLE_KILLED", "").split()
    if folder and name in killed:
        mark = Path(folder, name.replace(":", "-"))
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def threads() -> bytes:
    """What a worker process computes with, as JSON."""
    import numba

    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    content = {"torch": torch.get_num_threads(), "numba": numba.get_num_threads(), "interrupts": not blocked}
    return json.dumps(content).encode()
