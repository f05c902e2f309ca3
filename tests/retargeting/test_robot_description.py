"""Descriptions: what is read, what is refused and how that is told."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.retargeting.hand_catalogue import SHIPPED
from grasp_nodes.retargeting.robot_description import (
    described_with_uris,
    parse_description,
    read_description,
    rpy_matrix,
)

LINKS = "<link name='a'/><link name='b'/>"
LIMIT = "<limit lower='-1' upper='1' velocity='2'/>"
JOINT = "<joint name='j' type='revolute'><parent link='a'/><child link='b'/>{}" + LIMIT + "</joint>"


def robot(body):
    return f"<robot name='r'>{body}</robot>"


def shaped(shape):
    return f"<link name='a'><visual><geometry>{shape}</geometry></visual></link><link name='b'/>"


def with_mesh(folder, filename):
    path = folder / "hand.urdf"
    shape = f"<mesh filename='{filename}' scale='0.001 0.001 -0.001'/>"
    path.write_text(robot(shaped(shape) + JOINT.format("")))
    return path


def test_roll_pitch_yaw_turn_about_fixed_axes():
    for angles in np.random.default_rng(0).uniform(-3, 3, (20, 3)):
        np.testing.assert_allclose(rpy_matrix(*angles), Rotation.from_euler("xyz", angles).as_matrix(), atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<robot", "not XML"),
        ("<!DOCTYPE r [<!ENTITY a 'b'>]><robot/>", "DOCTYPE"),
        ("<robot xmlns:xacro='x'><xacro:macro/></robot>", "xacro"),
        ("<model/>", "expected the element <robot>"),
        (robot(LINKS), "no tree with one root"),
        (robot(LINKS + JOINT.format("").replace("link='b'", "link='c'")), "'c', which is not there"),
        (robot(LINKS + LINKS + JOINT.format("")), "two links are called 'a'"),
        (robot(LINKS + JOINT.format("").replace("revolute", "fixed")), "no joint moves"),
        (robot(LINKS + JOINT.format("").replace("revolute", "floating")), "type 'floating'"),
        (robot(LINKS + JOINT.format("<axis xyz='0 0 0'/>")), "axis 0 0 0"),
        (robot(LINKS + JOINT.format("<axis xyz='0 one 0'/>")), "expected 3 numbers, got '0 one 0'"),
        (robot(LINKS + JOINT.format("<origin xyz='0 nan 0'/>")), "origin of joint 'j'"),
        (robot(LINKS + JOINT.format("<mimic joint='k'/>")), "mimics 'k'"),
        (robot(LINKS + JOINT.format("").replace("lower='-1'", "lower='2'")), "limits 2 to 1"),
        (
            robot(
                "<link name='a'><visual><geometry><cone/></geometry></visual></link><link name='b'/>" + JOINT.format("")
            ),
            "<cone>",
        ),
        (
            robot(
                "<link name='a'><visual><geometry><sphere radius='-1'/></geometry></visual></link>" + JOINT.format("")
            ),
            "radius must be positive",
        ),
    ],
)
def test_bad_descriptions_are_refused_by_name(text, message):
    with pytest.raises(InputError, match=message):
        parse_description(text)


def test_missing_files_are_told_apart(tmp_path):
    with pytest.raises(MissingFileError, match=r"no such file"):
        read_description(tmp_path / "none.urdf")
    with pytest.raises(MissingFileError, match=r"mesh 'box.stl' is found neither"):
        read_description(with_mesh(tmp_path, "box.stl"))


def test_meshes_are_found_beside_the_description_and_scaled(tmp_path):
    box = trimesh.creation.box(extents=[10, 20, 30])
    (tmp_path / "meshes").mkdir()
    (tmp_path / "urdf").mkdir()
    box.export(tmp_path / "meshes" / "box.stl")
    for folder, name in ((tmp_path, "meshes/box.stl"), (tmp_path / "urdf", "package://some_hand/meshes/box.stl")):
        shape = read_description(with_mesh(folder, name)).links[0].visuals[0]
        np.testing.assert_allclose(np.ptp(shape.vertices, axis=0), [0.01, 0.02, 0.03], atol=1e-7)
        # A scale that mirrors turns the faces, too: the volume stays positive.
        assert trimesh.Trimesh(shape.vertices, shape.faces).volume == pytest.approx(6e-6, rel=1e-4)
    text = described_with_uris(tmp_path / "urdf" / "hand.urdf")
    assert (tmp_path / "meshes" / "box.stl").as_uri() in text


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../etc/passwd", "file:///etc/passwd"])
def test_no_file_outside_its_folder_is_opened(tmp_path, name):
    folder = tmp_path / "one" / "two"
    folder.mkdir(parents=True)
    with pytest.raises((InputError, MissingFileError), match="mesh"):
        read_description(with_mesh(folder, name))


def test_a_damaged_mesh_is_named(tmp_path):
    (tmp_path / "box.stl").write_bytes(b"solid nothing")
    with pytest.raises(InputError, match=r"box\.stl"):
        read_description(with_mesh(tmp_path, "box.stl"))


def test_left_hand_is_the_right_one_mirrored(generic, generic_left):
    rng = np.random.default_rng(3)
    driven = rng.uniform(generic.kinematics.lower, generic.kinematics.upper)
    assert generic.side == "right"
    assert generic_left.side == "left"
    assert generic.kinematics.joint_names == generic_left.kinematics.joint_names
    mirror = np.diag([1.0, -1.0, 1.0])
    np.testing.assert_allclose(generic_left.fingertips(driven), generic.fingertips(driven) @ mirror, atol=1e-9)
    assert Path(SHIPPED / "generic_left.urdf").is_file()
