"""The joint fit on small synthetic clips of which everything is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.pose_metrics import add_s
from grasp_nodes.fitting.homan import losses
from grasp_nodes.fitting.homan.descent import Descent, descend
from grasp_nodes.fitting.homan.joint_fit import JointFit, JointFitSettings, JointFitter
from grasp_nodes.fitting.homan.losses import contact_zones
from grasp_nodes.fitting.homan.objective import Objective, frame_gaps
from grasp_nodes.fitting.homan.observation import read_images
from grasp_nodes.fitting.homan.proxies import make_proxy
from grasp_nodes.fitting.homan.settings import PAPER_HOMAN
from grasp_nodes.fitting.homan.variables import CENTER_JOINT, ClipVariables
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.geometry.silhouette import rasterise_depth
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.boxes import box_of_mask
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence, ObservedFrame

FRAMES = 6
CAMERA = CameraModel(np.array([[300.0, 0.0, 159.5], [0.0, 300.0, 119.5], [0.0, 0.0, 1.0]]), 320, 240)
FAST = JointFitSettings(iterations=(40, 60), window=64)
TERMS = (
    "obj",
    "v2d",
    "pca",
    "scale",
    "smooth",
    "centroid",
    "local",
    "collision",
    "holding",
    "depth",
    "start",
    "anatomy",
)


@pytest.fixture(scope="module")
def models() -> dict[Side, HandModel]:
    return {side: load_hand_model(side, OPEN_HAND_FILE) for side in ("right", "left")}


@pytest.fixture(scope="module")
def block() -> ObjectModel:
    return load_object("box:0.05,0.09,0.04", "block", resolution=48)


def posed(models: dict[Side, HandModel], track: HandTrack) -> np.ndarray:
    """(T, 778, 3), m."""
    return models[track.params.side](track.params).vertices.double().numpy()


def hand_track(
    models: dict[Side, HandModel], side: Side = "right", offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> HandTrack:
    """A half-closed hand, seen from its little finger's side, that moves to the right and turns."""
    hand_pose = (0.35 * models[side].hands_mean).repeat(FRAMES, 1)
    turn = Rotation.from_euler("zyx", np.linspace([0, 0, 0], [0.15, 0.1, 0.1], FRAMES)) * Rotation.from_euler("x", 0.5)
    place = np.linspace([-0.02, 0.02, 0.45], [0.03, 0.03, 0.47], FRAMES) + np.array(offset)
    params = HandParams(
        torch.from_numpy(turn.as_rotvec()).float(),
        hand_pose,
        torch.zeros(FRAMES, 10),
        torch.from_numpy(place).float(),
        torch.ones(FRAMES),
        side,
    )
    every = np.ones(FRAMES, bool)
    return HandTrack(params, every, every.astype(float), ~every, 1 if side == "right" else 2)


def object_track(models: dict[Side, HandModel], hand: HandTrack, block: ObjectModel, gap: float = 5e-4) -> ObjectTrack:
    """The block before the palm, moving with the hand, `gap` (m) away from the nearest vertex; negative: inside."""
    frames = models[hand.params.side](hand.params).joint_frames.double().numpy()[:, 0]
    in_hand = (posed(models, hand)[0] - frames[0, :3, 3]) @ frames[0, :3, :3]
    surface = MeshDistance(block.vertices.astype(np.float64), block.faces)
    middle = in_hand.mean(axis=0)
    inside, outside = 0.0, 0.12
    for _ in range(25):
        step = 0.5 * (inside + outside)
        distance = surface.signed(in_hand - middle - [0.0, -step, 0.0])[0].min()
        inside, outside = (inside, step) if distance > gap else (step, outside)
    T_hand_object = np.eye(4)
    T_hand_object[:3, 3] = middle + [0.0, -outside, 0.0]
    every = np.ones(FRAMES, bool)
    return ObjectTrack("block", frames @ T_hand_object, every, every.astype(float), np.full(FRAMES, np.nan), ~every)


