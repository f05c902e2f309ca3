"""Meshes that messages name: what may be opened, whatever way the path is written."""

import numpy as np
import pytest
import trimesh
from grasp_msgs.srv import GenerateGrasps
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import String

from grasp_nodes.errors import InputError
from grasp_nodes.nodes import mesh_roots
from grasp_nodes.nodes.conversions import clouds
from grasp_nodes.nodes.conversions.grasp_requests import to_grasp_request
from grasp_nodes.nodes.mesh_roots import allowed_mesh
from grasp_nodes.nodes.node_base import GraspNode
from grasp_nodes.nodes.parameters import ObjectParameters
from grasp_nodes.nodes.source_status import TOPIC, watch_object


@pytest.fixture
def meshes(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        trimesh.creation.icosphere(radius=0.04).export(folder / "ball mesh.obj")
    (inside / "link.obj").symlink_to(outside / "ball mesh.obj")
    return inside, outside


def test_files_below_the_roots_and_shapes_are_allowed(meshes, monkeypatch):
    inside, _ = meshes
    expected = str(inside / "ball mesh.obj")
    for written in (
        expected,
        f"file://{expected}",
        f"file://{inside}/ball%20mesh.obj",
        f"{inside}/../inside/ball mesh.obj",
    ):
        assert allowed_mesh(written, [str(inside)]) == expected
    for shape in ("sphere:0.04", "box:0.1,0.1,0.1", "family:mug:12"):
        assert allowed_mesh(shape, [str(inside)]) == shape
    monkeypatch.chdir(inside)
    assert allowed_mesh("ball mesh.obj", ["."]) == expected


@pytest.mark.parametrize(
    "written",
    [
        "{outside}/ball mesh.obj",
        "file://{outside}/ball%20mesh.obj",
        "{inside}/link.obj",
        "{inside}/../outside/ball mesh.obj",
        "{inside}-beside/ball.obj",
        "/etc/passwd",
        "/dev/zero",
        "http://example.com/ball.obj",
        "file://example.com/ball.obj",
        "package://other/ball.obj",
        "ftp://x/y.obj",
        "ball\0.obj",
    ],
)
def test_everything_else_is_refused(meshes, written):
    inside, outside = meshes
    with pytest.raises(InputError, match="mesh_resource"):
        allowed_mesh(written.format(inside=inside, outside=outside), [str(inside)])


def test_refusal_does_not_tell_whether_the_file_is_there(meshes):
    inside, outside = meshes
    told = []
    for name in ("ball mesh.obj", "none.obj"):
        with pytest.raises(InputError) as refused:
            allowed_mesh(f"{outside}/{name}", [str(inside)])
        told.append(str(refused.value).replace(name, "NAME"))
    assert told[0] == told[1]


def test_size_and_length_are_bounded(meshes, monkeypatch):
    inside, _ = meshes
    monkeypatch.setattr(mesh_roots, "LARGEST_MESH", 100)
    with pytest.raises(InputError, match="100 are allowed"):
        allowed_mesh(f"{inside}/ball mesh.obj", [str(inside)])
    with pytest.raises(InputError, match="5000 characters"):
        allowed_mesh("x" * 5000, [str(inside)])


def test_empty_root_stands_for_the_usual_folders(meshes, monkeypatch, tmp_path):
    inside, _ = meshes
    monkeypatch.setattr(mesh_roots, "default_roots", lambda: [tmp_path / "home"])
    allowed_mesh(f"{tmp_path}/home/x.obj", [""])
    allowed_mesh(f"{inside}/ball mesh.obj", ["", str(inside)])
    with pytest.raises(InputError, match="allow its folder with the parameter mesh_roots"):
        allowed_mesh(f"{inside}/ball mesh.obj", [""])


def test_object_that_the_source_names_is_asked_about_and_that_of_the_user_is_not(bench, meshes):
    inside, outside = meshes
    found = []

    class Watcher(GraspNode[ObjectParameters]):
        def __init__(self, **options):
            super().__init__("watcher", ObjectParameters, **options)
            watch_object(self, lambda *named: found.append(named[0]))

    node = bench.start(Watcher, mesh_roots=[str(inside)])
    dropped = f"dropped bad {TOPIC}"
    for folder, is_there in ((outside, lambda: dropped in node.statistics.values()), (inside, lambda: found)):
        status = f'{{"source": "clip", "object": "{folder}/ball mesh.obj"}}'
        bench.publish(String(data=status), TOPIC, latched=True)
        bench.wait(is_there, "the node's answer")
    assert found == [f"{inside}/ball mesh.obj"]
    assert node.statistics.values()[dropped] == "1"
    assert bench.start(Watcher, object=f"{outside}/ball mesh.obj", mesh_roots=[str(inside)])
    assert found[-1] == f"{outside}/ball mesh.obj"


def test_counts_and_clouds_are_bounded(monkeypatch):
    for count in (10_001, 2**32 - 1):
        with pytest.raises(InputError, match="expected 0 to 10000 grasps"):
            to_grasp_request(GenerateGrasps.Request(count=count), 16, np.zeros(3), 16)
    monkeypatch.setattr(clouds, "MOST_POINTS", 5)
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate("xyz")]
    data = np.zeros(72, np.uint8)
    message = PointCloud2(width=6, height=1, fields=fields, point_step=12, row_step=72, data=data)
    with pytest.raises(InputError, match="at most 5 are taken"):
        clouds.cloud_to_points(message)
    # A cloud that claims more than it holds is refused before anything of that size is made.
    huge = PointCloud2(width=2**32 - 1, height=2**32 - 1, fields=fields, point_step=12, row_step=72, data=data)
    with pytest.raises(InputError, match="points"):
        clouds.cloud_to_points(huge)
