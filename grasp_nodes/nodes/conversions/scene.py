"""What rviz shows: TF frames and markers of hands, their contact, and objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from geometry_msgs.msg import Point, Transform, TransformStamped, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import HandObjectState, HandState, ObjectState
from grasp_nodes.nodes.conversions.hands import to_pose
from grasp_nodes.nodes.conversions.objects import matrix_to_pose
from grasp_nodes.nodes.conversions.states import object_frame
from grasp_nodes.viewer.colors import ContactColoring, contact_map_colors

SKIN = np.array([0.87, 0.68, 0.58])
TOUCHED = np.array([0.85, 0.10, 0.08])
PRIMITIVE_MARKERS = {
    "sphere": Marker.SPHERE,
    "box": Marker.CUBE,
    "cylinder": Marker.CYLINDER,
    "capsule": Marker.CYLINDER,
}
OBJECT_COLOR = (0.45, 0.60, 0.75)
POINT_SIZE = 0.002
"""m, of the object's points that are touched."""


def hand_frame(state: HandState) -> str:
    """Name of a hand's TF frame, the frame of its wrist."""
    return f"hand_{state.params.side}"


def to_transforms(state: HandObjectState, header: Header) -> list[TransformStamped]:
    """Frames of the hands' wrists and of the objects in the camera's frame."""
    poses = [(hand_frame(hand), hand.joint_poses[0]) for hand in state.hands]
    poses += [(object_frame(found.object_id), matrix_to_pose(found.T_camera_object)) for found in state.objects]
    return [TransformStamped(header=header, child_frame_id=name, transform=to_transform(pose)) for name, pose in poses]


def to_transform(values: np.ndarray) -> Transform:
    """Transform of (7,) numbers: position and quaternion xyzw."""
    pose = to_pose(values)
    place = pose.position
    return Transform(translation=Vector3(x=place.x, y=place.y, z=place.z), rotation=pose.orientation)


def to_hand_marker(
    header: Header,
    marker_id: int,
    vertices: np.ndarray,
    faces: np.ndarray,
    contact: np.ndarray | None,
    touched: np.ndarray = TOUCHED,
) -> Marker:
    """A hand as a list of triangles, coloured by contact.

    Args:
        vertices: (V, 3), m, in the header's frame. faces: (F, 3).
        contact: (V,) in [0, 1]; None = no contact.
        touched: (3,) or (V, 3) in [0, 1], RGB, at full contact.
    """
    share = np.zeros(len(vertices)) if contact is None else np.clip(contact, 0.0, 1.0)
    colors = SKIN + share[:, None] * (touched - SKIN)
    vertex_colors = [ColorRGBA(r=r, g=g, b=b, a=1.0) for r, g, b in colors.tolist()]
    marker = to_triangles(header, "hands", marker_id, vertices, faces, (1.0, 1.0, 1.0))
    marker.colors = [vertex_colors[corner] for corner in faces.reshape(-1)]
    return marker


def to_triangles(
    header: Header, namespace: str, marker_id: int, vertices: np.ndarray, faces: np.ndarray, color: Sequence[float]
) -> Marker:
    """A surface of one colour as a list of triangles: vertices (V, 3), m, in the header's frame, faces (F, 3)."""
    points = [Point(x=x, y=y, z=z) for x, y, z in np.asarray(vertices, np.float64).tolist()]
    marker = Marker(
        header=header,
        ns=namespace,
        id=marker_id,
        type=Marker.TRIANGLE_LIST,
        action=Marker.ADD,
        scale=Vector3(x=1.0, y=1.0, z=1.0),
        color=ColorRGBA(r=color[0], g=color[1], b=color[2], a=1.0),
        points=[points[corner] for corner in faces.reshape(-1)],
    )
    marker.pose.orientation.w = 1.0
    return marker


def to_object_marker(header: Header, marker_id: int, found: ObjectState) -> Marker:
    """An object as a mesh file that its pose moves; a shape without file as the shape, as far as markers have it."""
    shape, _, sizes = found.mesh_resource.partition(":")
    marker = Marker(
        header=header,
        ns="objects",
        id=marker_id,
        action=Marker.ADD,
        pose=to_pose(matrix_to_pose(found.T_camera_object)),
        color=ColorRGBA(r=OBJECT_COLOR[0], g=OBJECT_COLOR[1], b=OBJECT_COLOR[2], a=0.8),
    )
    size = [float(value) * found.scale for value in sizes.split(",")] if shape in PRIMITIVE_MARKERS else []
    marker.type = PRIMITIVE_MARKERS.get(shape, Marker.MESH_RESOURCE)
    if shape == "sphere":
        extent = [2 * size[0]] * 3
    elif shape == "box":
        extent = size
    elif shape in PRIMITIVE_MARKERS:
        # There is no marker for a capsule: its cylinder, with the caps' length added, has its extent.
        extent = [2 * size[0], 2 * size[0], size[1] + (2 * size[0] if shape == "capsule" else 0.0)]
    else:
        extent = [found.scale] * 3
        marker.mesh_resource = mesh_uri(found.mesh_resource)
    marker.scale = Vector3(x=extent[0], y=extent[1], z=extent[2])
    return marker


def to_contact_marker(
    header: Header, marker_id: int, found: ObjectState, contact_map: ContactMap, coloring: ContactColoring
) -> Marker:
    """The points of an object that a hand touches (contact above one half), which move with the object's pose."""
    near = contact_map.contact > 0.5
    colors = contact_map_colors(contact_map, coloring)[near] / 255.0
    return Marker(
        header=header,
        ns="contact",
        id=marker_id,
        type=Marker.POINTS,
        action=Marker.ADD if near.any() else Marker.DELETE,
        pose=to_pose(matrix_to_pose(found.T_camera_object)),
        scale=Vector3(x=POINT_SIZE, y=POINT_SIZE, z=0.0),
        color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
        points=[Point(x=x, y=y, z=z) for x, y, z in contact_map.points[near].astype(np.float64).tolist()],
        colors=[ColorRGBA(r=r, g=g, b=b, a=1.0) for r, g, b in colors.tolist()],
    )


def mesh_uri(resource: str) -> str:
    """A mesh file as the URI that rviz loads; a URI stays as it is."""
    if not resource or "://" in resource:
        return resource
    return Path(resource).resolve().as_uri()


def to_deletion(header: Header) -> Marker:
    """The marker that removes all earlier ones."""
    return Marker(header=header, action=Marker.DELETEALL)
