"""MIHO as a whole: mirrors, frames, springs and the refiner, with networks that say what they are told to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from grasp_nodes.contact.interaction import FitStatus
from grasp_nodes.contact.springs import AttractiveSprings
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.fitting.geo.result import GeoResult
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.miho.frame_views import crop_box
from grasp_nodes.miho.honet import SMALL_HONET, HoNet, HoNetOutput
from grasp_nodes.miho.picr import SMALL_PICR, PiCR, PiCROutput
from grasp_nodes.miho.pipeline import LONGEST_SPRING, GraspInView, MihoPipeline, mirrored
from grasp_nodes.miho.reconstruction import MihoReconstructor
from grasp_nodes.miho.samples import ObjectTable
from grasp_nodes.objects.loading import load_object, make_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.registry import family_mesh
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence, ObservedFrame

CAMERA = CameraModel(np.array([[500.0, 0, 159.5], [0, 500.0, 119.5], [0, 0, 1]]), 320, 240)
BOX = np.array([60.0, 30.0, 220.0, 190.0])


@pytest.fixture(scope="module")
def hands() -> dict[Side, HandModel]:
    return {"right": load_hand_model("right"), "left": load_hand_model("left")}


@pytest.fixture(scope="module")
def ball() -> ObjectModel:
    return load_object("sphere:0.03")


class Saying(HoNet):
    """Says the same of every crop, and keeps the images that it was shown."""

    def __init__(self) -> None:
        super().__init__(SMALL_HONET)
        self.shown: list[Tensor] = []
        self.told: list[Tensor] = []
        generator = torch.Generator().manual_seed(3)
        turn = torch.from_numpy(Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix().astype(np.float32))
        other = torch.from_numpy(Rotation.from_rotvec([-0.2, 0.4, 1.5]).as_matrix().astype(np.float32))
        self.values = (
            *(torch.tensor([0.1, -0.05]), torch.tensor(0.2), turn, 0.3 * torch.randn(15, generator=generator)),
            *(0.5 * torch.randn(10, generator=generator), torch.tensor([-0.1, -0.15]), torch.tensor(-0.4), other),
        )

    def forward(self, images: Tensor, condition: Tensor | None = None) -> HoNetOutput:
        assert condition is not None
        self.shown.append(images)
        self.told.append(condition)
        return HoNetOutput(*(value.expand(len(images), *value.shape) for value in self.values))


class Touching(PiCR):
    """Says that the first points are touched by the tip of the index finger."""

    def __init__(self, touched: int) -> None:
        super().__init__(SMALL_PICR)
        self.touched = touched
        self.points = torch.zeros(0)

    def forward(self, images: Tensor, points: Tensor, normals: Tensor, root: Tensor, focal: Tensor) -> list[PiCROutput]:
        self.points = points
        count, number = points.shape[:2]
        contact = torch.full((count, number), -9.0)
        contact[:, : self.touched] = 9.0
        region = torch.zeros(count, number, 17)
        region[..., 5] = 9.0
        return [PiCROutput(contact, region, torch.zeros(count, number, 4), torch.ones(count, number) > 0)]


@pytest.fixture(scope="module")
def mug() -> ObjectModel:
    """It has no symmetry that would leave its own frame open."""
    return load_object("family:mug:2")


def in_mirror(thing: ObjectModel) -> ObjectModel:
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    vertices, points, normals = thing.vertices * flip, thing.points * flip, thing.normals * flip
    return replace(thing, vertices=vertices, points=points, normals=normals, faces=thing.faces[:, ::-1])


def make_image(seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3))
    return np.kron(small, np.ones((20, 20, 1))).astype(np.uint8)


def test_a_left_hand_is_the_mirror_image_of_a_right_one(hands: dict[Side, HandModel], mug: ObjectModel) -> None:
    """The mirrored image of the other side and object gives the mirrored vertices, in the camera and at the object."""
    network, image = Saying(), make_image()
    pipeline = MihoPipeline(hands, network)
    right = pipeline(image, CAMERA, BOX, in_mirror(mug), "right")
    box = np.array([319 - BOX[2], BOX[1], 319 - BOX[0], BOX[3]])
    left = pipeline(np.ascontiguousarray(image[:, ::-1]), CAMERA, box, mug, "left")
    torch.testing.assert_close(network.shown[0], network.shown[1], atol=2 / 255, rtol=0)
    assert left.hands.side == "left"
    for first, second in (
        (right.hands_in_camera(hands["right"]), left.hands_in_camera(hands["left"])),
        (right.hands, left.hands),
    ):
        expected = hands["right"](first).vertices * torch.tensor([-1.0, 1.0, 1.0])
        torch.testing.assert_close(hands["left"](second).vertices, expected, atol=2e-5, rtol=0)
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(left.T_camera_object, flip @ right.T_camera_object @ flip, atol=1e-6)


def test_poses_are_told_back_in_the_camera_of_the_image(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    """Where the network says that the root is in the crop, there it projects in the image."""
    network = Saying()
    view = MihoPipeline(hands, network)(make_image(), CAMERA, BOX, ball, "right")
    params = view.hands_in_camera(hands["right"])
    root = hands["right"](params).joints[0, 4].double().numpy()
    pixel = CAMERA.project(root)
    middle, half = 0.5 * (BOX[:2] + BOX[2:]), 0.5 * (BOX[2] - BOX[0])
    np.testing.assert_allclose((pixel - middle) / half, [0.1, -0.05], atol=0.02)
    thing = CAMERA.project(view.T_camera_object[:3, 3])
    np.testing.assert_allclose((thing - middle) / half, [-0.1, -0.15], atol=0.02)
    # how wide the view is at the root: 0.3 m times exp(0.3 times what it says)
    width = np.linalg.norm(root) * 2 * half / 500
    assert width == pytest.approx(0.3 * np.exp(0.06), rel=0.03)


def test_another_frame_of_the_mesh_gives_the_same_surface(hands: dict[Side, HandModel], mug: ObjectModel) -> None:
    turn = Rotation.from_rotvec([0.5, -0.2, 2.0]).as_matrix().astype(np.float32)
    shift = np.array([0.02, -0.05, 0.01], np.float32)
    moved = replace(
        mug,
        vertices=mug.vertices @ turn.T + shift,
        points=mug.points @ turn.T + shift,
        normals=mug.normals @ turn.T,
    )
    pipeline = MihoPipeline(hands, Saying())
    first, second = (pipeline(make_image(), CAMERA, BOX, one, "left") for one in (mug, moved))

    def placed(view: GraspInView, thing: ObjectModel) -> np.ndarray:
        return thing.points @ view.T_camera_object[:3, :3].T + view.T_camera_object[:3, 3]

    np.testing.assert_allclose(placed(second, moved), placed(first, mug), atol=1e-5)
    cameras = [hands["left"](view.hands_in_camera(hands["left"])).vertices for view in (first, second)]
    torch.testing.assert_close(cameras[0], cameras[1], atol=2e-5, rtol=0)


def test_picr_sees_the_object_where_honet_puts_it(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    network, contact = Saying(), Touching(3)
    view = MihoPipeline(hands, network, contact)(make_image(), CAMERA, BOX, ball, "right")
    assert view.field is not None
    assert not view.refined
    direction = CAMERA.normalise(0.5 * (BOX[:2] + BOX[2:]))
    depth = view.T_camera_object[:3, 3] @ np.append(direction, 1.0) / np.linalg.norm(np.append(direction, 1.0))
    assert float(contact.points[0].mean(dim=0)[2]) == pytest.approx(depth, abs=2e-3)
    springs = view.field.springs(GeoRefiner(hands["right"]).anchors)
    assert springs.count.tolist() == [3 * 3]  # three points, and three anchors on a fingertip
    torch.testing.assert_close(springs.point[0, 0], torch.from_numpy(ball.points[0]))


def test_the_network_s_own_threshold_decides_unless_another_is_named(
    hands: dict[Side, HandModel], ball: ObjectModel
) -> None:
    """The touched points have a probability of 0.9999."""
    touching, refiner = Touching(3), Recording()
    for own, named, count in ((0.5, None, 9), (0.99999, None, 0), (0.99999, 0.5, 9)):
        touching.threshold = own
        pipeline = MihoPipeline(hands, Saying(), touching, {"right": refiner}, named)
        pipeline(make_image(), CAMERA, BOX, ball, "right")
        assert refiner.springs is not None
        assert refiner.springs.count.tolist() == [count]


class Recording:
    """Moves hands and object by a known motion where there are springs."""

    def __init__(self) -> None:
        self.springs: AttractiveSprings | None = None

    def refine(
        self, hands: HandParams, object_model: ObjectModel, springs: AttractiveSprings | None = None
    ) -> GeoResult:
        self.springs = springs
        shift = np.tile(np.eye(4), (len(hands), 1, 1))
        shift[:, 0, 3] = 0.01
        zeros = np.zeros(len(hands))
        return GeoResult(hands, shift, zeros, zeros, zeros, zeros, zeros, [""] * len(hands), 0.0)


def test_the_refiner_s_object_motion_is_in_the_object_s_frame(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    refiner = Recording()
    alone = MihoPipeline(hands, Saying(), Touching(5))(make_image(), CAMERA, BOX, ball, "right")
    moved = MihoPipeline(hands, Saying(), Touching(5), {"right": refiner})(make_image(), CAMERA, BOX, ball, "right")
    assert moved.refined
    assert refiner.springs is not None
    expected = alone.T_camera_object[:3, 3] + 0.01 * alone.T_camera_object[:3, 0]
    np.testing.assert_allclose(moved.T_camera_object[:3, 3], expected, atol=1e-6)


def test_springs_pull_the_finger_to_the_points_that_it_touches(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    geo = GeoRefiner(hands["right"], GeoSettings(move_object=True))
    touching, network = Touching(40), Saying()
    alone = MihoPipeline(hands, network, touching)(make_image(), CAMERA, BOX, ball, "right")
    refined = MihoPipeline(hands, network, touching, {"right": geo})(make_image(), CAMERA, BOX, ball, "right")
    assert refined.refined
    tips = [hands["right"](view.hands).vertices[0][geo.anchors.vertex_region == 5] for view in (alone, refined)]
    target = torch.from_numpy(ball.points[:40]).mean(dim=0)
    before, after = ((tip.mean(dim=0) - target).norm() for tip in tips)
    assert float(after) < 0.5 * float(before)


def test_without_springs_the_hand_stays_as_it_was(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    geo = GeoRefiner(hands["right"], GeoSettings(move_object=True))
    alone = MihoPipeline(hands, Saying(), Touching(0))(make_image(), CAMERA, BOX, ball, "right")
    same = MihoPipeline(hands, Saying(), Touching(0), {"right": geo})(make_image(), CAMERA, BOX, ball, "right")
    assert not same.refined
    torch.testing.assert_close(same.hands.hand_pose, alone.hands.hand_pose)
    np.testing.assert_allclose(same.T_camera_object, alone.T_camera_object)


def test_a_hand_that_is_far_from_the_object_stays_where_it_is(
    hands: dict[Side, HandModel], ball: ObjectModel, caplog: pytest.LogCaptureFixture
) -> None:
    """Springs of certain contact, but from one end of the crop to the other: none pulls, and the answer says so."""
    network, touching = Saying(), Touching(40)
    network.values = (*network.values[:5], torch.tensor([-0.9, 0.9]), torch.tensor(1.5), network.values[7])
    geo = GeoRefiner(hands["right"], GeoSettings(move_object=True))
    alone = MihoPipeline(hands, network, touching)(make_image(), CAMERA, BOX, ball, "right")
    vertices = hands["right"](alone.hands).vertices[0].double().numpy()
    assert np.linalg.norm(vertices, axis=1).min() - 0.03 > LONGEST_SPRING
    same = MihoPipeline(hands, network, touching, {"right": geo})(make_image(), CAMERA, BOX, ball, "right")
    assert not same.refined
    assert "have no springs" in caplog.text
    torch.testing.assert_close(same.hands.transl, alone.hands.transl, atol=0, rtol=0)
    torch.testing.assert_close(same.hands.hand_pose, alone.hands.hand_pose, atol=0, rtol=0)
    np.testing.assert_array_equal(same.T_camera_object, alone.T_camera_object)


@pytest.mark.parametrize("count", [300, 2048])
def test_an_object_has_the_shape_code_that_it_had_in_training(hands: dict[Side, HandModel], count: int) -> None:
    """However many points the object is loaded with."""
    vertices, faces = family_mesh("mug:2")
    network = Saying()
    thing = make_object(vertices, faces, "mug", num_points=count)
    MihoPipeline(hands, network)(make_image(), CAMERA, BOX, thing, "right")
    trained = ObjectTable.of_meshes([(vertices, faces)]).codes
    torch.testing.assert_close(network.told[0], trained, atol=2e-5, rtol=0)


def test_mirroring_twice_changes_nothing(hands: dict[Side, HandModel]) -> None:
    params = replace(HandParams.zeros(1), hand_pose=torch.linspace(-0.5, 0.5, 45)[None], transl=torch.rand(1, 3))
    back = mirrored(mirrored(params))
    assert back.side == "right"
    torch.testing.assert_close(back.hand_pose, params.hand_pose)
    torch.testing.assert_close(back.transl, params.transl)


def test_bad_input_is_told(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    network = Saying()
    with pytest.raises(InputError, match="uint8"):
        MihoPipeline(hands, network)(make_image()[:100], CAMERA, BOX, ball, "right")
    with pytest.raises(InputError, match="no model of a left hand"):
        MihoPipeline({"right": hands["right"]}, network)(make_image(), CAMERA, BOX, ball, "left")
    with pytest.raises(InputError, match="right hands"):
        MihoPipeline({"left": hands["left"]}, network)


class Perceiver:
    """Finds a hand in all frames but one, and the object in the first two."""

    def __init__(self) -> None:
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def perceive(self, frames: list[Frame]) -> list[ObservedFrame]:
        return [ObservedFrame(self._evidence(frame)) for frame in frames]

    def _evidence(self, frame: Frame) -> Evidence:
        keypoints = np.random.default_rng(frame.stamp).uniform([80, 60], [180, 160], (21, 2)).astype(np.float32)
        hand = HandEvidence("left", 0.9, 0.8, np.array([80, 60, 180, 160], np.float32), keypoints)
        thing = ObjectEvidence("ball", 0.7, np.array([170, 100, 230, 150], np.float32))
        found = (hand,) if frame.stamp != 2 else ()
        return Evidence(frame.stamp, frame.camera, found, (thing,) if frame.stamp < 2 else ())


def test_a_clip_gets_one_state_for_every_frame(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    frames = [Frame(stamp, make_image(stamp), CAMERA) for stamp in range(5)]
    pipeline = MihoPipeline(hands, Saying())
    windows = list(MihoReconstructor(Perceiver(), hands, {"ball": ball}, pipeline, 3).reconstruct(iter(frames), 7))
    assert [window.start for window in windows] == [7, 10]
    states = [state for window in windows for state in window.states]
    assert [state.stamp for state in states] == [0, 1, 2, 3, 4]
    assert [len(state.hands) for state in states] == [1, 1, 0, 1, 1]
    assert states[2].status == FitStatus.NOTHING
    assert {state.hands[0].params.side for state in states if state.hands} == {"left"}
    assert all(len(state.contact_maps) == len(state.hands) for state in states)
    expected = pipeline(frames[0].color, CAMERA, crop_box(*_seen(frames[0])), ball, "left")
    np.testing.assert_allclose(states[0].objects[0].T_camera_object, expected.T_camera_object, atol=1e-6)
    vertices = hands["left"](states[0].hands[0].params).vertices
    torch.testing.assert_close(
        vertices, hands["left"](expected.hands_in_camera(hands["left"])).vertices, atol=1e-5, rtol=0
    )


def test_an_object_that_is_not_found_is_held(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    frames = [Frame(stamp, make_image(stamp), CAMERA) for stamp in range(4)]
    reconstructor = MihoReconstructor(Perceiver(), hands, {"ball": ball}, MihoPipeline(hands, Saying()))
    states = [state for window in reconstructor.reconstruct(iter(frames)) for state in window.states]
    scores = [[thing.score for thing in state.objects] for state in states]
    assert scores == [[pytest.approx(0.7)], [pytest.approx(0.7)], [], [0.0]]
    assert states[3].hands[0].score == pytest.approx(0.9)
    assert "ball" not in states[0].status_text
    assert "ball" in states[3].status_text


def _seen(frame: Frame) -> tuple[HandEvidence, list[np.ndarray]]:
    evidence = Perceiver().perceive([frame])[0].evidence
    return evidence.hands[0], [one.box for one in evidence.objects]


def test_the_crop_holds_hand_and_object() -> None:
    hand, boxes = _seen(Frame(0, make_image(), CAMERA))
    box = crop_box(hand, boxes)
    assert (box[:2] < np.minimum(hand.keypoints.min(axis=0), boxes[0][:2])).all()
    assert (box[2:] > np.maximum(hand.keypoints.max(axis=0), boxes[0][2:])).all()
    assert box[2] - box[0] == pytest.approx(box[3] - box[1])


def test_one_object_is_needed(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    with pytest.raises(InputError, match="--object"):
        MihoReconstructor(Perceiver(), hands, {}, MihoPipeline(hands, Saying()))
    with pytest.raises(InputError, match="one object, got a, b"):
        MihoReconstructor(Perceiver(), hands, {"a": ball, "b": ball}, MihoPipeline(hands, Saying()))


def test_moving_with_the_object_is_what_hands_in_camera_means(hands: dict[Side, HandModel]) -> None:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec([0.1, 0.9, -0.4]).as_matrix(), [0.1, 0.0, 0.6]
    view = GraspInView(HandParams.zeros(1), pose)
    expected = hands["right"](view.hands).vertices.double().numpy() @ pose[:3, :3].T + pose[:3, 3]
    found = hands["right"](move_hands(view.hands, pose, hands["right"])).vertices
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(
        hands["right"](view.hands_in_camera(hands["right"])).vertices.numpy(), expected, atol=1e-5
    )
