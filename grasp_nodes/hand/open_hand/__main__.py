"""``python -m grasp_nodes.hand.open_hand -o FILE``: build the open hand's file anew."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np

from grasp_nodes.errors import GraspNodesError
from grasp_nodes.hand.files import mano_entries, save_npz
from grasp_nodes.hand.open_hand.assemble import build_open_hand


def main() -> int:
    """Build and write; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m grasp_nodes.hand.open_hand", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--seed", type=int, default=0, help="of the sampled shapes and poses (the frozen hand: 0)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        hand = build_open_hand(arguments.seed)
    except GraspNodesError as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    licence = {"licence": np.array("CC0-1.0, no rights reserved: https://creativecommons.org/publicdomain/zero/1.0/")}
    save_npz(arguments.output, {**mano_entries(hand, np.float32), **licence})
    logging.getLogger(__name__).info("%s: fingerprint %s", arguments.output, hand.fingerprint)
    return 0


if __name__ == "__main__":
    sys.exit(main())
