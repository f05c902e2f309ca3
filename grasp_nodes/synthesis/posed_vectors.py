"""Hands as vectors, posed: what the losses and the networks see of them, on whatever device the vectors are."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel


class PosedVectors:
    """Vertices of the vectors of one coder; differentiable.

    coder: on the CPU. faces: (F, 3) int64, closed at the wrist, outward, on the CPU.
    """

    def __init__(self, coder: HandCoder) -> None:
        self.coder = coder
        self.faces = torch.from_numpy(closed_faces(coder.model.faces.cpu().numpy()))
        self._coders: dict[torch.device, HandCoder] = {coder.mean.device: coder}

    def on(self, device: torch.device) -> HandCoder:
        """The coder on a device."""
        if device not in self._coders:
            own = self.coder
            model = HandModel(own.model.arrays, own.model.dtype).to(device)
            self._coders[device] = HandCoder(model, own.layout, own.mean.to(device), own.deviation.to(device))
        return self._coders[device]

    def __call__(self, vectors: Tensor, betas: Tensor | None = None) -> Tensor:
        """Vertices (B, V, 3), m, of vectors (B, D); `betas` as for `HandCoder.decode`.

        In the model's precision, whatever autocast does around it: angles of half precision move fingertips by
        millimetres.
        """
        coder = self.on(vectors.device)
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.to(coder.model.dtype)
            return coder.points(coder.parts_of(vectors, None if betas is None else betas.to(vectors)))


@torch.no_grad()
def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit outward normals (B, V, 3) of meshes (B, V, 3) with common faces (F, 3), weighted by area; no gradient."""
    if vertices.device.type == "cpu":
        summed = torch.zeros_like(vertices)
        _add_normals(vertices.detach().numpy(), faces.numpy(), summed.numpy())
    else:
        corners = vertices[:, faces]
        area = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        summed = torch.zeros_like(vertices)
        for k in range(3):
            summed = summed.index_add(1, faces[:, k], area)
    return torch.nn.functional.normalize(summed, dim=-1)


@njit(cache=True)
def _add_normals(vertices: np.ndarray, faces: np.ndarray, summed: np.ndarray) -> None:
    for row in range(len(vertices)):
        points, sums = vertices[row], summed[row]
        for face in range(len(faces)):
            a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
            ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
            vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
            x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            for corner in (a, b, c):
                sums[corner, 0] += x
                sums[corner, 1] += y
                sums[corner, 2] += z
