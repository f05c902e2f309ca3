"""Distances of triangles from hulls against least squares and sampled directions; contacts against PyBullet's own."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

from grasp_nodes.evaluation.simulation.bullet_contacts import (
    AT,
    DISTANCE,
    MARGIN,
    NORMAL,
    ON_HAND,
    no_contacts,
    update_contacts,
)
from grasp_nodes.evaluation.simulation.bullet_scene import INERTIA_MARGIN, Hulls, box_of, hulls_of, triangles_of
from grasp_nodes.evaluation.simulation.convex_parts import ConvexPart, convex_hull, write_obj
from grasp_nodes.evaluation.simulation.hull_triangle import (
    APART,
    FAR,
    OVERLAP,
    above_faces,
    closest_points,
    heights,
    shallowest_exit,
)

REACH = 0.02


def rounded(seed: int) -> ConvexPart:
    points = np.random.default_rng(seed).normal(size=(200, 3))
    return convex_hull(points / np.linalg.norm(points, axis=1, keepdims=True) * [0.03, 0.02, 0.05])


def near_triangles(seed: int, count: int, outward: tuple[float, float]) -> np.ndarray:
    """(count, 3, 3) around points at a share of the way from the ellipsoid's middle to its surface."""
    rng = np.random.default_rng(seed)
    way = rng.normal(size=(count, 3))
    way *= rng.uniform(*outward, (count, 1)) / np.linalg.norm(way, axis=1, keepdims=True)
    return way[:, None] * [0.03, 0.02, 0.05] + 0.004 * rng.normal(size=(count, 3, 3))


def least_squares_distance(triangle: np.ndarray, hull: np.ndarray) -> float:
    """Between two convex sets of weights of corners."""
    heavy = 1e3
    rows = np.vstack(
        [
            np.hstack([hull.T, -triangle.T]),
            heavy * np.hstack([np.ones(len(hull)), np.zeros(3)]),
            heavy * np.hstack([np.zeros(len(hull)), np.ones(3)]),
        ]
    )
    weights = nnls(rows, np.array([0.0, 0.0, 0.0, heavy, heavy]), maxiter=10_000)[0]
    return float(np.linalg.norm(hull.T @ weights[:-3] - triangle.T @ weights[-3:]))


def nearest(triangle: np.ndarray, hull: np.ndarray, reach: float, pairs: np.ndarray):
    towards, on_hull, on_triangle = np.empty(3), np.empty(3), np.empty(3)
    found, distance = closest_points(triangle, hull, reach, pairs, towards, on_hull, on_triangle, np.empty((6, 4)))
    return found, distance, towards, on_hull, on_triangle


def no_pairs() -> np.ndarray:
    return np.full(4, -1, np.int32)


