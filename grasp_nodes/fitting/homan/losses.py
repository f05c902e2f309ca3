"""The eight error terms of HOMan (Hasson et al., 3DV 2021, section 3.3, equation 6) as functions of posed geometry.

T frames of one clip come first in every argument; each function returns a scalar. A term is a mean over the frames, so
that its weight means the same for a clip of ten frames and of a hundred; a frame that a term leaves out counts as zero,
so that what is said about one frame does not depend on the others. Terms of pairs (hand and object) are given for one
pair: the caller adds them up over `overlapping_pairs`. The silhouette term, equation 3, is
:class:`grasp_nodes.geometry.silhouette_gradient.SilhouetteLoss`.

`WEIGHTS` are those of the paper's supplementary section C.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.pads import PALM, contact_patches

WEIGHTS = MappingProxyType(
    {
        "obj": 1.0,
        "v2d": 50.0,
        "pca": 0.004,
        "scale": 0.001,
        "smooth": 2000.0,
        "centroid": 1.0,
        "local": 1.0,
        "col": 0.001,
    }
)
"""Weight of each term in equation 6, by its name."""
ATTRACTION_REACH = 0.01
"""m; attraction saturates here (supplementary section C)."""
REPULSION_REACH = 0.02
"""m; repulsion saturates here."""


def projected_vertex_loss(
    pixels: Tensor, initial_pixels: Tensor, image_size: float, frame_weights: Tensor | None = None
) -> Tensor:
    """`v2d`, equation 4: how far the projected hand vertices left the places where the hand network saw them.

    Mean over frames and vertices of the squared distance in shares of the image's longer side.

    Args:
        pixels: (T, V, 2), px, projected vertices. initial_pixels: (T, V, 2), px.
        image_size: px, the image's longer side.
        frame_weights: (T,), 0 for frames without evidence of the hand; None = all 1.
    """
    squared = ((pixels - initial_pixels) / image_size).square().sum(dim=-1).mean(dim=-1)
    return _mean_over_frames(squared, frame_weights)


def pca_loss(coefficients: Tensor) -> Tensor:
    """`pca`: mean square of the hand's pose coefficients, which pulls to the mean pose.

    Args:
        coefficients: (T, P), of principal components of unit variance.
    """
    return coefficients.square().mean()


def scale_loss(scales: Tensor, expected: Tensor | float = 1.0) -> Tensor:
    """`scale`: mean squared relative deviation of free scales from what is usual for their category.

    Args:
        scales: (n,), one per hand or object whose scale is free. expected: (n,) or one number.
    """
    return (scales / expected - 1).square().mean()


def smoothness_loss(vertices: Tensor, gaps: Tensor | None = None) -> Tensor:
    """`smooth`: squared movement of vertices from frame to frame, m^2; mean over vertices and pairs of frames.

    The paper sums over the frames; a sum would make the other terms weaker in longer clips.

    Args:
        vertices: (T, V, 3), m, camera frame, of one hand or one object.
        gaps: (T - 1,), frames between neighbours, 1 where none is missing: a movement over n frames of constant
            velocity counts as n of one frame each; None = all 1.
    """
    if len(vertices) < 2:
        return vertices.new_zeros(())
    squared = (vertices[1:] - vertices[:-1]).square().sum(dim=-1).mean(dim=-1)
    return (squared if gaps is None else squared / gaps.to(squared)).mean()


def centroid_loss(
    hand_centroids: Tensor, object_centroids: Tensor, overlap: Tensor, object_moves: bool = False
) -> Tensor:
    """`centroid`: squared distance of the centroids of one hand and one object, m^2, in frames where boxes overlap.

    Moves the rigid hand alone: give it centroids from :func:`rigid_centroids`, which leave out finger pose and scale.

    Args:
        hand_centroids: (T, 3), m, camera frame. object_centroids: (T, 3), m.
        overlap: (T,) bool, from :func:`overlapping_pairs`.
        object_moves: gradient to the object as well, as where its scale is free.
    """
    if not object_moves:
        object_centroids = object_centroids.detach()
    squared = (hand_centroids - object_centroids).square().sum(dim=-1)
    return _mean_over_frames(squared, overlap)


def rigid_centroids(vertices: Tensor, rotation: Tensor, translation: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Centroids of posed vertices ``scale * R v + D``, differentiable in rotation and translation only.

    Args:
        vertices: (T, V, 3) or (V, 3), m, before the rigid motion. rotation: (T, 3, 3). translation: (T, 3), m.
        scale: () or (T,) or a number.

    Returns:
        (T, 3), m.
    """
    centre = vertices.detach().mean(dim=-2).expand(len(rotation), 3)
    if isinstance(scale, Tensor):
        scale = scale.detach().expand(len(rotation))[:, None]
    return scale * (rotation @ centre[..., None])[..., 0] + translation


