"""retargeting_node: states, poses and grasps of human hands in, joints of a robot hand out."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from geometry_msgs.msg import PoseArray, PoseStamped
from grasp_msgs.msg import GraspArray, HandPoseArray
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from grasp_nodes.contact.hand_states import hand_states, make_grasps
from grasp_nodes.contact.interaction import FitStatus, GraspSet, ObjectState
from grasp_nodes.contact.interaction import HandObjectState as State
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.nodes.conversions.fields import from_time, to_header
from grasp_nodes.nodes.conversions.grasps import to_grasp_array
from grasp_nodes.nodes.conversions.hands import to_hand_pose_array
from grasp_nodes.nodes.conversions.robots import from_base_pose, from_joint_state
from grasp_nodes.nodes.conversions.states import to_state
from grasp_nodes.nodes.node_base import LATCHED
from grasp_nodes.nodes.retargeting_node import RetargetingNode
from grasp_nodes.retargeting.hand_catalogue import open_robot_hand

NODE, STATE, HANDS, GRASPS = "retargeting_node", "hand_object/state", "hands", "grasps"
JOINTS, BASE = "robot/joint_states", "robot/base_pose"
START, STEP = 7_000_000_000, 33_000_000
RADIUS = 0.035


@pytest.fixture(scope="module")
def robot():
    return open_robot_hand("generic", "right")


def human(side="right", shift=0.0):
    params = HandParams.zeros(side=side)
    params.transl[0, 0], params.transl[0, 2] = shift, 0.5
    return hand_states(params, load_hand_model(side))[0]


def state(stamp, hands, objects=()):
    return State(stamp, "camera", hands, objects, status=FitStatus.OK)


def said(bench):
    """What the node's last diagnostics say."""
    status = bench.statuses.get(f"/{NODE}")
    return status.message if status else ""


@pytest.fixture
def start(bench):
    def make(**parameters):
        node = bench.start(RetargetingNode, input_reliability="reliable", queue_size=8, input_depth=10, **parameters)
        bench.wait(lambda: node._worker.ready or node.finished.is_set(), "the node")
        return node

    return make


def test_a_state_becomes_joints_base_frames_and_markers(bench, start, robot):
    start()
    joints, bases = bench.collect(JointState, JOINTS), bench.collect(PoseStamped, BASE)
    transforms, markers = bench.collect(TFMessage, "/tf"), bench.collect(MarkerArray, "robot/markers")
    described = bench.collect(String, "robot_description", LATCHED)
    bench.publish(to_state(state(START, [human()])), STATE)
    bench.wait(lambda: joints and bases and transforms and markers and described, "answers")
    for message in (joints[0], bases[0]):
        assert from_time(message.header.stamp) == START
        assert message.header.frame_id == "camera"
    assert tuple(joints[0].name) == robot.kinematics.joint_names
    kinematics = robot.kinematics
    driven, base = from_joint_state(joints[0], robot), from_base_pose(bases[0])
    assert (driven >= kinematics.lower - 1e-9).all()
    assert (driven <= kinematics.upper + 1e-9).all()
    tips = robot.fingertips(driven, base)
    wanted = human().keypoints[4::4]
    assert np.linalg.norm(tips - wanted, axis=1).max() < 0.03
    frames = {item.child_frame_id: item for item in transforms[0].transforms}
    assert set(frames) == {f"robot_right/{link.name}" for link in robot.description.links}
    assert frames["robot_right/palm"].header.frame_id == "camera"
    assert frames["robot_right/index_distal"].header.frame_id == "robot_right/index_middle"
    assert len(markers[0].markers[0].points) == 3 * len(robot.look_faces)
    assert ET.fromstring(described[0].data).get("name") == "generic_right"


def test_only_the_robots_side_is_followed_and_the_other_is_told(bench, start):
    start(publish_tf=False)
    joints = bench.collect(JointState, JOINTS)
    bench.publish(to_state(state(START, [human("left")])), STATE)
    bench.wait(lambda: "no right hand" in said(bench), "the reason")
    bench.publish(to_state(state(START + STEP, [human("left"), human("right", 0.1)])), STATE)
    bench.wait(lambda: joints, "joints")
    assert from_time(joints[0].header.stamp) == START + STEP