def observe(
    models: dict[Side, HandModel], hands: list[HandTrack], objects: list[ObjectTrack], block: ObjectModel
) -> list[ObservedFrame]:
    """Masks and exact depth, a table 0.8 m away behind everything."""
    vertices = [posed(models, hand) for hand in hands]
    result = []
    for t in range(FRAMES):
        meshes = [(own[t], closed_faces(models["right"].faces.numpy())) for own in vertices]
        for item in objects:
            T = item.T_camera_object[t]
            meshes.append((block.vertices @ T[:3, :3].T + T[:3, 3], block.faces))
        starts = np.cumsum([0, *(len(own) for own, _ in meshes)])
        faces = np.concatenate([own + start for (_, own), start in zip(meshes, starts, strict=False)])
        owner = np.repeat(np.arange(len(meshes)), [len(own) for _, own in meshes])
        points = np.concatenate([own for own, _ in meshes])
        depth, face = rasterise_depth(CAMERA.project(points)[None], points[None, :, 2], faces, 240, 320)
        label = np.where(face[0] >= 0, owner[face[0]], -1)
        seen_hands, seen_objects = [], []
        for k, hand in enumerate(hands):
            mask = label == k
            box = box_of_mask(mask)
            assert box is not None
            keypoints = np.zeros((21, 2), np.float32)
            seen_hands.append(
                HandEvidence(hand.params.side, 1.0, 1.0, box, keypoints, mask=mask, track_id=hand.track_id)
            )
        for k, item in enumerate(objects):
            mask = label == len(hands) + k
            box = box_of_mask(mask)
            assert box is not None
            seen_objects.append(ObjectEvidence(item.object_id, 1.0, box, mask))
        evidence = Evidence(t, CAMERA, tuple(seen_hands), tuple(seen_objects))
        result.append(ObservedFrame(evidence, np.where(label >= 0, depth[0], 0.8).astype(np.float32)))
    return result


def disturbed(
    hand: HandTrack, item: ObjectTrack, place: float = 0.02, angle: float = np.deg2rad(10), seed: int = 0
) -> tuple[HandTrack, ObjectTrack]:
    """Both moved and turned, each by one motion for all frames and a third of it per frame."""
    rng = np.random.default_rng(seed)

    def motion() -> tuple[Rotation, np.ndarray]:
        direction, axis = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
        turns = Rotation.from_rotvec(rng.normal(0, angle / 5, (FRAMES, 3))) * Rotation.from_rotvec(angle * axis)
        return turns, place * direction + rng.normal(0, place / 5, (FRAMES, 3))

    turn, move = motion()
    params = replace(
        hand.params,
        global_orient=torch.from_numpy(
            (turn * Rotation.from_rotvec(hand.params.global_orient.numpy())).as_rotvec()
        ).float(),
        transl=hand.params.transl + torch.from_numpy(move).float(),
    )
    turn, move = motion()
    poses = item.T_camera_object.copy()
    poses[:, :3, :3] = turn.as_matrix() @ poses[:, :3, :3]
    poses[:, :3, 3] += move
    return replace(hand, params=params), replace(item, T_camera_object=poses)


def hand_error(models: dict[Side, HandModel], track: HandTrack, truth: HandTrack) -> float:
    return float(np.linalg.norm(posed(models, track) - posed(models, truth), axis=-1).mean())


def object_error(track: ObjectTrack, truth: ObjectTrack, block: ObjectModel) -> float:
    pairs = zip(track.T_camera_object, truth.T_camera_object, strict=True)
    return float(np.mean([add_s(own, true, block.points) for own, true in pairs]))


def deepest(models: dict[Side, HandModel], hand: HandTrack, item: ObjectTrack, block: ObjectModel) -> float:
    surface = MeshDistance(block.vertices.astype(np.float64), block.faces)
    T = item.T_camera_object
    local = np.einsum("tvi,tij->tvj", posed(models, hand) - T[:, None, :3, 3], T[:, :3, :3])
    return -float(surface.signed(local.reshape(-1, 3))[0].min())


