"""Reads a robot's description (URDF) into plain tables: links with their shapes, joints with their limits.

Nothing in a description is run, and no file outside its own folder is opened: a mesh is looked for below the folder of
the description or, where the description lies in a folder such as ``urdf``, beside that folder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import trimesh

from grasp_nodes.errors import InputError, MissingFileError

LARGEST_DESCRIPTION = 20_000_000
"""bytes."""
MOVING = ("revolute", "continuous", "prismatic")
NO_VELOCITY_LIMIT = 1e3
"""rad/s or m/s, where the description names none."""
_SHAPE_SEGMENTS = 16
_RING_SPACING = 0.005
"""m, between the rings of vertices around a cylinder: what looks for contact looks at vertices."""


@dataclass(frozen=True)
class Shape:
    """A closed or open triangle mesh in its link's frame. vertices: (V, 3) float64, m. faces: (F, 3) int64."""

    vertices: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True)
class Link:
    """collisions and visuals: shapes in the link's frame; either may be empty."""

    name: str
    collisions: tuple[Shape, ...] = ()
    visuals: tuple[Shape, ...] = ()


@dataclass(frozen=True)
class Mimic:
    """A joint that follows another: ``multiplier * other + offset``."""

    joint: str
    multiplier: float
    offset: float


@dataclass(frozen=True)
class Joint:
    """T_parent_joint: (4, 4), m. axis: (3,) unit, joint frame. lower, upper: rad or m. velocity: 1/s of them."""

    name: str
    kind: str
    parent: str
    child: str
    T_parent_joint: np.ndarray
    axis: np.ndarray
    lower: float
    upper: float
    velocity: float
    mimic: Mimic | None = None


@dataclass(frozen=True)
class RobotDescription:
    """A tree of links. links and joints keep the file's order. path: the file, None for a text."""

    name: str
    links: tuple[Link, ...]
    joints: tuple[Joint, ...]
    root: str
    path: Path | None = None

    @property
    def moving_joints(self) -> list[Joint]:
        """Joints that are not fixed, in the file's order, followers among them."""
        return [joint for joint in self.joints if joint.kind in MOVING]


def read_description(path: Path, with_shapes: bool = True) -> RobotDescription:
    """Read a URDF file.

    Args:
        path: the file. with_shapes: whether meshes and primitive shapes are loaded.

    Raises:
        MissingFileError: the file, or a mesh that it names, is not there.
        InputError: it is no URDF, no tree, or names what is not supported; the message names the element.
    """
    if not path.is_file():
        raise MissingFileError(f"robot description {path}: there is no such file")
    if path.stat().st_size > LARGEST_DESCRIPTION:
        raise InputError(
            f"robot description {path}: {path.stat().st_size} bytes, expected {LARGEST_DESCRIPTION} at most"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"robot description {path}: not a text in UTF-8 ({error})") from error
    return _Reader(path, with_shapes).read(text)


def parse_description(text: str) -> RobotDescription:
    """Read the text of a URDF; meshes that it names cannot be found and are left out."""
    return _Reader(None, with_shapes=True).read(text)


def described_with_uris(path: Path) -> str:
    """The text of a URDF file with its meshes as ``file://`` URIs, for rviz and others who read it elsewhere.

    Raises:
        MissingFileError, InputError: as of `read_description`.
    """
    read_description(path, with_shapes=False)
    reader, robot = _Reader(path, with_shapes=False), ET.fromstring(path.read_text(encoding="utf-8"))
    for mesh in robot.iter("mesh"):
        mesh.set("filename", reader.find_mesh(mesh.get("filename", "")).as_uri())
    return ET.tostring(robot, encoding="unicode")