def test_poses_alone_are_followed(bench, start, robot):
    start(follow="hands", mode="dexpilot")
    joints = bench.collect(JointState, JOINTS)
    bench.publisher(HandPoseArray, HANDS)
    for k in range(2):
        bench.publish(to_hand_pose_array([human()], to_header(START + k * STEP, "camera")), HANDS)
    bench.wait(lambda: len(joints) == 2, "joints")
    flat = from_joint_state(joints[1], robot)
    bends = [
        flat[robot.kinematics.driven_names.index(f"{name}_curl")] for name in ("index", "middle", "ring", "little")
    ]
    assert max(bends) < 0.6


def test_a_bad_message_costs_only_itself(bench, start):
    start()
    joints = bench.collect(JointState, JOINTS)
    bad = to_state(state(START, [human()]))
    bad.hands[0].keypoints[3].x = float("nan")
    bench.publish(bad, STATE)
    bench.wait(lambda: bench.dropped(NODE, f"bad {STATE}") == 1, "the count")
    bench.publish(to_state(state(START + STEP, [human()])), STATE)
    bench.wait(lambda: joints, "joints")


def test_grasps_become_poses_and_joints_of_the_object_that_is_known(bench, start, robot):
    start(object=f"sphere:{RADIUS}")
    poses, joints = (
        bench.collect(PoseArray, "robot/grasp_poses", LATCHED),
        bench.collect(JointTrajectory, "robot/grasp_joints", LATCHED),
    )
    params = HandParams.zeros(2)
    params.transl[:, 1] = -0.06
    grasps = GraspSet("ball", "test", 0, 0.0, make_grasps(params, load_hand_model("right")))
    bench.publish(to_grasp_array(grasps, to_header(START, "object")), GRASPS, latched=True)
    bench.wait(lambda: poses and joints, "grasps")
    assert len(poses[0].poses) == len(joints[0].points) == 2
    assert poses[0].header.frame_id == "object"
    assert tuple(joints[0].joint_names) == robot.kinematics.joint_names
    assert len(joints[0].points[0].positions) == len(robot.kinematics.joint_names)


def test_grasps_of_an_unknown_surface_are_refused_and_no_file_of_a_message_is_opened(bench, start, tmp_path):
    start()
    mesh = tmp_path / "mug.obj"
    mesh.write_text("v 0 0 0")
    grasps = GraspSet("mug", "test", 0, 0.0, [], str(mesh))
    bench.publisher(GraspArray, GRASPS, latched=True)
    bench.publish(to_grasp_array(grasps, to_header(START, "object")), GRASPS, latched=True)
    bench.wait(lambda: bench.dropped(NODE, f"bad {GRASPS}") == 1, "the refusal")


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"robot": "allegory"}, "allegory"), ({"backend": "dex_retargeting", "mode": "contact"}, "no mode 'contact'")],
)
def test_what_cannot_be_loaded_ends_the_node(bench, start, parameters, reason):
    node = start(**parameters)
    bench.wait(node.finished.is_set, "the end")
    assert node.exit_code == 1
    bench.wait(lambda: reason in said(bench), "the reason")


def test_an_object_that_states_name_is_kept_in_hand(bench, start, robot):
    start(object=f"sphere:{RADIUS}")
    joints, bases = bench.collect(JointState, JOINTS), bench.collect(PoseStamped, BASE)
    hand = human()
    T = np.eye(4)
    T[:3, 3] = hand.keypoints[8] + [0.0, -RADIUS - 0.001, 0.0]  # under the index finger's tip
    ball = ObjectState("sphere", T, mesh_resource=f"sphere:{RADIUS}")
    bench.publish(to_state(state(START, [hand], [ball])), STATE)
    bench.wait(lambda: joints and bases, "joints")
    driven, base = from_joint_state(joints[0], robot), from_base_pose(bases[0])
    surface = robot.surface
    placed = robot.kinematics.body_poses(driven, base)[surface.body]
    points = np.einsum("sij,sj->si", placed[:, :3, :3], surface.points) + placed[:, :3, 3]
    distance = np.linalg.norm(points - T[:3, 3], axis=1) - RADIUS
    index = robot.fingers[robot.finger_names.index("index")].tip_body
    assert abs(distance[surface.body == index].min()) < 0.005
    assert distance.min() > -0.003