class TestVariables:
    @pytest.mark.parametrize("side", ["right", "left"])
    def test_tracks_come_back(self, models: dict[Side, HandModel], block: ObjectModel, side: Side) -> None:
        hand = hand_track(models, side)
        generator = torch.Generator().manual_seed(3)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator)

        params = replace(
            hand.params,
            hand_pose=0.3 * noise(FRAMES, 45),
            betas=noise(1, 10).repeat(FRAMES, 1),
            global_orient=noise(FRAMES, 3),
            scale=torch.full((FRAMES,), 1.07),
        )
        hand = replace(hand, params=params)
        item = replace(object_track(models, hand_track(models), block), scale=0.9)
        variables = ClipVariables([hand], [item], models)
        back = variables.hand_params(variables.initial, 0)
        again = models[side](back)
        expected = models[side](params)
        assert torch.allclose(again.vertices, expected.vertices, atol=2e-6)
        for name in ("hand_pose", "betas", "transl", "scale", "global_orient"):
            assert torch.allclose(getattr(back, name), getattr(params, name), atol=5e-6), name
        poses, scale = variables.object_poses(variables.initial, 0)
        np.testing.assert_allclose(poses, item.T_camera_object, atol=1e-6)
        assert scale == pytest.approx(0.9)

    def test_translation_is_the_middle_knuckle_for_any_scale(self, models: dict[Side, HandModel]) -> None:
        variables = ClipVariables([hand_track(models)], [], models)
        vector = variables.initial.clone()
        vector[variables.kind == 3] = 1.3
        before = models["right"](variables.hand_params(variables.initial, 0)).joints[:, CENTER_JOINT]
        after = models["right"](variables.hand_params(vector, 0)).joints[:, CENTER_JOINT]
        assert torch.allclose(variables.read(vector)[0][0].translation, before, atol=1e-6)
        assert torch.allclose(before, after, atol=1e-6)

    def test_lost_frame_begins_as_its_neighbour(self, models: dict[Side, HandModel]) -> None:
        hand = hand_track(models)
        hand.params.transl[0] = torch.nan
        variables = ClipVariables([hand], [], models)
        found = variables.hand_params(variables.initial, 0)
        assert torch.allclose(found.transl[0], hand.params.transl[1], atol=1e-6)

    def test_refuses_a_track_that_is_lost_throughout(self, models: dict[Side, HandModel]) -> None:
        hand = replace(hand_track(models), lost=np.ones(FRAMES, bool))
        with pytest.raises(InputError, match="hand track 1: every frame is lost"):
            ClipVariables([hand], [], models)


