"""Recordings with known numbers: a hand and an object that move, pictures whose grey tells their frame."""

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.export.demonstration import HandRow, ObjectRow, Recording, StateRow
from grasp_nodes.geometry.camera import CameraModel, Frame

START = 1_700_000_000_000_000_000
SIZE = (24, 32)


def camera(size=SIZE):
    return CameraModel(np.array([[50.0, 0, 15.5], [0, 50.0, 11.5], [0, 0, 1]]), size[1], size[0], frame_id="cam")


def stamps_at(rate, count, start=START):
    return start + np.round(np.arange(count) * 1e9 / rate).astype(np.int64)


def hand_row(rng, side="right", score=0.9):
    return HandRow(side, rng.normal(size=51), rng.normal(size=10), rng.normal(size=(21, 3)) * 0.01, score)


def state_row(stamp, seed, side="right", object_id="mug", is_held=False):
    rng = np.random.default_rng(seed)
    pose = np.concatenate([rng.normal(size=3) * 0.01, Rotation.random(random_state=seed).as_quat()])
    contact = rng.uniform(size=18).astype(np.float32)
    hand = hand_row(rng, side)
    return StateRow(int(stamp), (hand,), (ObjectRow(object_id, pose, 0.8),), {(side, object_id): contact}, is_held)


def picture(row, size=SIZE):
    """Grey tells the row, red its tens, and an edge makes it no flat colour."""
    image = np.full((*size, 3), 40 + 10 * (row % 20), np.uint8)
    image[:, : size[1] // 2, 0] = 20 + 20 * (row // 10 % 10)
    return image


def recording(count=12, rate=30.0, seed=0, name="demo", size=SIZE, with_pictures=True, **more):
    stamps = stamps_at(rate, count)
    states = [state_row(stamp, 1000 * seed + row) for row, stamp in enumerate(stamps)]

    def pictures():
        for row, stamp in enumerate(stamps):
            yield Frame(int(stamp), picture(row + seed, size), camera(size))

    parts = {"pictures": pictures, "picture_stamps": stamps} if with_pictures else {}
    return Recording(name, f"/recordings/{name}", states, **{**parts, **more})
