from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from grasp_nodes.data.grasp_readers.contact_filter import hand_distances, object_mesh, touching
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.parameters import HandParams

RADIUS = 0.04


def hands_beside_a_ball(tmp_path: Path, gaps: list[float]) -> LabelledGrasps:
    """Flat hands whose lowest vertex is `gap` above the ball's top; the ball is in mm and off its file's origin."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=1000 * RADIUS)
    ball.apply_translation((500, 0, 0))
    ball.export(tmp_path / "ball.ply")
    transform = np.eye(4)
    transform[0, 3] = -0.5
    objects = [GraspedObject("none"), GraspedObject("ball", str(tmp_path / "ball.ply"), 0.001, transform)]
    model = load_hand_model(path=OPEN_HAND_FILE)
    flat = model(HandParams.zeros()).vertices[0].numpy()
    lowest = flat[flat[:, 1].argmin()]
    hands = HandParams.zeros(len(gaps))
    hands.transl[:] = torch.tensor(np.array([[0, RADIUS + gap, 0] - lowest for gap in gaps]), dtype=torch.float32)
    count = len(gaps)
    return LabelledGrasps(
        source="test",
        hands=hands,
        hand_model_id=model.model_id,
        hand_fingerprint=model.fingerprint,
        objects=objects,
        object_index=np.ones(count, np.int64),
        kind=np.full(count, -1),
        subject=np.full(count, ""),
        sequence=np.full(count, ""),
        frame=np.arange(count),
    )


def test_hands_farther_than_the_threshold_are_left_out(tmp_path: Path) -> None:
    gaps = [0.004, 0.006, 0.2, 0.0, -0.01]
    grasps = hands_beside_a_ball(tmp_path, gaps)
    model = load_hand_model(path=OPEN_HAND_FILE)
    # The nearest vertex to a ball is the nearest to its centre.
    vertices = model(grasps.hands).vertices.numpy()
    expected = np.abs(np.linalg.norm(vertices, axis=2) - RADIUS).min(1)
    np.testing.assert_allclose(hand_distances(grasps, model), expected, atol=1e-4)
    np.testing.assert_allclose(expected[:4], gaps[:4], atol=1e-4)
    kept = touching(grasps, model)
    assert list(kept.frame) == [0, 3, 4]
    assert kept.attributes["without_contact"] == "2"
    assert list(touching(grasps, model, threshold=0.01).frame) == [0, 1, 3, 4]
    far = [(np.eye(3), np.array([[0, 1, 2]])), (np.eye(3) + 5, np.array([[0, 1, 2]]))]
    assert len(touching(grasps, model, far)) == 0


def test_a_mesh_is_brought_into_the_frame_of_its_grasps(tmp_path: Path) -> None:
    ball = hands_beside_a_ball(tmp_path, [0.0]).objects[1]
    vertices, faces = object_mesh(ball)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), RADIUS, rtol=1e-4)
    mirrored = GraspedObject("ball", ball.mesh, ball.scale, np.diag([-1.0, 1, 1, 1]) @ ball.transform)
    for one in (ball, mirrored):
        vertices, faces = object_mesh(one)
        volume = np.einsum("ij,ij->i", vertices[faces[:, 0]], np.cross(vertices[faces[:, 1]], vertices[faces[:, 2]]))
        np.testing.assert_allclose(volume.sum() / 6, 4 / 3 * np.pi * RADIUS**3, rtol=0.01)  # outward on both sides


def test_objects_without_a_mesh_are_named(tmp_path: Path) -> None:
    grasps = hands_beside_a_ball(tmp_path, [0.0])
    with pytest.raises(InputError, match="object none"):
        object_mesh(grasps.objects[0])
    with pytest.raises(InputError, match=r"one per object \(2\), got 1"):
        hand_distances(grasps, load_hand_model(path=OPEN_HAND_FILE), [object_mesh(grasps.objects[1])])
    with pytest.raises(InputError, match=r"another hand model \(mano\)"):
        hand_distances(
            replace(grasps, hand_model_id="mano", hand_fingerprint="0" * 64), load_hand_model(path=OPEN_HAND_FILE)
        )