class TestObjective:
    def test_posed_as_the_hand_model_poses(self, models: dict[Side, HandModel], block: ObjectModel) -> None:
        right, left = hand_track(models), hand_track(models, "left", (0.1, 0.0, 0.1))
        item = object_track(models, right, block)
        frames = observe(models, [right, left], [item], block)
        variables = ClipVariables([right, left], [item], models)
        objective = Objective(variables, frames, read_images(frames, True), models, [make_proxy(block)], FAST)
        clip = objective.pose(variables.initial)
        np.testing.assert_allclose(clip.vertices[0].numpy(), posed(models, right), atol=2e-6)
        np.testing.assert_allclose(clip.vertices[1].numpy(), posed(models, left), atol=2e-6)

    @pytest.mark.parametrize("order", [1, 2])
    def test_smoothness_of_an_object_is_that_of_all_its_vertices(
        self, models: dict[Side, HandModel], block: ObjectModel, order: int
    ) -> None:
        item = disturbed(hand_track(models), object_track(models, hand_track(models), block))[1]
        frames = observe(models, [], [item], block)
        variables = ClipVariables([], [item], models)
        settings = JointFitSettings(smooth=1.0, smooth_order=order)
        proxy = make_proxy(block)
        terms = Objective(variables, frames, read_images(frames, False), models, [proxy], settings)
        T = torch.from_numpy(item.T_camera_object)
        vertices = proxy.vertices.double() @ T[:, :3, :3].transpose(1, 2) + T[:, None, :3, 3]
        expected = losses.smoothness_loss(vertices if order == 1 else vertices.diff(dim=0))
        found = terms.terms(variables.initial, False)["smooth"]
        assert float(found) == pytest.approx(float(expected), rel=1e-3)

    @pytest.mark.parametrize(("order", "per_frame"), [(1, (1 + 3 + 1 + 2 + 1) / 5 * 0.006**2), (2, 0.0)])
    def test_constant_velocity_is_as_smooth_where_frames_are_missing(
        self, models: dict[Side, HandModel], block: ObjectModel, order: int, per_frame: float
    ) -> None:
        shown = np.array([0, 1, 4, 5, 7, 8])
        item = object_track(models, hand_track(models), block)
        poses = np.tile(item.T_camera_object[0], (FRAMES, 1, 1))
        poses[:, 0, 3] += 0.006 * shown
        item = replace(item, T_camera_object=poses)
        frames = [
            replace(frame, evidence=replace(frame.evidence, stamp=int(row * 1e9 / 30)))
            for frame, row in zip(observe(models, [], [item], block), shown, strict=True)
        ]
        variables = ClipVariables([], [item], models)
        settings = JointFitSettings(smooth=1.0, smooth_order=order)
        objective = Objective(variables, frames, read_images(frames, False), models, [make_proxy(block)], settings)
        found = objective.terms(variables.initial, False)["smooth"]
        assert float(found) == pytest.approx(per_frame, rel=1e-3, abs=1e-10)

    def test_frames_without_time_are_one_step_apart(self) -> None:
        assert frame_gaps(np.zeros(3, np.int64)).tolist() == [1.0, 1.0]
        assert frame_gaps(np.array([0, 10**9], np.int64)).tolist() == [30.0]

    @pytest.mark.parametrize("use_depth", [True, False])
    def test_gradient_is_that_of_finite_differences(
        self, models: dict[Side, HandModel], block: ObjectModel, use_depth: bool
    ) -> None:
        hand = hand_track(models)
        item = object_track(models, hand, block, gap=-0.004)
        frames = observe(models, [hand], [item], block)
        # Silhouettes are piecewise: their own tests compare their gradient.
        # Centroids and holding move the hand alone, whatever their value depends on, and the planes by which a point is
        # in the hand are held for a step; collision and contact with the object's field have tests of their own.
        settings = replace(FAST, obj=0.0, centroid=0.0, holding=0.0, collision=0.0)
        start = disturbed(hand, item, 0.003, 0.03)
        variables = ClipVariables([start[0]], [start[1]], models)
        images = read_images(frames, use_depth)
        objective = Objective(variables, frames, images, models, [make_proxy(block)], settings)
        generator = torch.Generator().manual_seed(0)
        # Not at the start, where what keeps to it has no slope.
        place = variables.initial + 1e-2 * torch.randn(len(variables.initial), generator=generator)
        leaf = place.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(torch.stack(list(objective.terms(leaf, True).values())).sum(), leaf)
        for _ in range(4):
            step = 2e-5 * torch.randn(len(leaf), generator=generator)
            ahead, behind = (
                float(torch.stack(list(objective.terms(place + sign * step, True).values())).sum()) for sign in (1, -1)
            )
            assert 0.5 * (ahead - behind) == pytest.approx(float(gradient @ step), rel=0.03)

    def test_a_needle_through_the_palm_collides_though_no_vertex_of_the_hand_is_inside(
        self, models: dict[Side, HandModel]
    ) -> None:
        needle = load_object("box:0.001,0.09,0.001", "needle", resolution=48)
        hand = hand_track(models)
        item = object_track(models, hand, needle)
        frames = observe(models, [hand], [item], needle)
        centers = posed(models, hand)[:, models["right"].faces.numpy()].mean(2)  # of triangles: away from vertices
        palm = posed(models, hand)[0, contact_zones(models["right"])[-1]].mean(0)
        middle = centers[:, np.linalg.norm(centers[0] - palm, axis=1).argmin()]
        pierced = item.T_camera_object.copy()
        pierced[:, :3, 3] = middle

        def collision(track: ObjectTrack) -> float:
            variables = ClipVariables([hand], [track], models)
            images = read_images(frames, False)
            objective = Objective(variables, frames, images, models, [make_proxy(needle)], FAST)
            return float(objective.terms(variables.initial, True)["collision"])

        inverse = np.linalg.inv(pierced)
        own = np.einsum("tij,tvj->tvi", inverse[:, :3, :3], posed(models, hand)) + inverse[:, None, :3, 3]
        assert not (np.abs(own) < [0.0005, 0.045, 0.0005]).all(axis=2).any()
        assert collision(replace(item, T_camera_object=pierced)) > 10 * collision(item)


