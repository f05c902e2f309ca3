"""Follows the pose of a known object from frame to frame, and finds it again when it is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from grasp_nodes.fitting.object_hypotheses import PoseHypotheses
from grasp_nodes.fitting.object_initialise import (
    DEPTH_AGREEMENT_SCALE,
    initialise_object_pose,
    solver_weights,
)
from grasp_nodes.fitting.object_observation import ObjectObservation, check_images, observe_object
from grasp_nodes.fitting.pose_residuals import SolverMesh
from grasp_nodes.fitting.pose_solver import (
    PosePrior,
    PoseProblem,
    carry_covariance,
    rotation_matrix,
    rotation_vector,
    weak_axis_information,
)
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.mesh import mesh_edges
from grasp_nodes.objects.model import ObjectModel

LOST_OVERLAP = 0.5
"""Below this intersection over union the pose is searched anew."""
LOST_SHARE = 0.7
"""The same below this share of the score that is usual."""
_LARGEST_MESH = 6000
_TRACKING_STAGES = ((8.0, 0.03, 6), (2.5, 0.012, 8))
"""Per level: outline scale in window pixels, depth scale in m, evaluations."""
_SEARCH_MARGIN = 0.03
_WINNING_MARGIN = 0.005
_PRIOR_TRANSLATION = 0.03
"""m; how far an object is expected to move between frames."""
_PRIOR_ROTATION = 0.1
"""rad; how far it is expected to turn."""
_VELOCITY_SHARE = 0.7


@dataclass(frozen=True)
class ObjectPoseEstimate:
    """The pose of an object in one frame.

    T_camera_object: (4, 4) float64, object frame to camera frame, m.
    covariance: (6, 6) float64, m^2 and rad^2 (x, y, z, rotation about x, y, z), camera axes, of the object's origin.
    iou: of silhouette and mask, where nothing hides the object. depth_rms: m, root mean square distance of the depth
    points to the surface, outliers left out; NaN without depth. score in [0, 1]: overlap times agreement with depth.
    is_initial: found by search in this frame, not followed. is_held: nothing was seen, this is the last pose.
    rotation_ambiguity: rad, how far rotations that explained the first image equally well lie apart.
    """

    T_camera_object: np.ndarray
    covariance: np.ndarray
    iou: float
    depth_rms: float
    score: float
    is_initial: bool = False
    is_held: bool = False
    rotation_ambiguity: float = 0.0


def make_solver_mesh(object_model: ObjectModel) -> SolverMesh:
    """The object as the pose solver reads it; meshes of many faces are simplified for the outline."""
    vertices, faces = object_model.vertices.astype(np.float64), object_model.faces
    centre = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))
    if len(faces) > _LARGEST_MESH:
        vertices, faces = _simplify(vertices, faces)
    edges = mesh_edges(faces)
    grid = object_model.signed_distance
    return SolverMesh(
        np.ascontiguousarray(vertices),
        np.ascontiguousarray(faces, np.int64),
        np.ascontiguousarray(edges.vertices, np.int64),
        np.ascontiguousarray(edges.faces, np.int64),
        centre,
        np.ascontiguousarray(grid.values.detach().cpu().numpy(), np.float32),
        grid.origin.detach().cpu().numpy().astype(np.float64),
        float(grid.spacing),
    )


def _simplify(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import open3d

    mesh = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(vertices), open3d.utility.Vector3iVector(faces.astype(np.int32))
    )
    mesh = mesh.simplify_quadric_decimation(_LARGEST_MESH // 2)
    return np.asarray(mesh.vertices).copy(), np.asarray(mesh.triangles).astype(np.int64)


class ObjectPoseFitter:
    """Pose of one object over the frames of one camera.

    Args:
        object_model: the object. seed: of everything random.
    """

    def __init__(self, object_model: ObjectModel, seed: int = 0) -> None:
        self.object_model = object_model
        self._mesh = make_solver_mesh(object_model)
        self._reach = float(np.linalg.norm(np.ptp(self._mesh.vertices, axis=0)))
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Forget the object's pose."""
        self._pose: tuple[np.ndarray, np.ndarray] | None = None
        self._previous: tuple[np.ndarray, np.ndarray] | None = None
        self._last: ObjectPoseEstimate | None = None
        self._hypotheses = PoseHypotheses(self._mesh, self._seed)
        self._usual_score = 0.0

    def update(
        self,
        camera: CameraModel,
        mask: np.ndarray | None,
        depth: np.ndarray | None = None,
        occluder: np.ndarray | None = None,
        start: np.ndarray | None = None,
    ) -> ObjectPoseEstimate | None:
        """The pose in the next frame.

        Args:
            camera: that took the images.
            mask: (H, W) bool, visible pixels of the object; None or empty where it was not seen.
            depth: (H, W) float32, m, 0 or NaN = no measurement; None = colour camera.
            occluder: (H, W) bool, pixels that may hide the object (a hand), or None.
            start: (4, 4), object to camera, m; a pose that is likely, from elsewhere.

        Returns:
            The estimate; the last one, marked as held, where the object was not seen; None before it was ever seen.

        Raises:
            InputError: an image has not the camera's size.
        """
        if mask is None:
            return self._hold()
        check_images(camera, mask, depth, occluder)
        fine = observe_object(camera, mask, depth, occluder, reach=self._reach, seed=self._seed)
        if fine is None:
            return self._hold()
        coarse = observe_object(
            camera,
            mask,
            depth,
            occluder,
            reach=self._reach,
            seed=self._seed,
            window=72,
            contour_points=80,
            depth_points=150,
        )
        if coarse is None:
            return self._hold()
        likely = None if start is None else (start[:3, :3], start[:3, :3] @ self._mesh.centre + start[:3, 3])
        estimate = None
        if self._pose is not None:
            estimate = self._follow(fine, likely)
        elif likely is not None:
            estimate = self._restart(*likely, fine, 0.0)
        if estimate is None or estimate.iou < LOST_OVERLAP or estimate.score < LOST_SHARE * self._usual_score:
            estimate = self._search(coarse, fine, estimate)
        else:
            estimate = self._challenge(coarse, fine, estimate)
        if estimate is None:
            return self._hold()
        self._usual_score = estimate.score if estimate.is_initial else 0.9 * self._usual_score + 0.1 * estimate.score
        self._last = estimate
        return estimate

    def _hold(self) -> ObjectPoseEstimate | None:
        self._previous = self._pose
        return None if self._last is None else replace(self._last, score=0.0, is_held=True, is_initial=False)

    def _follow(
        self, observation: ObjectObservation, likely: tuple[np.ndarray, np.ndarray] | None
    ) -> ObjectPoseEstimate:
        """Start from the best of the last pose, the one that the last motion leads to, and what is likely otherwise."""
        assert self._pose is not None
        rotation, centre = self._pose
        starts = [self._pose]
        if self._previous is not None:
            turn = rotation_matrix(_VELOCITY_SHARE * rotation_vector(rotation @ self._previous[0].T))
            starts.append((turn @ rotation, centre + _VELOCITY_SHARE * (centre - self._previous[1])))
        if likely is not None:
            starts.append(likely)
        problem = PoseProblem(self._mesh, observation.image)
        weights = [
            solver_weights(observation, contour_scale, depth_scale)
            for contour_scale, depth_scale, _ in _TRACKING_STAGES
        ]
        evaluated = [problem.evaluate(*start, weights[0]) for start in starts]
        best = int(np.argmin([cost for cost, _, _ in evaluated]))
        prior = PosePrior(
            rotation, centre, weak_axis_information(evaluated[best][1], _PRIOR_ROTATION, _PRIOR_TRANSLATION)
        )
        rotation, centre = starts[best]
        for level, (_, _, iterations) in enumerate(_TRACKING_STAGES):
            rotation, centre, _, normal = problem.refine(rotation, centre, weights[level], iterations, 1e-5, prior)
        ambiguity = self._last.rotation_ambiguity if self._last is not None else 0.0
        return self._accept(rotation, centre, normal - prior.information, problem, ambiguity, is_initial=False)

    def _search(
        self, coarse: ObjectObservation, fine: ObjectObservation, followed: ObjectPoseEstimate | None
    ) -> ObjectPoseEstimate | None:
        """All rotations; what was followed stays unless something clearly better is found."""
        known = self._pose
        extra = None if known is None else (known[0][None], known[1][None])
        found = initialise_object_pose(self._mesh, coarse, fine, self._seed, extra=extra)
        if followed is not None and found.score <= followed.score + _SEARCH_MARGIN:
            return followed
        self._hypotheses.restart(found.other_rotations, found.other_centres)
        return self._restart(found.rotation, found.centre, fine, found.rotation_ambiguity) or followed

    def _challenge(
        self, coarse: ObjectObservation, fine: ObjectObservation, followed: ObjectPoseEstimate
    ) -> ObjectPoseEstimate:
        """Give the poses that were as good at first, and random ones, a chance."""
        assert self._pose is not None
        winner = self._hypotheses.update(*self._pose, coarse)
        if winner is None:
            return followed
        before = (self._pose, self._previous)
        better = self._restart(*winner, fine, followed.rotation_ambiguity)
        if better is not None and better.score > followed.score + _WINNING_MARGIN:
            return better
        self._pose, self._previous = before
        return followed

    def _restart(
        self, rotation: np.ndarray, centre: np.ndarray, fine: ObjectObservation, ambiguity: float
    ) -> ObjectPoseEstimate | None:
        """Refine a pose that has no past."""
        problem = PoseProblem(self._mesh, fine.image)
        weights = solver_weights(fine, *_TRACKING_STAGES[-1][:2])
        rotation, centre, cost, normal = problem.refine(rotation, centre, weights, 12, 1e-5)
        if not np.isfinite(cost):
            return None
        self._pose = None
        return self._accept(rotation, centre, normal, problem, ambiguity, is_initial=True)

    def _accept(
        self,
        rotation: np.ndarray,
        centre: np.ndarray,
        normal: np.ndarray,
        problem: PoseProblem,
        ambiguity: float,
        *,
        is_initial: bool,
    ) -> ObjectPoseEstimate:
        # Rounding of many small turns would slowly leave the rotation group.
        left, _, right = np.linalg.svd(rotation)
        rotation = left @ right
        overlap, agreement, rms = problem.explain(rotation, centre, DEPTH_AGREEMENT_SCALE)
        self._previous, self._pose = self._pose, (rotation, centre)
        pose = np.eye(4)
        pose[:3, :3] = rotation
        lever = rotation @ self._mesh.centre
        pose[:3, 3] = centre - lever
        return ObjectPoseEstimate(
            T_camera_object=pose,
            covariance=_covariance_of_origin(normal, lever),
            iou=float(overlap),
            depth_rms=float(rms),
            score=float(overlap * agreement),
            is_initial=is_initial,
            rotation_ambiguity=ambiguity,
        )


def _covariance_of_origin(normal: np.ndarray, lever: np.ndarray) -> np.ndarray:
    # Directions that nothing was seen of get a standard deviation of 1 m and pi instead of infinity.
    return carry_covariance(np.linalg.inv(normal + np.diag([1.0, 1.0, 1.0, 0.1, 0.1, 0.1])), lever)