class TestTriangleAndHull:
    def test_distance_is_that_of_least_squares_and_points_are_on_both(self):
        hull, seen = rounded(0).vertices, {FAR: 0, APART: 0, OVERLAP: 0}
        for triangle in near_triangles(1, 300, (0.9, 1.6)):
            found, distance, towards, on_hull, on_triangle = nearest(triangle, hull, REACH, no_pairs())
            truth = least_squares_distance(triangle, hull)
            seen[found] += 1
            if found == FAR:
                assert REACH < distance <= truth + 1e-9
            elif found == OVERLAP:
                assert truth < 1e-6
            else:
                assert distance == pytest.approx(truth, abs=1e-6)
                np.testing.assert_allclose(on_hull - on_triangle, towards, atol=1e-12)
                assert np.linalg.norm(towards) == pytest.approx(distance, abs=1e-12)
                # Nothing of either is nearer along the line between them.
                assert (hull @ towards).min() == pytest.approx(on_hull @ towards, abs=1e-9)
                assert (triangle @ towards).max() == pytest.approx(on_triangle @ towards, abs=1e-9)
        assert min(seen.values()) > 10

    def test_the_pairs_of_another_place_change_nothing(self):
        hull, pairs = rounded(0).vertices, no_pairs()
        for triangle in near_triangles(2, 100, (1.05, 1.3)):
            fresh, again = nearest(triangle, hull, REACH, no_pairs()), nearest(triangle, hull, REACH, pairs)
            assert fresh[0] == again[0]
            if fresh[0] == APART:
                assert fresh[1] == pytest.approx(again[1], abs=1e-9)

    def test_no_way_out_is_shorter_than_the_shallowest(self):
        part = rounded(3)
        hulls = hulls_of([part], np.zeros(3))
        planes = hulls.planes.reshape(4, -1)
        directions = np.random.default_rng(4).normal(size=(20_000, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        checked = 0
        for triangle in near_triangles(5, 120, (0.4, 1.05)):
            if nearest(triangle, part.vertices, REACH, no_pairs())[0] != OVERLAP:
                continue
            height, normal, on_hull, on_triangle = np.empty(planes.shape[1]), *np.empty((3, 3))
            heights(planes, triangle.mean(axis=0), height)
            start = above_faces(triangle, planes, height)
            depth = shallowest_exit(
                triangle, part.vertices, planes, hulls.edges, height, start, normal, on_hull, on_triangle
            )
            # Along its direction it is the way out, and along no other is there a shorter one.
            assert np.linalg.norm(normal) == pytest.approx(1)
            assert (triangle @ normal).min() - (part.vertices @ normal).max() == pytest.approx(depth, abs=1e-9)
            np.testing.assert_allclose(on_triangle - on_hull, depth * normal, atol=1e-9)
            ways = (part.vertices @ directions.T).max(axis=0) - (triangle @ directions.T).min(axis=0)
            assert -depth <= ways.min() + 1e-9
            checked += 1
        assert checked > 50


def bumpy(seed: int) -> trimesh.Trimesh:
    """A lumpy closed mesh with triangles as large as a hand's, 6 cm across."""
    rng = np.random.default_rng(seed)
    ball = trimesh.creation.icosphere(4, 0.03)
    waves = np.cos(ball.vertices @ rng.normal(0, 150, (3, 6)) + rng.uniform(0, 6, 6)).sum(axis=1)
    ball.vertices *= 1 + 0.04 * waves[:, None]
    return ball


def contacts_of(hulls: Hulls, corners: np.ndarray) -> np.ndarray:
    """(K, 13), the object where it starts."""
    triangles = triangles_of(corners)
    contacts = no_contacts(hulls, triangles)
    update_contacts(hulls, triangles, contacts, np.eye(3), np.zeros(3))
    return contacts.points[np.arange(contacts.points.shape[1]) < contacts.used[:, None]]


class TestContacts:
    def test_they_are_those_of_pybullet(self, tmp_path):
        pybullet = pytest.importorskip("pybullet", reason="the sim extra is not installed")
        part = convex_hull(trimesh.creation.box((0.05, 0.07, 0.1)).vertices)
        write_obj(tmp_path / "box.obj", [part])
        hulls, found, count = hulls_of([part], np.zeros(3)), 0, 0
        client = pybullet.connect(pybullet.DIRECT)
        try:
            for seed in range(20):
                mesh = bumpy(seed)
                mesh.apply_transform(
                    trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))
                )
                mesh.apply_translation(np.random.default_rng(seed).uniform(-1, 1, 3) * [0.045, 0.055, 0.07])
                corners = mesh.vertices[mesh.faces]
                pybullet.resetSimulation(physicsClientId=client)
                pybullet.setPhysicsEngineParameter(enableFileCaching=0, fixedTimeStep=1 / 240, physicsClientId=client)
                hand = pybullet.createMultiBody(
                    0,
                    pybullet.createCollisionShape(
                        pybullet.GEOM_MESH,
                        vertices=mesh.vertices.tolist(),
                        indices=mesh.faces.ravel().tolist(),
                        flags=pybullet.GEOM_FORCE_CONCAVE_TRIMESH,
                        physicsClientId=client,
                    ),
                    physicsClientId=client,
                )
                shape = pybullet.createCollisionShape(
                    pybullet.GEOM_MESH, fileName=str(tmp_path / "box.obj"), physicsClientId=client
                )
                body = pybullet.createMultiBody(1.0, shape, physicsClientId=client)
                inertia = pybullet.getDynamicsInfo(body, -1, physicsClientId=client)[2]
                square = np.square(np.diff(box_of([part], INERTIA_MARGIN), axis=0)[0])
                np.testing.assert_allclose(inertia, (square.sum() - square) / 12, rtol=1e-6)
                pybullet.stepSimulation(physicsClientId=client)
                theirs = pybullet.getContactPoints(body, hand, physicsClientId=client)
                ours = contacts_of(hulls, corners)
                assert len(ours) == len(theirs)
                for point in theirs:
                    count += 1
                    same = (
                        (np.linalg.norm(ours[:, AT : AT + 3] - point[5], axis=1) < 1e-4)
                        & (np.abs(ours[:, DISTANCE] - point[8]) < 1e-4)
                        & (ours[:, NORMAL : NORMAL + 3] @ point[7] > 0.999)
                    )
                    found += bool(same.any())
        finally:
            pybullet.disconnect(client)
        # In another order of the triangles less than half are the same. The rest are ties, or Bullet's own errors.
        assert count > 60
        assert found / count > 0.85

    def test_a_plane_that_rests_touches_at_most_four_points_and_far_apart(self):
        part = convex_hull(trimesh.creation.box((0.04, 0.04, 0.04)).vertices)
        floor = trimesh.creation.box((0.08, 0.02, 0.08)).subdivide_to_size(0.006)
        floor.apply_translation((0.0, 0.02 + 2 * MARGIN + 0.01, 0.0))
        found = contacts_of(hulls_of([part], np.zeros(3)), floor.vertices[floor.faces])
        assert len(found) == 4
        np.testing.assert_allclose(found[:, DISTANCE], 0.0, atol=1e-9)
        np.testing.assert_allclose(found[:, NORMAL : NORMAL + 3], [[0.0, -1.0, 0.0]] * 4, atol=1e-9)
        np.testing.assert_allclose(found[:, AT + 1], 0.02 + MARGIN, atol=1e-9)
        np.testing.assert_allclose(found[:, ON_HAND : ON_HAND + 3], found[:, AT : AT + 3], atol=1e-9)
        assert np.ptp(found[:, AT], axis=0) > 0.02
        assert np.ptp(found[:, AT + 2], axis=0) > 0.02

    def test_what_is_remembered_changes_nothing_but_time(self):
        # A hull that jumps about, with a memory of clearances, against one that was there from the beginning.
        part = rounded(6)
        hulls, mesh = hulls_of([part], np.zeros(3)), bumpy(7)
        mesh.apply_translation((0.05, 0.02, 0.0))
        triangles = triangles_of(mesh.vertices[mesh.faces])
        contacts, rng = no_contacts(hulls, triangles), np.random.default_rng(8)
        touching = 0
        for _ in range(20):
            rotation = Rotation.from_rotvec(rng.normal(0, 0.5, 3)).as_matrix()
            position = rng.normal(0, 0.01, 3)
            # Nothing of the last place is near this one, so that both begin without contacts.
            contacts.used[:] = 0
            update_contacts(hulls, triangles, contacts, rotation, position)
            fresh = no_contacts(hulls, triangles)
            update_contacts(hulls, triangles, fresh, rotation, position)
            assert contacts.used[0] == fresh.used[0]
            used = fresh.used[0]
            touching += used
            np.testing.assert_allclose(contacts.points[0, :used], fresh.points[0, :used], atol=1e-8)
        assert touching > 20
