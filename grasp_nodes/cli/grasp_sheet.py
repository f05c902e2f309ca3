"""``grasp-nodes render GRASPS.npz``: random grasps of a file, each from three sides, contact in red."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.cli.grasp_file_methods import check_hand
from grasp_nodes.data.grasp_files import FORMAT, check_meshes, read_grasps
from grasp_nodes.data.labelled_grasps import KINDS, UNLABELLED
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.npz import read_npz
from grasp_nodes.objects.loading import load_mesh
from grasp_nodes.viewer.pictures import write_grasp_sheet

COLUMNS = 5


def holds_grasps(path: Path) -> bool:
    """Whether an .npz is a set of grasps, not the parameters of some hands."""
    return path.suffix.lower() == ".npz" and path.is_file() and str(read_npz(path).get("format")) == FORMAT


@dataclass(frozen=True)
class ChosenGrasps:
    """hands: float32. model: of their side. meshes: of their objects, vertices, m, and outward faces. captions: B."""

    hands: HandParams
    model: HandModel
    meshes: list[tuple[np.ndarray, np.ndarray]]
    captions: list[str]


def draw_grasps(path: Path, output: Path, count: int, seed: int, size: int) -> None:
    """Write a sheet of grasps chosen at random, in no order.

    Args:
        path: of the set. output: the PNG. count: grasps, at most. seed: of the choice. size: px, edge of a view.

    Raises:
        InputError: as `choose_grasps`.
    """
    chosen = choose_grasps(path, count, seed)
    write_grasp_sheet(output, chosen.hands, chosen.model, chosen.meshes, chosen.captions, COLUMNS, size)


def choose_grasps(path: Path, count: int, seed: int) -> ChosenGrasps:
    """Grasps chosen at random, with their objects.

    Raises:
        InputError: the file is damaged, of another hand model or other procedural objects, or its objects have no
            meshes.
    """
    grasps = read_grasps(path)
    model = load_hand_model(grasps.hands.side)
    check_hand(str(path), grasps, model)
    chosen = grasps[np.random.default_rng(seed).permutation(len(grasps))[:count]]
    check_meshes(path, (chosen.objects[int(number)] for number in np.unique(chosen.object_index)))
    meshes, captions = [], []
    for number, kind in zip(chosen.object_index, chosen.kind, strict=True):
        item = chosen.objects[int(number)]
        if not item.mesh:
            raise InputError(f"{path}: names no mesh of {item.name}, so that it cannot be drawn")
        vertices, faces, _ = load_mesh(item.mesh)
        turn, shift = item.transform[:3, :3], item.transform[:3, 3]
        meshes.append((item.scale * vertices @ turn.T + shift, faces if np.linalg.det(turn) > 0 else faces[:, ::-1]))
        captions.append(item.name if kind == UNLABELLED else f"{item.name} {KINDS[int(kind)]}")
    return ChosenGrasps(chosen.hands.to(torch.float32), model, meshes, captions)
