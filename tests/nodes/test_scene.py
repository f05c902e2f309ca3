"""What rviz gets: markers and frames."""

import numpy as np
import pytest
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from grasp_nodes.contact.interaction import ObjectState
from grasp_nodes.nodes.conversions import scene
from grasp_nodes.nodes.conversions.states import object_frame


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