class TestJointFit:
    @pytest.fixture(scope="class")
    def clip(
        self, models: dict[Side, HandModel], block: ObjectModel
    ) -> tuple[list[ObservedFrame], HandTrack, ObjectTrack]:
        hand = hand_track(models)
        item = object_track(models, hand, block)
        return observe(models, [hand], [item], block), hand, item

    @pytest.fixture(scope="class")
    def fitter(self, models: dict[Side, HandModel], block: ObjectModel) -> JointFitter:
        return JointFitter(models, {"block": block}, FAST)

    def test_disturbed_clip_comes_near_to_the_truth(
        self,
        models: dict[Side, HandModel],
        block: ObjectModel,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
    ) -> None:
        frames, hand, item = clip
        start = disturbed(hand, item)
        # Landmarks that are off by 2 cm and 10 degrees are no evidence: the depth has to bring the hand home.
        settings = replace(FAST, v2d=0.5, start=0.0, iterations=(120, 80))
        threads = torch.get_num_threads()
        fit = JointFitter(models, {"block": block}, settings).fit(frames, [start[0]], [start[1]])
        assert torch.get_num_threads() == threads
        assert object_error(start[1], item, block) > 0.008
        assert object_error(fit.objects[0], item, block) < 0.002
        assert hand_error(models, start[0], hand) > 0.015
        assert hand_error(models, fit.hands[0], hand) < 0.008
        assert deepest(models, fit.hands[0], fit.objects[0], block) < 0.002
        assert not fit.hands[0].lost.any()
        assert fit.seconds > 0

    def test_colour_alone_brings_the_object_home(
        self,
        block: ObjectModel,
        fitter: JointFitter,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
    ) -> None:
        frames, hand, item = clip
        start = disturbed(hand, item, place=0.01)[1]
        fit = fitter.fit(frames, [hand], [start], use_depth=False)
        assert "depth" not in fit.losses
        assert object_error(fit.objects[0], item, block) < 0.6 * object_error(start, item, block)

    def test_masks_of_colour_that_miss_a_part_draw_a_well_placed_object_less_far(
        self,
        models: dict[Side, HandModel],
        block: ObjectModel,
        fitter: JointFitter,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
    ) -> None:
        frames, _, item = clip
        cut = []
        for frame in frames:
            found = frame.evidence.objects[0]
            assert found.mask is not None
            mask = found.mask.copy()
            mask[:, : int(found.box[0] + 0.3 * (found.box[2] - found.box[0]))] = False
            evidence = replace(frame.evidence, objects=(replace(found, mask=mask),))
            cut.append(replace(frame, evidence=evidence, depth=None))
        free = JointFitter(models, {"block": block}, replace(FAST, object_start=0.0))
        drawn, kept = (object_error(used.fit(cut, [], [item]).objects[0], item, block) for used in (free, fitter))
        assert drawn > 0.01
        assert kept < 0.8 * drawn

    def test_collisions_disappear(self, models: dict[Side, HandModel], block: ObjectModel, fitter: JointFitter) -> None:
        hand = hand_track(models)
        item = object_track(models, hand, block, gap=-0.006)
        frames = [replace(frame, depth=None) for frame in observe(models, [hand], [item], block)]
        fit = fitter.fit(frames, [hand], [item])
        assert deepest(models, hand, item, block) > 0.0055
        assert deepest(models, fit.hands[0], fit.objects[0], block) < 0.0015

    def test_without_depth_hands_move_out_of_objects_and_keep_their_shape(
        self, models: dict[Side, HandModel], block: ObjectModel, fitter: JointFitter
    ) -> None:
        hand = hand_track(models)
        item = object_track(models, hand, block, gap=-0.006)
        frames = [replace(frame, depth=None) for frame in observe(models, [hand], [item], block)]
        free = JointFitter(models, {"block": block}, replace(FAST, shape=0.0))
        reshaped = []
        for used in (fitter, free):
            fit = used.fit(frames, [hand], [item])
            before, after = posed(models, hand), posed(models, fit.hands[0])
            own = (after - after.mean(1, keepdims=True)) - (before - before.mean(1, keepdims=True))
            reshaped.append(np.sqrt((own**2).sum(2).mean()))
            assert ("shape" in fit.losses) == (used is fitter)
            assert deepest(models, fit.hands[0], fit.objects[0], block) < 0.002
        assert reshaped[0] < 0.0015
        assert reshaped[0] < 0.5 * reshaped[1]

    @pytest.mark.parametrize("name", TERMS)
    def test_weight_zero_removes_a_term(
        self,
        models: dict[Side, HandModel],
        block: ObjectModel,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
        name: str,
    ) -> None:
        frames, hand, item = clip
        settings = replace(FAST, iterations=(1, 1))
        every = JointFitter(models, {"block": block}, settings).fit(frames, [hand], [item])
        fewer = replace(settings, **{name: 0.0})  # type: ignore[arg-type]
        without = JointFitter(models, {"block": block}, fewer).fit(frames, [hand], [item])
        assert set(every.losses) == {*TERMS, "total"}
        # Without depth starts are believed less: the hand's shape, the object's place.
        gone, come = ({"depth", "start"}, {"shape", "object_start"}) if name == "depth" else ({name}, set())
        assert set(without.losses) == ({*TERMS, "total"} - gone) | come

    def test_the_papers_settings_leave_its_eight_losses_with_its_weights(
        self,
        models: dict[Side, HandModel],
        block: ObjectModel,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
    ) -> None:
        frames, hand, item = clip
        few = replace(PAPER_HOMAN, iterations=(1, 1), scale_free=True)
        fit = JointFitter(models, {"block": block}, few).fit(frames, [hand], [item])
        eight = {"obj", "v2d", "pca", "scale", "smooth", "centroid", "local", "collision"}
        assert set(fit.losses) == {*eight, "total"}
        # Supplementary section C, and the two passes of section 3.
        weights = {"obj": 1, "v2d": 50, "pca": 0.004, "scale": 0.001, "smooth": 2000, "centroid": 1, "local": 1}
        assert {name: getattr(PAPER_HOMAN, name) for name in (*weights, "collision")} == {**weights, "collision": 0.001}
        assert (PAPER_HOMAN.smooth_order, PAPER_HOMAN.iterations, PAPER_HOMAN.early_stop) == (1, (200, 200), False)
        assert (PAPER_HOMAN.rotation_rate, PAPER_HOMAN.translation_rate) == (0.1, 0.01)
        assert PAPER_HOMAN.rate_start == PAPER_HOMAN.rate_end == 1.0

    def test_frames_without_measured_depth_stay_near_their_start_like_clips_without(
        self,
        models: dict[Side, HandModel],
        block: ObjectModel,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
    ) -> None:
        """Depth has a hole where hand and block are, in one frame, whose mask misses a part of the block."""
        frames, hand, item = clip
        hole, holed = 3, list(frames)
        found = frames[hole].evidence.objects[0]
        assert found.mask is not None
        mask = found.mask.copy()
        mask[:, : int(found.box[0] + 0.3 * (found.box[2] - found.box[0]))] = False
        evidence = replace(frames[hole].evidence, objects=(replace(found, mask=mask),))
        holed[hole] = replace(frames[hole], evidence=evidence, depth=np.zeros_like(frames[hole].depth))
        settings = replace(FAST, iterations=(30, 0), smooth=0.0, centroid=0.0)
        moved = []
        for weight in (0.0, 1e5):
            weights = replace(settings, object_start=weight, shape=weight)
            fit = JointFitter(models, {"block": block}, weights).fit(holed, [hand], [item])
            assert {"shape", "object_start"} <= set(fit.losses) if weight else "shape" not in fit.losses
            assert {"depth", "start"} <= set(fit.losses)
            places = fit.objects[0].T_camera_object[:, :3, 3] - item.T_camera_object[:, :3, 3]
            moved.append(np.linalg.norm(places, axis=1))
        assert moved[0][hole] > 2e-3
        assert moved[1][hole] < 0.5 * moved[0][hole]
        others = np.arange(len(frames)) != hole
        assert np.abs(moved[1] - moved[0])[others].max() < 2e-4

    def test_motion_before_a_moving_camera_says_nothing_of_holding(
        self, models: dict[Side, HandModel], block: ObjectModel, fitter: JointFitter
    ) -> None:
        """Hand and block rest, two centimetres apart, and the camera moves past them."""
        hand = hand_track(models)
        item = object_track(models, hand, block, gap=0.02)
        frames = observe(models, [hand], [item], block)
        held = fitter.fit(frames, [hand], [item], use_depth=False)
        free = fitter.fit([replace(frame, camera_moves=True) for frame in frames], [hand], [item], use_depth=False)
        assert max(held.losses["holding"]) > 0.01
        assert max(free.losses["holding"]) == 0

    def test_frame_with_nan_is_lost_and_the_rest_kept(
        self,
        models: dict[Side, HandModel],
        fitter: JointFitter,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
    ) -> None:
        frames, hand, item = clip
        params = replace(hand.params, hand_pose=hand.params.hand_pose.clone())
        params.hand_pose[2, 7] = torch.nan
        poses = item.T_camera_object.copy()
        poses[4] = np.nan
        fit = fitter.fit(frames, [replace(hand, params=params)], [replace(item, T_camera_object=poses)])
        assert fit.hands[0].lost.tolist() == [False, False, True, False, False, False]
        assert fit.objects[0].lost.tolist() == [False, False, False, False, True, False]
        assert np.isfinite(fit.objects[0].T_camera_object).all()
        error = np.linalg.norm(posed(models, fit.hands[0]) - posed(models, hand), axis=-1).mean(axis=1)
        assert (error < 0.004).all()  # the lost one is carried by its neighbours

    def test_track_that_is_lost_throughout_comes_back(
        self, fitter: JointFitter, clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack]
    ) -> None:
        frames, hand, item = clip
        gone = replace(item, T_camera_object=np.full((FRAMES, 4, 4), np.nan))
        fit = fitter.fit(frames, [hand], [gone])
        assert fit.objects[0].lost.all()
        assert not fit.hands[0].lost.any()
        assert fitter.fit(frames, [], []).losses == {}

    def test_anchored_frames_stay_and_hold_their_neighbours(
        self, fitter: JointFitter, clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack]
    ) -> None:
        frames, hand, item = clip
        start = disturbed(hand, item, 0.004, 0.02)
        anchored = np.arange(FRAMES) < 2
        fit = fitter.fit(frames, [start[0]], [start[1]], anchored=anchored)
        for name in ("global_orient", "hand_pose", "betas", "transl", "scale"):
            assert torch.equal(getattr(fit.hands[0].params, name)[:2], getattr(start[0].params, name)[:2]), name
        assert torch.equal(fit.hands[0].params.scale, start[0].params.scale)
        np.testing.assert_array_equal(fit.objects[0].T_camera_object[:2], start[1].T_camera_object[:2])
        assert not np.allclose(fit.objects[0].T_camera_object[2:], start[1].T_camera_object[2:], atol=1e-5)

    def test_two_hands_and_one_object(
        self, models: dict[Side, HandModel], block: ObjectModel, fitter: JointFitter
    ) -> None:
        right = hand_track(models)
        left = hand_track(models, "left", (0.0, 0.004, 0.012))
        item = object_track(models, right, block)
        frames = observe(models, [right, left], [item], block)
        fit = fitter.fit(frames, [right, left], [item], use_depth=False)
        assert [track.params.side for track in fit.hands] == ["right", "left"]
        assert not any(track.lost.any() for track in fit.hands)
        # The left hand begins inside the right one.
        assert apart(models, fit.hands) > apart(models, [right, left]) + 0.002

    def test_without_any_term_nothing_moves(
        self,
        models: dict[Side, HandModel],
        block: ObjectModel,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
    ) -> None:
        frames, hand, item = clip
        nothing = replace(FAST, iterations=(3, 3), **dict.fromkeys((*TERMS, "shape", "object_start"), 0.0))  # type: ignore[arg-type]
        fit = JointFitter(models, {"block": block}, nothing).fit(frames, [hand], [item])
        assert set(fit.losses) == {"total"}
        np.testing.assert_allclose(posed(models, fit.hands[0]), posed(models, hand), atol=2e-6)
        np.testing.assert_allclose(fit.objects[0].T_camera_object, item.T_camera_object, atol=1e-6)

    def test_same_input_same_answer(
        self,
        models: dict[Side, HandModel],
        block: ObjectModel,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
    ) -> None:
        frames, hand, item = clip
        start = disturbed(hand, item, 0.005, 0.05)
        fits: list[JointFit] = [
            JointFitter(models, {"block": block}, replace(FAST, iterations=(5, 5))).fit(frames, [start[0]], [start[1]])
            for _ in range(2)
        ]
        assert torch.equal(fits[0].hands[0].params.transl, fits[1].hands[0].params.transl)
        np.testing.assert_array_equal(fits[0].objects[0].T_camera_object, fits[1].objects[0].T_camera_object)

    def test_free_scale_finds_the_objects_size(
        self,
        models: dict[Side, HandModel],
        block: ObjectModel,
        clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack],
    ) -> None:
        frames, hand, item = clip
        settings = replace(FAST, scale_free=True, iterations=(80, 60))
        fit = JointFitter(models, {"block": block}, settings).fit(frames, [hand], [replace(item, scale=1.1)])
        assert fit.objects[0].scale == pytest.approx(1.0, abs=0.03)

    def test_refuses_what_does_not_fit_together(
        self, fitter: JointFitter, clip: tuple[list[ObservedFrame], HandTrack, ObjectTrack]
    ) -> None:
        frames, hand, item = clip
        with pytest.raises(InputError, match="hand track 1: expected 5 frames"):
            fitter.fit(frames[:5], [hand], [])
        with pytest.raises(InputError, match="'cup': no such object model"):
            fitter.fit(frames, [], [replace(item, object_id="cup")])
        seen = frames[1].evidence.objects[0]
        small = replace(seen, mask=np.ones((10, 10), bool))
        bad = replace(frames[1], evidence=replace(frames[1].evidence, objects=(small,)))
        with pytest.raises(InputError, match="frame 1: object mask: expected the camera's size"):
            fitter.fit([frames[0], bad, *frames[2:]], [], [item])


