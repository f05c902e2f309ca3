"""What rviz gets: markers and frames."""

from dataclasses import replace

import numpy as np
import pytest
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import ObjectState
from grasp_nodes.nodes.conversions import scene
from grasp_nodes.nodes.conversions.states import object_frame
from grasp_nodes.viewer.colors import REGION_COLORS


@pytest.mark.parametrize(
    ("resource", "scale", "kind", "size"),
    [
        ("sphere:0.117", 1.0, Marker.SPHERE, (0.234, 0.234, 0.234)),
        ("box:0.1,0.2,0.3", 2.0, Marker.CUBE, (0.2, 0.4, 0.6)),
        ("cylinder:0.03,0.2", 1.0, Marker.CYLINDER, (0.06, 0.06, 0.2)),
        ("capsule:0.03,0.2", 1.0, Marker.CYLINDER, (0.06, 0.06, 0.26)),
        ("/meshes/mug 1.obj", 0.001, Marker.MESH_RESOURCE, (0.001, 0.001, 0.001)),
    ],
)
def test_object_marker_has_the_object_s_shape_and_size(resource, scale, kind, size):
    found = ObjectState("mug", np.eye(4), scale=scale, mesh_resource=resource)
    marker = scene.to_object_marker(Header(), 0, found)
    assert marker.type == kind
    np.testing.assert_allclose((marker.scale.x, marker.scale.y, marker.scale.z), size)
    assert marker.color.a > 0
    assert marker.mesh_resource == ("file:///meshes/mug%201.obj" if kind == Marker.MESH_RESOURCE else "")


@pytest.mark.parametrize("uri", ["package://things/mug.obj", "https://example.org/mug.glb", ""])
def test_uri_stays_as_it_is(uri):
    assert scene.mesh_uri(uri) == uri


def test_hand_marker_is_red_where_it_touches():
    vertices, faces = np.arange(12.0).reshape(4, 3), np.array([[0, 1, 2], [1, 3, 2]])
    marker = scene.to_hand_marker(Header(), 5, vertices, faces, np.array([0, 0, 0, 1.0]))
    assert len(marker.points) == len(marker.colors) == 6
    touched, free = marker.colors[4], marker.colors[0]
    assert (marker.points[4].x, marker.points[4].y, marker.points[4].z) == (9, 10, 11)
    assert touched.r - touched.g > 0.5 > free.r - free.g
    assert all(color.a == 1 for color in marker.colors)


@pytest.mark.parametrize(
    ("name", "frame"), [("mug", "object_mug"), ("002_master/chef can", "object_002_master_chef_can")]
)
def test_object_frame_is_a_name_that_tf_takes(name, frame):
    assert object_frame(name) == frame


def test_contact_marker_holds_the_touched_points_in_the_object_s_pose():
    given = ContactMap(
        "mug",
        np.arange(9, dtype=np.float32).reshape(3, 3),
        np.zeros(3, np.float32),
        np.array([0.9, 0.1, 1.0], np.float32),
        np.zeros(778, np.float32),
        np.zeros(778, np.float32),
        0.005,
        region=np.array([2, 2, 15], np.uint8),
        elasticity=np.array([1.0, 1.0, 0.0], np.float32),
    )
    placed = np.eye(4)
    placed[:3, 3] = [1, 2, 3]
    found = ObjectState("mug", placed)
    by_region = scene.to_contact_marker(Header(), 3, found, given, "region")
    assert by_region.type == Marker.POINTS
    assert by_region.action == Marker.ADD
    assert [(point.x, point.y, point.z) for point in by_region.points] == [(0, 1, 2), (6, 7, 8)]
    assert by_region.pose.position.z == 3
    last = by_region.colors[1]
    np.testing.assert_allclose((last.r, last.g, last.b), REGION_COLORS[15] / 255, atol=1e-6)
    by_contact = scene.to_contact_marker(Header(), 3, found, given, "contact")
    assert by_contact.colors[1].r - by_contact.colors[1].g > 0.5
    far = replace(given, contact=np.zeros(3, np.float32))
    assert scene.to_contact_marker(Header(), 3, found, far, "region").action == Marker.DELETE