class _Reader:
    """One description while it is read; `_where` names it in messages."""

    def __init__(self, path: Path | None, with_shapes: bool) -> None:
        self._path, self._with_shapes = path, with_shapes
        self._where = f"robot description {path}" if path else "robot description"
        self._meshes: dict[Path, Shape] = {}

    def read(self, text: str) -> RobotDescription:
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise InputError(f"{self._where}: declares a DOCTYPE or entities, which a URDF does not need; remove them")
        if "xacro:" in text:
            raise InputError(f"{self._where}: is a xacro file; turn it into a URDF first: 'xacro FILE -o hand.urdf'")
        try:
            robot = ET.fromstring(text)
        except ET.ParseError as error:
            raise InputError(f"{self._where}: not XML ({error})") from error
        if robot.tag != "robot":
            raise InputError(f"{self._where}: expected the element <robot>, got <{robot.tag}>")
        links = tuple(self._link(element) for element in robot.findall("link"))
        joints = tuple(self._joint(element) for element in robot.findall("joint"))
        root = self._check_tree(links, joints)
        return RobotDescription(robot.get("name", "robot"), links, joints, root, self._path)

    def _check_tree(self, links: Sequence[Link], joints: Sequence[Joint]) -> str:
        names = [link.name for link in links]
        for kind, each in (("links", names), ("joints", [joint.name for joint in joints])):
            double = sorted({name for name in each if each.count(name) > 1})
            if double:
                raise InputError(f"{self._where}: two {kind} are called {double[0]!r}")
        for joint in joints:
            for link in (joint.parent, joint.child):
                if link not in names:
                    raise InputError(f"{self._where}: joint {joint.name!r} names the link {link!r}, which is not there")
        children = [joint.child for joint in joints]
        roots = [name for name in names if name not in children]
        if len(roots) != 1 or len(set(children)) != len(children) or len(children) != len(names) - 1:
            raise InputError(
                f"{self._where}: its links are no tree with one root (roots: {', '.join(roots[:4]) or 'none'})"
            )
        moving = {joint.name: joint for joint in joints if joint.kind in MOVING}
        if not moving:
            raise InputError(f"{self._where}: no joint moves")
        for joint in moving.values():
            if joint.mimic is not None and (joint.mimic.joint not in moving or joint.mimic.joint == joint.name):
                raise InputError(
                    f"{self._where}: joint {joint.name!r} mimics {joint.mimic.joint!r}, which is no other moving joint"
                )
        return roots[0]

    # -- elements

    def _joint(self, element: ET.Element) -> Joint:
        name, kind = self._attribute(element, "name"), self._attribute(element, "type")
        if kind not in (*MOVING, "fixed"):
            raise InputError(
                f"{self._where}: joint {name!r} is of type {kind!r}; supported: fixed, {', '.join(MOVING)}"
            )
        ends = [element.find(tag) for tag in ("parent", "child")]
        if ends[0] is None or ends[1] is None:
            raise InputError(f"{self._where}: joint {name!r} lacks <parent> or <child>")
        parent, child = (self._attribute(end, "link") for end in ends if end is not None)
        axis, lower, upper, velocity = np.array([1.0, 0.0, 0.0]), -math.pi, math.pi, NO_VELOCITY_LIMIT
        if kind in MOVING:
            given = element.find("axis")
            if given is not None:
                axis = self._numbers(given.get("xyz", "1 0 0"), 3, f"axis of joint {name!r}")
            length = float(np.linalg.norm(axis))
            if not length > 0:
                raise InputError(f"{self._where}: joint {name!r} has the axis 0 0 0")
            axis = axis / length
            limit = element.find("limit")
            if limit is None and kind != "continuous":
                raise InputError(f"{self._where}: joint {name!r} lacks its <limit>")
            if limit is not None:
                what = f"limit of joint {name!r}"
                if kind != "continuous":
                    lower = self._numbers(limit.get("lower", "0"), 1, what)[0]
                    upper = self._numbers(limit.get("upper", "0"), 1, what)[0]
                velocity = self._numbers(limit.get("velocity", "0"), 1, what)[0] or NO_VELOCITY_LIMIT
            if lower > upper:
                raise InputError(f"{self._where}: joint {name!r} has the limits {lower:g} to {upper:g}")
        return Joint(
            name,
            kind,
            parent,
            child,
            self._origin(element, f"joint {name!r}"),
            axis,
            float(lower),
            float(upper),
            float(velocity),
            self._mimic(element, name),
        )

    def _mimic(self, element: ET.Element, name: str) -> Mimic | None:
        found = element.find("mimic")
        if found is None:
            return None
        what = f"mimic of joint {name!r}"
        return Mimic(
            self._attribute(found, "joint"),
            float(self._numbers(found.get("multiplier", "1"), 1, what)[0]),
            float(self._numbers(found.get("offset", "0"), 1, what)[0]),
        )

    def _link(self, element: ET.Element) -> Link:
        name = self._attribute(element, "name")
        if not self._with_shapes:
            return Link(name)
        shapes = {
            tag: tuple(shape for each in element.findall(tag) for shape in self._shape(each, f"{tag} of link {name!r}"))
            for tag in ("collision", "visual")
        }
        return Link(name, shapes["collision"], shapes["visual"])

    def _shape(self, element: ET.Element, what: str) -> list[Shape]:
        geometry = element.find("geometry")
        if geometry is None or not len(geometry):
            raise InputError(f"{self._where}: {what} has no <geometry>")
        placed, shape = self._origin(element, what), geometry[0]
        if shape.tag == "mesh":
            mesh = self._mesh(self._attribute(shape, "filename"))
            if mesh is None:
                return []
            factor = self._numbers(shape.get("scale", "1 1 1"), 3, what)
            vertices, faces = mesh.vertices * factor, mesh.faces
            if np.prod(factor) < 0:
                faces = faces[:, ::-1]
        else:
            vertices, faces = self._primitive(shape, what)
        return [Shape(vertices @ placed[:3, :3].T + placed[:3, 3], faces)]

    def _primitive(self, shape: ET.Element, what: str) -> tuple[np.ndarray, np.ndarray]:
        def size(name: str, count: int = 1) -> np.ndarray:
            found = self._numbers(self._attribute(shape, name), count, f"{name} of the {what}")
            if not (found > 0).all():
                raise InputError(f"{self._where}: {what}: {name} must be positive, got {shape.get(name)!r}")
            return found

        if shape.tag == "box":
            made = trimesh.creation.box(extents=size("size", 3))
        elif shape.tag == "sphere":
            made = trimesh.creation.icosphere(subdivisions=2, radius=float(size("radius")[0]))
        elif shape.tag in ("cylinder", "capsule"):
            radius, height = float(size("radius")[0]), float(size("length")[0])
            made = trimesh.creation.revolve(_outline(radius, height, shape.tag == "capsule"), sections=_SHAPE_SEGMENTS)
        else:
            raise InputError(
                f"{self._where}: {what} is a <{shape.tag}>; supported: mesh, box, sphere, cylinder, capsule"
            )
        return np.array(made.vertices, np.float64), np.array(made.faces, np.int64)

    # -- files

    def _mesh(self, name: str) -> Shape | None:
        if self._path is None:
            return None
        path = self.find_mesh(name)
        if path not in self._meshes:
            try:
                made: Any = trimesh.load(path, force="mesh", process=False)
                vertices, faces = np.array(made.vertices, np.float64), np.array(made.faces, np.int64)
            except Exception as error:  # each format's reader fails on a bad file in its own way
                raise InputError(
                    f"mesh {path} of the {self._where}: cannot be read ({type(error).__name__}: {error})"
                ) from error
            if not len(faces) or not np.isfinite(vertices).all():
                raise InputError(f"mesh {path} of the {self._where}: has no triangles, or NaN among its vertices")
            self._meshes[path] = Shape(vertices, faces)
        return self._meshes[path]

    def find_mesh(self, name: str) -> Path:
        """The file of a mesh: relative to the description, or what follows the package's name below it or beside it.

        Raises:
            MissingFileError: there is none. InputError: it is outside.
        """
        assert self._path is not None
        folder = self._path.resolve().parent
        relative = Path(name.split("://", 1)[1] if "://" in name else name)
        if relative.is_absolute() and not relative.is_relative_to(folder.parent):
            raise InputError(
                f"{self._where}: names the mesh {name!r} outside its own folder, which is not opened; put the mesh "
                "beside the description and name it relatively"
            )
        shorter = [Path(*relative.parts[k:]) for k in range(len(relative.parts))] if "://" in name else [relative]
        for root in (folder, folder.parent):
            for candidate in shorter:
                path = (root / candidate).resolve()
                if path.is_relative_to(folder.parent) and path.is_file():
                    return path
        raise MissingFileError(f"{self._where}: the mesh {name!r} is found neither in {folder} nor in {folder.parent}")

    # -- values

    def _attribute(self, element: ET.Element, name: str) -> str:
        value = element.get(name)
        if not value:
            raise InputError(f"{self._where}: <{element.tag}> lacks its {name!r}")
        return value

    def _origin(self, element: ET.Element, what: str) -> np.ndarray:
        found, T = element.find("origin"), np.eye(4)
        if found is not None:
            T[:3, 3] = self._numbers(found.get("xyz", "0 0 0"), 3, f"origin of {what}")
            T[:3, :3] = rpy_matrix(*self._numbers(found.get("rpy", "0 0 0"), 3, f"origin of {what}"))
        return T

    def _numbers(self, text: str, count: int, what: str) -> np.ndarray:
        try:
            values = np.array([float(word) for word in text.split()])
        except ValueError:
            values = np.zeros(0)
        if len(values) != count or not np.isfinite(values).all():
            raise InputError(f"{self._where}: {what}: expected {count} numbers, got {text!r}")
        return values


def _outline(radius: float, height: float, rounded: bool) -> np.ndarray:
    """(K, 2) m: distance from the axis and height along a cylinder or capsule, from its lower pole to its upper one."""
    z = np.linspace(-0.5 * height, 0.5 * height, max(int(height / _RING_SPACING), 1) + 1)
    side = np.stack([np.full(len(z), radius), z], axis=1)
    if rounded:
        turn = np.linspace(0.5 * np.pi, 0.0, 5)[:-1]
        end = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1) + [0.0, 0.5 * height]
        end[0, 0] = 0.0
    else:
        end = np.array([[0.0, 0.5 * height], [0.5 * radius, 0.5 * height]])
    return np.concatenate([end * [1, -1], side, end[::-1]])


def rpy_matrix(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """(3, 3): turns about the fixed axes x, then y, then z, as URDF counts them; rad."""
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