def apart(models: dict[Side, HandModel], hands: list[HandTrack] | tuple[HandTrack, ...]) -> float:
    """m, mean over the frames of the signed distance of the second hand's deepest vertex to the first hand."""
    first, second = (posed(models, track) for track in hands)
    faces = closed_faces(models["right"].faces.numpy())
    depths = [MeshDistance(first[t], faces).signed(second[t])[0].min() for t in range(FRAMES)]
    return float(np.mean(depths))


class TestDescent:
    def test_gradient_without_any_finite_number_is_warned_of_once(
        self, models: dict[Side, HandModel], caplog: pytest.LogCaptureFixture
    ) -> None:
        variables = ClipVariables([hand_track(models)], [], models)
        state = Descent.start(variables, torch.zeros(FRAMES, dtype=torch.bool), False)
        with caplog.at_level("WARNING"):
            descend(
                state,
                variables,
                lambda vector: {"sick": (vector * torch.nan).sum()},
                lambda _: None,
                5,
                JointFitSettings(),
            )
        assert [record.message.split(":")[0] for record in caplog.records] == ["joint fit"]
        torch.testing.assert_close(state.vector, variables.initial)

    def test_frame_whose_gradient_is_not_finite_goes_back_and_the_others_go_on(
        self, models: dict[Side, HandModel], block: ObjectModel
    ) -> None:
        item = object_track(models, hand_track(models), block)
        variables = ClipVariables([], [item], models)
        goal = variables.read(variables.initial)[1][0].translation + 0.05

        def terms(vector: torch.Tensor) -> dict[str, torch.Tensor]:
            place = variables.read(vector)[1][0].translation
            error = (place - goal).square()
            weight = torch.ones(FRAMES, 1)
            if (place[3] - goal[3]).abs().max() < 0.045:
                weight[3] = torch.nan
            return {"toy": (weight * error).sum()}

        state = Descent.start(variables, torch.zeros(FRAMES, dtype=torch.bool), False)
        descend(state, variables, terms, lambda _: None, 200, replace(FAST, early_stop=False, rate_start=0.3))
        place = variables.read(state.vector)[1][0].translation
        assert state.diverged[0].tolist() == [False, False, False, True, False, False]
        assert torch.allclose(place[3], goal[3] - 0.05, atol=1e-6)
        others = [0, 1, 2, 4, 5]
        assert torch.allclose(place[others], goal[others], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obj": -1.0}, "obj"),
        ({"iterations": (1, -1)}, "iterations"),
        ({"smooth_order": 3}, "smooth_order"),
        ({"window": 4}, "window"),
        ({"rate_start": 0.001, "rate_end": 0.01}, "rate_end"),
    ],
)
def test_settings_refuse(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(FAST, **changes)  # type: ignore[arg-type]
