"""Pictures of grasps: what is seen from where, in which colour, and how they lie on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.anatomy import mirror_pose
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.viewer.colors import CONTACT, PENETRATION, SKIN
from grasp_nodes.viewer.picture_folder import PictureFolder, read_pictures
from grasp_nodes.viewer.pictures import (
    captioned,
    contact_tints,
    grasp_picture,
    grasp_pictures,
    grasp_sheet,
    write_grasp_sheet,
    write_jpeg,
)

SIZE = 96
BALL = trimesh.creation.icosphere(subdivisions=3, radius=0.03)
PALM = np.array([-0.03, -0.05, 0.0])
"""m: in front of the flat right hand's palm, which looks along -y."""


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return load_hand_model("right", OPEN_HAND_FILE)


def flat(hand: HandModel) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        output = hand(HandParams.zeros(1, hand.side, hand.dtype))
    return output.vertices[0].numpy(), closed_faces(hand.faces.numpy())


def views(picture: np.ndarray) -> list[np.ndarray]:
    return [picture[:, k * SIZE : (k + 1) * SIZE].astype(int) for k in range(3)]


def share(view: np.ndarray, part: str) -> float:
    """Share of a view's pixels that show skin (brown), or the object (grey)."""
    red, blue = view[..., 0], view[..., 2]
    drawn = view.max(axis=2) < 250
    return float((drawn & ((red - blue > 20) if part == "skin" else (abs(red - blue) < 12))).mean())


def test_colours_follow_the_distance() -> None:
    tints = contact_tints(np.array([0.05, 0.0031, 0.002, 0.0, -0.002, -0.0031, -0.05, np.nan])) * 255
    expected = [SKIN, SKIN, CONTACT, CONTACT, CONTACT, PENETRATION, PENETRATION, SKIN]
    assert np.abs(tints - np.stack(expected)).max() < 1e-9


def test_the_view_of_the_back_hides_a_ball_in_the_palm(hand: HandModel) -> None:
    vertices, faces = flat(hand)
    picture = grasp_picture(vertices, faces, BALL.vertices + PALM, BALL.faces, size=SIZE)
    assert picture.shape == (SIZE, 3 * SIZE, 3)
    assert picture.dtype == np.uint8
    palm, back, _ = views(picture)  # from the thumb, the back, the little finger
    assert share(palm, "object") > 0.05
    assert share(palm, "skin") > 0.05
    assert share(back, "object") < 0.5 * share(palm, "object")


def test_what_is_seen_does_not_depend_on_the_frame(hand: HandModel) -> None:
    vertices, faces = flat(hand)
    rotation = random_rotations(1, torch.Generator().manual_seed(0)).double().numpy()[0]
    first = grasp_picture(vertices, faces, BALL.vertices + PALM, BALL.faces, size=SIZE)
    moved, ball = vertices @ rotation.T + 0.2, (BALL.vertices + PALM) @ rotation.T + 0.2
    second = grasp_picture(moved, faces, ball, BALL.faces, size=SIZE)
    assert np.abs(first.astype(int) - second).mean() < 1.0


def test_a_mirrored_grasp_gives_the_mirrored_views(hand: HandModel) -> None:
    left = load_hand_model("left", OPEN_HAND_FILE)
    pose = 0.3 * np.random.default_rng(0).normal(size=(1, 45)).astype(np.float32)
    with torch.no_grad():
        one = hand(replace(HandParams.zeros(1), hand_pose=torch.from_numpy(pose))).vertices[0].numpy()
        params = replace(HandParams.zeros(1, "left"), hand_pose=torch.from_numpy(mirror_pose(pose).astype(np.float32)))
        other = left(params).vertices[0].numpy()
    reflect = np.array([-1.0, 1.0, 1.0])
    first = grasp_picture(one, closed_faces(hand.faces.numpy()), BALL.vertices + PALM, BALL.faces, size=SIZE)
    mirrored = (BALL.vertices + PALM) * reflect
    second = grasp_picture(other, closed_faces(left.faces.numpy()), mirrored, BALL.faces[:, ::-1], size=SIZE)
    for a, b in zip(views(first), views(second), strict=True):
        shown, flipped = (a < 250).any(axis=2), (b < 250).any(axis=2)[:, ::-1]
        assert (shown & flipped).sum() / (shown | flipped).sum() > 0.97


def test_a_hand_with_nan_leaves_the_object_alone(hand: HandModel) -> None:
    vertices, faces = flat(hand)
    broken = vertices.copy()
    broken[5] = np.nan
    pictures = grasp_pictures(np.stack([vertices, broken]), faces, BALL.vertices, BALL.faces, np.zeros((2, 778)), SIZE)
    assert share(views(pictures[0])[0], "skin") > 0.05
    assert share(views(pictures[1])[0], "skin") == 0
    assert share(views(pictures[1])[0], "object") > 0.2


