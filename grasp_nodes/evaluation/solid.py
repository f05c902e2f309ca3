"""What is measured: one rigid object, closed, and a batch of posed hands of one topology.

Objects are `Solid`, which keeps the distance tree for all hands; hands are ``vertices (B, V, 3)`` in the object's
frame with shared closed faces. A hand with NaN in it is never refused: its measurements are NaN, for the harness to
count.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import check_mesh, is_watertight, sample_surface, signed_volume
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.objects.model import ObjectModel

_SURFACE_POINTS = 4096


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed mesh with outward faces.

    vertices: (V, 3) float64, m. faces: (F, 3) int64. name: what messages call it.

    Raises:
        InputError: no mesh, an open one, or one that is turned inside out.
    """

    vertices: np.ndarray
    faces: np.ndarray
    name: str = "object"

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", np.ascontiguousarray(self.vertices, np.float64))
        object.__setattr__(self, "faces", np.ascontiguousarray(self.faces, np.int64))
        check_mesh(self.vertices, self.faces, self.name)
        if not is_watertight(self.faces):
            raise InputError(
                f"{self.name}: the mesh is not closed, so that it has no inside to measure: repair it with "
                "grasp_nodes.objects.loading.close_mesh"
            )
        if not self.volume > 0:
            raise InputError(
                f"{self.name}: its volume is {1e6 * self.volume:.3g} cm3: expected a positive one; the faces look "
                "inwards or the mesh is flat: repair it with grasp_nodes.objects.loading.close_mesh"
            )

    @classmethod
    def of(cls, model: ObjectModel) -> Solid:
        """The solid of an object."""
        return cls(model.vertices, model.faces, model.object_id)

    @cached_property
    def volume(self) -> float:
        """m^3."""
        return signed_volume(self.vertices, self.faces)

    @cached_property
    def center_of_volume(self) -> np.ndarray:
        """(3,) m: centre of mass of a body of uniform density."""
        centre = self.vertices.mean(axis=0)
        corner = self.vertices[self.faces] - centre
        volumes = np.einsum("ij,ij->i", corner[:, 0], np.cross(corner[:, 1], corner[:, 2]))
        return centre + (volumes[:, None] * corner.sum(axis=1)).sum(axis=0) / (4 * volumes.sum())

    @cached_property
    def distance(self) -> MeshDistance:
        """Exact distances to the surface, with right signs for scans that fold or run through themselves, too."""
        return MeshDistance(self.vertices, self.faces, any_mesh=True)

    @cached_property
    def surface_points(self) -> np.ndarray:
        """(4096, 3) m, uniform over the surface, always the same ones."""
        return sample_surface(self.vertices, self.faces, _SURFACE_POINTS, seed=0)[0]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of vertices (as float32) and faces: the key under which derived data is cached."""
        digest = hashlib.sha256(self.vertices.astype(np.float32).tobytes())
        digest.update(self.faces.tobytes())
        return digest.hexdigest()


def check_hands(hand_vertices: np.ndarray, hand_faces: np.ndarray | None = None) -> np.ndarray:
    """The vertices of a batch of hands, checked.

    Args:
        hand_vertices: (B, V, 3), m, object frame. hand_faces: (F, 3) int, None = not needed.

    Returns:
        (B, V, 3) float64.

    Raises:
        InputError: another shape, or faces that leave the wrist open.
    """
    vertices = np.ascontiguousarray(hand_vertices, np.float64)
    if vertices.ndim != 3 or vertices.shape[2] != 3:
        raise InputError(f"hand vertices: expected shape (B, V, 3), got {vertices.shape}")
    if hand_faces is not None and not _closed(np.ascontiguousarray(hand_faces, np.int64).tobytes()):
        raise InputError(
            f"hand faces: the {len(hand_faces)} faces leave the hand open, so that it has no inside: close the wrist "
            "with grasp_nodes.hand.keypoints.closed_faces"
        )
    return vertices


@lru_cache(maxsize=16)
def _closed(faces: bytes) -> bool:
    return is_watertight(np.frombuffer(faces, np.int64).reshape(-1, 3))


def finite_hands(hand_vertices: np.ndarray) -> np.ndarray:
    """(B,) bool: hands without NaN or infinity."""
    return np.isfinite(hand_vertices).all(axis=(1, 2))