def overlapping_pairs(hand_boxes: Tensor, object_boxes: Tensor) -> Tensor:
    """Which hands and objects are close enough in the image to interact: their boxes overlap.

    Args:
        hand_boxes: (T, n, 4), px: x_min, y_min, x_max, y_max. object_boxes: (T, m, 4), px.

    Returns:
        (T, n, m) bool; False where a box is NaN.
    """
    hands, objects = hand_boxes.detach()[:, :, None], object_boxes.detach()[:, None]
    low = torch.maximum(hands[..., :2], objects[..., :2])
    high = torch.minimum(hands[..., 2:], objects[..., 2:])
    return (low <= high).all(dim=-1)


def pixel_boxes(pixels: Tensor) -> Tensor:
    """Tight boxes (..., 4) of projected vertices (..., V, 2), px, without gradient."""
    pixels = pixels.detach()
    return torch.cat([pixels.amin(dim=-2), pixels.amax(dim=-2)], dim=-1)


def distances_to_object(
    vertices: Tensor,
    field: SignedDistanceGrid,
    rotation: Tensor,
    translation: Tensor,
    scale: Tensor | float = 1.0,
) -> Tensor:
    """Signed distances of vertices to a moving rigid object, negative inside; differentiable in all but the field.

    The object does not deform: one field in its own frame serves all frames and all iterations.

    Args:
        vertices: (T, V, 3), m, camera frame. field: in the object's frame.
        rotation: (T, 3, 3) and translation: (T, 3), m, of the object in the camera. scale: of the object.

    Returns:
        (T, V), m.
    """
    local = (vertices - translation[:, None]) @ rotation
    return field(local / scale) * scale


def collision_loss(distances: Tensor, unit: float = 1.0) -> Tensor:
    """`col`, equation 5, one mesh's vertices in the other: sum over vertices of ``max(0, -SDF)``, mean over frames.

    Args:
        distances: (T, V), m, from :func:`distances_to_object`; the other direction, and two hands, from
            :func:`grasp_nodes.fitting.homan.inside_hand.distances_to_hand`.
        unit: m, the length that counts as one: see :func:`collision_unit`.
    """
    return torch.relu(-distances).sum(dim=-1).mean() / unit


def collision_unit(vertices: Tensor) -> float:
    """Length that the paper's weight of `col` belongs to: 0.6 of the longest side of the mesh's box, m.

    The collision code that HOMan takes over (Jiang et al., CVPR 2020) measures in a cube 1.2 times the mesh's box that
    is scaled to [-1, 1]; in metres the weight 0.001 would do nothing.

    Args:
        vertices: (V, 3), m, of the mesh whose inside is forbidden.
    """
    return 0.6 * float((vertices.detach().amax(dim=0) - vertices.detach().amin(dim=0)).max())


def local_contact_loss(
    distances: Tensor,
    zones: Sequence[Tensor],
    attraction_reach: float = ATTRACTION_REACH,
    repulsion_reach: float = REPULSION_REACH,
) -> Tensor:
    """`local`: what almost touches is drawn to the surface, what is inside is pushed out (Hasson et al., CVPR 2019).

    With ``l_a(x) = a tanh(x / a)``, half the sum of

    - attraction: mean over zones of ``l_1cm`` of the distance of the zone's nearest vertex, where all of the zone is
      outside; a zone that touches already is left alone;
    - repulsion: mean over the hand's vertices of ``l_2cm`` of the depth inside.

    Args:
        distances: (T, V), m, signed, of the hand's vertices. zones: vertex ids of each zone, of :func:`contact_zones`.
        attraction_reach, repulsion_reach: m.

    Returns:
        m; mean over frames.
    """
    attraction, repulsion = local_contact_parts(distances, zones, attraction_reach, repulsion_reach)
    return (attraction + repulsion).mean()


def local_contact_parts(
    distances: Tensor,
    zones: Sequence[Tensor],
    attraction_reach: float = ATTRACTION_REACH,
    repulsion_reach: float = REPULSION_REACH,
) -> tuple[Tensor, Tensor]:
    """The two halves of :func:`local_contact_loss`, attraction and repulsion, (T,) each, m.

    Raises:
        InputError: no zones.
    """
    if not len(zones):
        raise InputError("zones: expected at least one zone of the hand that touches objects, got none")
    nearest = torch.stack([distances[:, zone].amin(dim=-1) for zone in zones], dim=-1)
    attraction = attraction_reach * torch.tanh(torch.relu(nearest) / attraction_reach)
    repulsion = repulsion_reach * torch.tanh(torch.relu(-distances) / repulsion_reach)
    return 0.5 * attraction.mean(dim=-1), 0.5 * repulsion.mean(dim=-1)


def contact_zones(model: HandModel) -> list[Tensor]:
    """The six zones that touch objects (Hasson et al. 2019, figure 4): five fingertips and the palm.

    Args:
        model: of either side.

    Returns:
        Vertex ids of each zone, int64.
    """
    patches = contact_patches(model)
    return [torch.from_numpy(ids) for name, ids in patches.items() if name == PALM or name.endswith("_pad")]


def _mean_over_frames(values: Tensor, weights: Tensor | None) -> Tensor:
    return (values if weights is None else values * weights.to(values)).mean()