def test_wrong_shapes_are_named(hand: HandModel) -> None:
    vertices, faces = flat(hand)
    with pytest.raises(InputError, match=r"hand_vertices: expected \(V, 3\)"):
        grasp_picture(vertices[:100], faces, BALL.vertices, BALL.faces)
    with pytest.raises(InputError, match="signed_distance"):
        grasp_picture(vertices, faces, BALL.vertices, BALL.faces, np.zeros(3))
    with pytest.raises(InputError, match=r"hand_vertices: expected \(B, V, 3\)"):
        grasp_pictures(vertices, faces, BALL.vertices, BALL.faces)


def test_a_caption_is_written_and_cut() -> None:
    picture = np.full((100, 300, 3), 7, np.uint8)
    short, long = captioned(picture, "mug:1 power 3"), captioned(picture, "mug " * 200)
    assert (short[:100] == picture).all()
    assert short.shape == long.shape
    assert (short[100:] < 128).any()
    assert (long[100:, -4:] == 255).all()


def test_a_jpeg_is_as_good_as_its_size_allows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.integers(0, 256, (200, 300), np.uint8), (9, 9), 0)
    picture = np.repeat(grey[..., None], 3, axis=2)
    errors = []
    for most in (10**6, 12_000):
        path = tmp_path / f"{most}.jpg"
        write_jpeg(path, picture, most)
        assert path.stat().st_size <= most
        back = cv2.imread(str(path))[..., ::-1]
        errors.append(np.abs(back.astype(int) - picture).mean())
    assert errors[0] < 0.7 * errors[1]
    write_jpeg(tmp_path / "least.jpg", picture, 1)
    assert (tmp_path / "least.jpg").stat().st_size > 1
    with pytest.raises(InputError, match=r"ends in \.jpg"):
        write_jpeg(tmp_path / "picture.png", picture, 100)
    with pytest.raises(InputError, match="could not be written"):
        write_jpeg(tmp_path / "missing" / "picture.jpg", picture, 10**6)


def test_a_sheet_has_all_cells_in_rows(tmp_path: Path) -> None:
    cells = [(np.full((50, 150, 3), 40 * k, np.uint8), str(k)) for k in range(5)]
    grasp_sheet(cells, 3, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 3
    centres = [sheet[row * height + 25, column * width + 75, 0] for row in range(2) for column in range(3)]
    assert centres == [0, 40, 80, 120, 160, 255]
    with pytest.raises(InputError, match=r"ends in \.png"):
        grasp_sheet(cells, 3, tmp_path / "sheet.jpg")
    with pytest.raises(InputError, match="could not be written"):
        grasp_sheet(cells, 3, tmp_path / "nowhere" / "sheet.png")
    with pytest.raises(InputError, match="at least one"):
        grasp_sheet([], 3, tmp_path / "sheet.png")


def test_a_sheet_of_hands_shows_where_they_touch(hand: HandModel, tmp_path: Path) -> None:
    hands = HandParams.zeros(2)
    vertices, _ = flat(hand)
    far = (np.asarray(BALL.vertices) + PALM + [0, -0.05, 0], np.asarray(BALL.faces))
    # Half of a small ball is in the palm: the skin around it touches.
    palm = vertices[np.linalg.norm(vertices - [0.03, -0.05, 0.0], axis=1).argmin()]
    near = (np.asarray(BALL.vertices) * 0.5 + palm, np.asarray(BALL.faces))
    path = tmp_path / "sheet.png"
    write_grasp_sheet(path, hands, hand, [far, near], ["far", "near"], columns=1)
    sheet = cv2.imread(str(path))[..., ::-1].astype(int)
    red = (sheet[..., 0] > 100) & (sheet[..., 1] < sheet[..., 0] // 3) & (sheet[..., 2] < sheet[..., 0] // 2)
    half = len(sheet) // 2
    assert not red[:half].any()
    assert red[half:].sum() > 5
    with pytest.raises(InputError, match="2 hands, 1 objects"):
        write_grasp_sheet(path, hands, hand, [far], ["far", "near"])


def test_the_folder_keeps_what_was_written(hand: HandModel, tmp_path: Path) -> None:
    vertices, faces = flat(hand)
    names = [("a/b", "mug:1", 0), ("a/b", "mug:1", 1), ("a%2Fb", "mug:1", 0), ("..", ".", 0), ("x", 'é, "q"', 0)]
    for _ in range(2):  # the second time everything is there already
        folder = PictureFolder(tmp_path, size=32)
        for method, item, number in names:
            path = folder.write(method, item, number, vertices, faces, BALL.vertices, BALL.faces, np.ones(778))
            assert tmp_path / "pictures" in path.parents
    read = read_pictures(tmp_path)
    assert [(entry.method, entry.object) for entry in read] == [(method, item) for method, item, _ in names]
    assert len({entry.id for entry in read}) == len({entry.file for entry in read}) == len(names)
    assert all(cv2.imread(str(tmp_path / "pictures" / entry.file)).shape == (32, 96, 3) for entry in read)
    for entry in read:
        assert entry.method not in entry.id
