"""Which recorded hands touch their object: data sets of motion also hold the frames before and after a grasp.

A hand is in contact when a vertex of it is nearer to the object's surface than a threshold. The distance has no sign,
because scans have holes and seams that make inside and outside a guess; a hand that goes through a surface has vertices
near it anyway, they are about 7 mm apart. Sets that record contact themselves (GRAB) do not need this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.hand.model import HandModel
from grasp_nodes.objects.loading import load_mesh

CONTACT_THRESHOLD = 0.005
"""m, at which JHOD measures the contact area."""
_BATCH = 256

Mesh = tuple[np.ndarray, np.ndarray]
"""vertices (V, 3), m, and faces (F, 3)."""


def object_mesh(one: GraspedObject) -> Mesh:
    """The mesh of an object in the frame of its grasps.

    Raises:
        MissingFileError, InputError: it has no mesh, or one that cannot be read.
    """
    if not one.mesh:
        raise InputError(f"object {one.name}: the data set has no mesh of it")
    vertices, faces, _ = load_mesh(one.mesh)
    turned = vertices * one.scale @ one.transform[:3, :3].T + one.transform[:3, 3]
    if np.linalg.det(one.transform[:3, :3]) < 0:
        faces = faces[:, ::-1]  # a reflection turns surfaces inside out
    return turned, faces


def hand_distances(grasps: LabelledGrasps, model: HandModel, meshes: Sequence[Mesh] | None = None) -> np.ndarray:
    """Distance of each grasp's nearest hand vertex to the surface of its object.

    Args:
        grasps: N grasps of the model's side.
        model: of these hands.
        meshes: of `grasps.objects`, in their grasps' frames; None = their files.

    Returns:
        (N,), m, without sign.

    Raises:
        InputError: the grasps are of another hand model, or not one mesh per object was given or found.
    """
    if grasps.hand_fingerprint and grasps.hand_fingerprint != model.fingerprint:
        raise InputError(
            f"{grasps.source}: its hands are of another hand model ({grasps.hand_model_id}) than the one given "
            f"({model.model_id}); their shapes and wrists differ"
        )
    if meshes is not None and len(meshes) != len(grasps.objects):
        raise InputError(f"meshes: expected one per object ({len(grasps.objects)}), got {len(meshes)}")
    distances = np.full(len(grasps), np.inf)
    for number in np.unique(grasps.object_index):
        distance = MeshDistance(*(object_mesh(grasps.objects[number]) if meshes is None else meshes[number]))
        rows = np.flatnonzero(grasps.object_index == number)
        for begin in range(0, len(rows), _BATCH):
            some = rows[begin : begin + _BATCH]
            hands = grasps[some].hands.to(dtype=model.dtype, device=model.device)
            vertices = model(hands).vertices.detach().cpu().numpy().astype(np.float64)
            nearest, _, _ = distance.unsigned(vertices.reshape(-1, 3))
            distances[some] = nearest.reshape(len(some), -1).min(1)
    return distances


def touching(
    grasps: LabelledGrasps,
    model: HandModel,
    meshes: Sequence[Mesh] | None = None,
    threshold: float = CONTACT_THRESHOLD,
) -> LabelledGrasps:
    """The grasps in which a hand vertex is nearer than `threshold` (m) to the object.

    How many were left out is added to the attributes as ``without_contact``.
    """
    near = hand_distances(grasps, model, meshes) < threshold
    kept = grasps[near]
    return replace(kept, attributes={**grasps.attributes, "without_contact": str(int((~near).sum()))})
