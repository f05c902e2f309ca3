"""``grasp-nodes reconstruct`` as a user calls it: what it writes, how it goes on, and what it makes of bad input."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import trimesh
from rosbags.highlevel import AnyReader

from grasp_nodes.cli import app as app_module
from grasp_nodes.cli.reconstruction import outputs, setup
from grasp_nodes.cli.reconstruction.many import ManyResults, read_list, reconstruct_one
from grasp_nodes.cli.reconstruction.report import StateSummary
from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, ObjectState
from grasp_nodes.data.clip_files import ClipInfo, ClipTruth, write_clip_info, write_image, write_truth
from grasp_nodes.data.clip_readers import ClipSource
from grasp_nodes.data.message_types import typestore
from grasp_nodes.data.trajectory_files import read_trajectory
from grasp_nodes.data.video_sources import VideoSource
from grasp_nodes.errors import MissingDependencyError
from grasp_nodes.export.sampling import SamplingOptions, sample
from grasp_nodes.export.sources import SourceOptions, open_recording
from grasp_nodes.fitting.clip_states import clip_states
from grasp_nodes.fitting.reconstruction import WindowResult
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.paths import working_alone
from grasp_nodes.perception import hand_landmarks
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence
from grasp_nodes.viewer.overlay_video import OverlayVideo
from grasp_nodes.viewer.state_pictures import StatePainter

FRAMES, WINDOW, FPS = 7, 3, 30.0
CAMERA = CameraModel(np.array([[100.0, 0, 47.5], [0, 100.0, 35.5], [0, 0, 1]]), 96, 72)
RADIUS = 0.04
BALL = f"sphere:{RADIUS}"
Call = Callable[..., tuple[int, str, str]]


def params(row: int) -> HandParams:
    """A right hand half a metre away that moves evenly to the right."""
    return replace(HandParams.zeros(1), transl=torch.tensor([[0.002 * row - 0.05, 0.0, 0.5]]))


def pose(row: int) -> np.ndarray:
    """A ball beside it."""
    result = np.eye(4)
    result[:3, 3] = [0.1, 0.002 * row, 0.55]
    return result


@pytest.fixture(scope="session")
def hand_model() -> Any:
    return load_hand_model("right")


@pytest.fixture(scope="session")
def ball() -> Any:
    return load_object(BALL)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip of grey frames that brighten, without truth or object."""
    return make_clip(tmp_path / "clip", FRAMES)


def make_clip(folder: Path, frames: int, camera: CameraModel = CAMERA) -> Path:
    (folder / "color").mkdir(parents=True)
    for row in range(frames):
        picture = np.full((camera.height, camera.width, 3), (40 + 10 * row) % 256, np.uint8)
        write_image(folder / "color" / f"{row:06d}.png", picture)
    write_clip_info(folder, ClipInfo(frames, FPS, camera))
    return folder


def with_truth(folder: Path, hand_model: Any) -> None:
    """Give a clip the truth of `params` and `pose`."""
    hands = [params(row) for row in range(FRAMES)]
    states = [hand_states(hand, hand_model)[0] for hand in hands]
    names = ("global_orient", "hand_pose", "betas", "transl", "scale")
    write_truth(
        folder,
        ClipTruth(
            stamps=np.arange(FRAMES) * 33_333_333 + 10**18,
            **{name: torch.cat([getattr(hand, name) for hand in hands]).double().numpy() for name in names},
            side="right",
            keypoints=np.stack([state.keypoints for state in states]),
            T_camera_object=np.stack([pose(row) for row in range(FRAMES)]),
            object_id="sphere",
            hand_visible=np.ones(FRAMES),
            model_id=hand_model.model_id,
            model_fingerprint=hand_model.fingerprint,
            joint_poses=np.stack([state.joint_poses for state in states]),
        ),
    )


class Stand:
    """Takes the reconstructor's place: says what `change` makes of a hand and a ball that move evenly.

    change: state and row to the state that is answered. stop_after: Ctrl-C comes after so many windows.
    moves: share of the frames of the first window about which the camera moves. ambiguity: rad, of objects.
    """

    def __init__(self, hand_model: Any, ball: Any) -> None:
        self.hand_model, self.ball = hand_model, ball
        self.change: Callable[[HandObjectState, int], HandObjectState] = lambda state, _: state
        self.stop_after: int | None = None
        self.moves, self.ambiguity = 0.0, 0.0
        self.calls: list[dict[str, Any]] = []

    def make(self, request: Any, inputs: Any, boxes: Any) -> Stand:
        self.calls.append({"request": request, "objects": list(inputs.objects), "boxes": dict(boxes), "frames": 0})
        return self

    def reconstruct(self, frames: Iterable[Frame], first: int = 0) -> Iterator[WindowResult]:
        self.calls[-1]["first"] = first
        source, start, windows = iter(frames), first, 0
        while window := list(islice(source, WINDOW)):
            if windows == self.stop_after:
                raise KeyboardInterrupt
            self.calls[-1]["frames"] += len(window)
            self.calls[-1]["depth"] = window[0].depth is not None
            states = [self.change(self.state(frame, start + row), start + row) for row, frame in enumerate(window)]
            open_by = dict.fromkeys(self.calls[-1]["objects"], self.ambiguity)
            report = {"joint_fit_s": 0.5, "losses": {"obj": [1.0, float("nan")]}, "rotation_ambiguity_rad": open_by}
            yield WindowResult(start, states, {**report, "camera_moves_share": 0.0 if windows else self.moves})
            start, windows = start + len(window), windows + 1

    def state(self, frame: Frame, row: int) -> HandObjectState:
        yes, no = np.ones(1, bool), np.zeros(1, bool)
        hand = HandTrack(params(row), yes, np.array([0.9]), no, 1)
        item = ObjectTrack("sphere", pose(row)[None], yes, np.array([0.8]), np.array([0.9]), no)
        return clip_states(
            [Evidence(frame.stamp, frame.camera)], [hand], [item], {"right": self.hand_model}, {"sphere": self.ball}
        )[0]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, hand_model: Any, ball: Any) -> Stand:
    made = Stand(hand_model, ball)
    monkeypatch.setattr(setup, "make_reconstructor", made.make)
    return made


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command in this process: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grasp-nodes", "reconstruct", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            app_module.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def report_of(folder: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    found: dict[str, Any] = json.loads((folder / "report.json").read_text(), parse_constant=refuse)
    return found


def states_of(folder: Path) -> list[HandObjectState]:
    return list(read_trajectory(folder / "trajectory.npz").trajectory.states)


def bag_counts(folder: Path) -> dict[str, int]:
    with AnyReader([folder / "bag"], default_typestore=typestore()) as reader:
        return {connection.topic: connection.msgcount for connection in reader.connections}


def test_everything_is_written(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, said = call(clip, "--object", BALL, "-o", out, "--json", "--images")
    assert code == 0, said
    row = json.loads(printed.splitlines()[-1])
    assert (row["frames_in"], row["frames_out"]) == (FRAMES, FRAMES)
    assert (row["found_share"], row["object_answered_share"]) == (1.0, 1.0)
    assert row["is_metric"] is True

    back = read_trajectory(out / "trajectory.npz")
    assert [state.stamp for state in back.trajectory.states] == [frame.stamp for frame in ClipSource(clip)]
    for number, state in enumerate(back.trajectory.states):
        np.testing.assert_allclose(state.hands[0].params.transl, params(number).transl)
        np.testing.assert_allclose(state.objects[0].T_camera_object, pose(number))
        assert len(state.contact_maps) == 1
    assert json.loads(back.attributes["complete"]) is True
    assert json.loads(back.attributes["object_meshes"])["sphere"]["mesh"] == BALL
    np.testing.assert_array_equal(back.camera.camera_k, CAMERA.camera_k)

    counts = bag_counts(out)
    per_frame = ("/hand_object/state", "/hands", "/objects/pose", "/contact_map", "/tf", "/camera/color/camera_info")
    assert {name: counts[name] for name in per_frame} == dict.fromkeys(per_frame, FRAMES)
    assert counts["/hand_model_info"] == 2
    assert counts["/camera/color/image_raw/compressed"] == FRAMES

    report = report_of(out)
    assert report["status"] == {"OK": FRAMES, "HELD": 0, "NOTHING": 0}
    assert len(report["frames"]) == FRAMES
    assert [window["start"] for window in report["windows"]] == [0, 3, 6]
    assert report["windows"][0]["losses"]["obj"] == [1.0, None]
    assert report["seconds"]["joint_fit_s"] == pytest.approx(1.5)
    assert report["jitter"]["right 1"]["p95_m_s2"] == pytest.approx(0, abs=0.1)
    assert report["accuracy"] is None
    assert not list(out.rglob("*.part*"))


def test_video_and_sheet_show_the_states(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    assert call(clip, "--object", BALL, "-o", tmp_path / "out")[0] == 0
    video = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    pictures = []
    while (read := video.read())[0]:
        pictures.append(read[1])
    assert len(pictures) == FRAMES
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(FPS)
    for row, picture in enumerate(pictures):
        assert picture.shape == (72, 96, 3)
        # The ball is drawn where it projects to, the corner stays as it was.
        column, line = CAMERA.project(pose(row)[:3, 3]).round().astype(int)
        grey = 40 + 10 * row
        assert np.abs(picture[2, 2].astype(int) - grey).max() < 12
        assert int(picture[line, column].astype(int).max() - picture[line, column].astype(int).min()) > 15
    sheet = cv2.imread(str(tmp_path / "out" / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > 2 * sheet.shape[0] * 0.3
    assert sheet.std() > 5


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    call: Call, stand: Stand, clip: Path, tmp_path: Path
) -> None:
    words = (clip, "--object", BALL, "-o", tmp_path / "out", "--object-box", "50,20,80,50")
    stand.stop_after = 1
    code, printed, said = call(*words)
    assert code == 130
    assert printed == ""
    assert f"Stopped after {WINDOW} of {FRAMES} frames" in said
    assert "the same command goes on from there" in said
    assert len(states_of(tmp_path / "out")) == WINDOW
    assert json.loads(read_trajectory(tmp_path / "out" / "trajectory.npz").attributes["complete"]) is False
    kept = (tmp_path / "out" / "parts" / "000000.npz").read_bytes()

    stand.stop_after = None
    assert call(*words)[0] == 0
    assert [one["first"] for one in stand.calls] == [0, WINDOW]
    assert stand.calls[1]["frames"] == FRAMES - WINDOW
    assert (tmp_path / "out" / "parts" / "000000.npz").read_bytes() == kept
    # The user's box is of the first frame; the second run begins where the ball was last seen.
    assert stand.calls[0]["boxes"]["sphere"].tolist() == [50, 20, 80, 50]
    center = CAMERA.project(pose(WINDOW - 1)[:3, 3])
    box = stand.calls[1]["boxes"]["sphere"]
    np.testing.assert_allclose((box[:2] + box[2:]) / 2, center, atol=0.5)
    # A ball of radius r at depth z is about 2 f r / z wide.
    assert box[2] - box[0] == pytest.approx(2 * 100 * RADIUS / 0.55, rel=0.15)

    assert call(clip, "--object", BALL, "-o", tmp_path / "whole", "--object-box", "50,20,80,50")[0] == 0
    assert [state.stamp for state in states_of(tmp_path / "out")] == [
        state.stamp for state in states_of(tmp_path / "whole")
    ]
    assert call(*words)[0] == 0
    assert len(stand.calls) == 3, "a finished reconstruction is not made again"


def test_a_frame_that_cannot_be_read_costs_only_what_comes_after_it(
    call: Call, stand: Stand, clip: Path, tmp_path: Path
) -> None:
    """The frames before it are kept, even those of its own window, and a mended clip is gone on with."""
    words, bad = (clip, "--object", BALL, "-o", tmp_path / "out"), clip / "color" / "000005.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        code, printed, said = call(*words)
        assert code == 1
        assert printed == ""
        (last,) = [line for line in said.splitlines() if line.startswith("grasp-nodes:")]
        assert "000005.png" in last
        assert f"Stopped after 5 of {FRAMES} frames" in last
        assert "the same command goes on from there" in last
        back = read_trajectory(tmp_path / "out" / "trajectory.npz")
        assert len(back.trajectory.states) == 5
        assert json.loads(back.attributes["complete"]) is False
    bad.write_bytes(whole)
    assert call(*words)[0] == 0
    assert stand.calls[-1]["first"] == 5
    assert len(states_of(tmp_path / "out")) == FRAMES
    assert report_of(tmp_path / "out")["frames_out"] == FRAMES


def test_a_first_frame_that_cannot_be_read_is_bad_input(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    (clip / "color" / "000000.png").write_bytes(b"no picture")
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 2
    assert "000000.png" in said
    assert "Stopped after" not in said
    assert not (tmp_path / "out" / "trajectory.npz").exists()


def test_a_fault_of_the_program_leaves_what_is_done(
    call: Call, stand: Stand, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(state: HandObjectState, row: int) -> HandObjectState:
        if row == 4:
            raise ZeroDivisionError("row 4")
        return state

    stand.change = fail
    with pytest.raises(ZeroDivisionError, match="row 4"):
        call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert f"Stopped after {WINDOW} of {FRAMES} frames" in capsys.readouterr().err
    assert len(states_of(tmp_path / "out")) == WINDOW
    stand.change = lambda state, _: state
    assert call(clip, "--object", BALL, "-o", tmp_path / "out")[0] == 0
    assert len(states_of(tmp_path / "out")) == FRAMES


def test_a_video_that_ends_before_its_time_says_so(
    call: Call, stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = OverlayVideo(tmp_path / "short.mp4", FPS, 96, 72)
    for row in range(FRAMES):
        video.write(np.full((72, 96, 3), 40 + 10 * row, np.uint8))
    video.close()
    monkeypatch.setattr(VideoSource, "__len__", lambda _: FRAMES + 3)
    for _ in range(2):
        words = ("--object", BALL, "--object-box", "50,20,80,50", "-o", tmp_path / "out")
        code, _, said = call(tmp_path / "short.mp4", *words)
        assert code == 0
        assert f"announces {FRAMES + 3} frames; {FRAMES} could be read" in said
    assert len(stand.calls) == 1
    assert len(states_of(tmp_path / "out")) == FRAMES


@pytest.mark.parametrize(
    ("room", "parts", "whole"),
    [(2_000, 0, ()), (60_000, 3, ()), (400_000, 3, ("trajectory.npz", "overlay.mp4"))],
    ids=("part", "trajectory", "bag"),
)
def test_a_full_disk_is_one_message_and_the_same_command_goes_on(
    call: Call, stand: Stand, clip: Path, tmp_path: Path, room: int, parts: int, whole: tuple[str, ...]
) -> None:
    """No file may be longer than `room`: parts are shorter than the trajectory, which is shorter than the bag."""
    words = (clip, "--object", BALL, "-o", tmp_path / "out", "--images")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        code, _, said = call(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1, said
    (last,) = [line for line in said.splitlines() if line.startswith("grasp-nodes:")]
    assert "cannot be written" in last
    assert "Make room there" in last
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"lock", "parts", "settings.json", *whole}
    assert len(list((tmp_path / "out" / "parts").glob("*.npz"))) == parts
    assert call(*words)[0] == 0
    assert len(states_of(tmp_path / "out")) == FRAMES
    assert bag_counts(tmp_path / "out")["/hands"] == FRAMES


def test_what_a_killed_run_left_half_written_is_removed(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    words = (clip, "--object", BALL, "-o", tmp_path / "out")
    stand.stop_after = 1
    assert call(*words)[0] == 130
    for name in ("overlay.0123.part.mp4", "trajectory.npz.0123.part", "parts/000003.npz.0123.part"):
        (tmp_path / "out" / name).write_bytes(b"half")
    (tmp_path / "out" / "bag.partial").mkdir()
    stand.stop_after = None
    assert call(*words)[0] == 0
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_a_damaged_part_is_made_again(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    words = (clip, "--object", BALL, "-o", tmp_path / "out")
    assert call(*words)[0] == 0
    part = tmp_path / "out" / "parts" / "000003.npz"
    part.write_bytes(part.read_bytes()[:200])
    assert call(*words)[0] == 0
    assert stand.calls[-1]["first"] == 3
    assert len(states_of(tmp_path / "out")) == FRAMES


def test_other_settings_are_named_and_restart_begins_anew(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call(clip, "--object", BALL, "-o", out)[0] == 0
    code, _, said = call(clip, "--object", BALL, "-o", out, "--seed", 4)
    assert code == 2
    assert "seed 0 instead of 4" in said
    assert "--restart" in said
    assert call(clip, "--object", BALL, "-o", out, "--seed", 4, "--restart")[0] == 0
    assert report_of(out)["seed"] == 4
    code, _, said = call(clip, "--object", "sphere:0.05", "-o", out, "--seed", 4)
    assert code == 2
    assert "objects" in said


def test_a_folder_of_something_else_is_left_alone(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    for words in ((), ("--restart",)):
        code, _, said = call(clip, "-o", tmp_path / "out", *words)
        assert code == 2
        assert "thesis.tex" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_the_parts_that_can_be_used_are_reported(call: Call, stand: Stand, tmp_path: Path) -> None:
    """Hand and object together in more than 20 frames in a row: 22 at first, 20 after the hand was away."""
    clip = make_clip(tmp_path / "long", 50)

    def gone(state: HandObjectState, row: int) -> HandObjectState:
        if 22 <= row < 30:
            return replace(state, hands=(), contact_maps=())
        return state

    stand.change = gone
    out = tmp_path / "out"
    assert call(clip, "--object", BALL, "-o", out)[0] == 0
    part = {"first": 0, "last": 21, "hands": ["right 1"], "object": "sphere"}
    assert report_of(out)["usable_parts"] == [part]


@pytest.mark.parametrize(("overlap", "doubted"), [(0.3, True), (0.9, False)])
def test_a_mesh_that_does_not_fit_what_is_seen_is_said(
    call: Call, stand: Stand, clip: Path, tmp_path: Path, overlap: float, doubted: bool
) -> None:
    """A mesh is fitted to whatever is taken for the object, be it the hand itself."""
    stand.change = lambda state, row: replace(state, residuals={"sphere_iou": 0.9 if row < 2 else overlap})
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 0
    assert ("sphere: only 30%" in said) == doubted
    assert report_of(tmp_path / "out")["object_iou"] == {"sphere": pytest.approx(overlap)}


@pytest.mark.parametrize("moves", [0.0, 1.0])
def test_a_camera_that_moves_is_told_of(call: Call, stand: Stand, clip: Path, tmp_path: Path, moves: float) -> None:
    stand.moves = moves
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 0
    assert ("The camera moves in 43% of the frames" in said) == bool(moves)
    # Windows are of 3, 3 and 1 frames.
    assert report_of(tmp_path / "out")["camera_moves_share"] == pytest.approx(moves * 3 / 7)


@pytest.mark.parametrize(
    ("mesh", "said_of_it"),
    [
        (BALL, "sphere: looks the same after some turns"),
        ("wedge.obj", "wedge: the images do not tell it from itself turned by 90 degrees"),
    ],
)
def test_a_rotation_that_is_open_is_said_and_why(
    call: Call, stand: Stand, clip: Path, tmp_path: Path, mesh: str, said_of_it: str
) -> None:
    stand.ambiguity = np.pi / 2
    corners = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.05, 0], [0, 0, 0.03]])
    trimesh.Trimesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]).export(tmp_path / "wedge.obj")
    path = mesh if mesh == BALL else str(tmp_path / mesh)
    code, _, said = call(clip, "--object", path, "-o", tmp_path / "out")
    assert code == 0
    assert said_of_it in said


def test_of_several_objects_the_share_is_their_mean() -> None:
    summary = StateSummary(stamps=[0, 1, 2, 3], objects={"mug": [0, 1, 2], "box": [3]})
    assert summary.object_answered_share(["mug", "box"]) == pytest.approx(0.5)
    assert summary.object_answered_share(["mug", "box", "lid", "pan"]) == pytest.approx(0.25)
    assert summary.object_answered_share([]) is None


@pytest.mark.parametrize(("metres", "far"), [(0.08, True), (0.02, False), (-0.004, False)])
def test_an_object_that_no_hand_comes_near_is_doubted(
    call: Call, stand: Stand, clip: Path, tmp_path: Path, metres: float, far: bool
) -> None:
    """What agrees with the images perfectly may still be another thing."""

    def apart(state: HandObjectState, row: int) -> HandObjectState:
        contact = state.contact_maps[0]
        distance = np.full_like(contact.signed_distance, 0.3)
        distance[0] = metres if row == 4 else 0.2
        return replace(state, contact_maps=(replace(contact, signed_distance=distance),))

    stand.change = apart
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 0
    assert ("sphere: no hand comes nearer to it than 8 cm" in said) == far
    assert report_of(tmp_path / "out")["nearest_hand_m"] == {"sphere": pytest.approx(max(metres, 0), rel=1e-3)}


@pytest.mark.parametrize("box", ["10,10,200,60", "100,5,110,20", "-60,5,-20,20"])
def test_a_box_of_another_image_is_refused(call: Call, stand: Stand, clip: Path, tmp_path: Path, box: str) -> None:
    code, _, said = call(clip, "--object", BALL, f"--object-box={box}", "-o", tmp_path / "out")
    assert code == 2
    assert f"--object-box {box} (sphere): expected a box in the first image, which is 96 x 72 px" in said


def test_two_runs_do_not_work_in_one_folder(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    with working_alone(tmp_path / "out"):
        code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 2
    assert "another run is at work" in said
    assert stand.calls == []


def test_a_folder_that_cannot_be_written_is_one_line(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "file" / "out")
    assert code == 1
    assert "file/out: cannot be written (Not a directory)" in said.strip().splitlines()[-1]


def test_truth_gives_errors(call: Call, stand: Stand, clip: Path, tmp_path: Path, hand_model: Any) -> None:
    with_truth(clip, hand_model)
    shift = np.array([0.01, 0.0, 0.0])

    def beside(state: HandObjectState, _: int) -> HandObjectState:
        moved = replace(params(_), transl=params(_).transl + torch.from_numpy(shift).float())
        hand = replace(hand_states(moved, hand_model)[0], track_id=1, is_metric=True)
        return replace(state, hands=(hand,))

    stand.change = beside
    code, printed, _ = call(clip, "--object", BALL, "-o", tmp_path / "out", "--json")
    assert code == 0
    row = json.loads(printed.splitlines()[-1])
    assert row["hand_mpjpe_mm"] == pytest.approx(10.0, abs=0.01)
    assert row["object_add_s_mm"] == pytest.approx(0.0, abs=0.01)
    assert report_of(tmp_path / "out")["accuracy"]["hand_root_aligned_mpjpe_mm"] == pytest.approx(0.0, abs=0.01)
    assert bag_counts(tmp_path / "out")["/truth/state"] == FRAMES


def test_an_unknown_focal_length_is_said_everywhere(call: Call, stand: Stand, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for row in range(4):
        cv2.imwrite(str(images / f"{row:04d}.png"), np.full((72, 96, 3), 90, np.uint8))
    code, printed, said = call(images, "--object", BALL, "-o", tmp_path / "out", "--fov", 50)
    assert code == 0
    assert "50 degrees are assumed" in said
    assert "is_metric: false" in printed
    assert report_of(tmp_path / "out")["is_metric"] is False
    back = read_trajectory(tmp_path / "out" / "trajectory.npz")
    assert not back.camera.is_metric
    assert back.camera.camera_k[0, 0] == pytest.approx(48 / np.tan(np.deg2rad(25)))
    assert not any(hand.is_metric for state in back.trajectory.states for hand in state.hands)
    assert not any(item.is_metric for state in back.trajectory.states for item in state.objects)
    assert bag_counts(tmp_path / "out")["/hands"] == 4


def test_a_clip_without_an_object_gives_hands(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    stand.change = lambda state, _: replace(state, objects=(), contact_maps=())
    code, _, said = call(clip, "-o", tmp_path / "out")
    assert code == 0
    assert "hands only" in said
    assert stand.calls[0]["objects"] == []
    assert report_of(tmp_path / "out")["object_answered_share"] is None


def test_an_object_that_is_never_visible_is_no_failure(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    stand.change = lambda state, _: replace(state, objects=(), contact_maps=(), status_text="sphere not found")
    code, printed, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 0
    assert "the object in 0%" in printed
    assert "sphere: found in no frame" in said
    assert {frame["status_text"] for frame in report_of(tmp_path / "out")["frames"]} == {"sphere not found"}


def test_finding_nothing_at_all_is_a_failure_that_is_still_written(
    call: Call, stand: Stand, clip: Path, tmp_path: Path
) -> None:
    stand.change = lambda state, _: HandObjectState(state.stamp, state.frame_id, status_text="no hand was found")
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 1
    assert "Neither a hand nor an object" in said
    assert report_of(tmp_path / "out")["status"]["NOTHING"] == FRAMES
    assert len(states_of(tmp_path / "out")) == FRAMES


def test_a_hand_that_leaves_counts_where_it_is_seen(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    def leave(state: HandObjectState, row: int) -> HandObjectState:
        return state if row < 4 else replace(state, hands=(), contact_maps=(), status=FitStatus.OK)

    stand.change = leave
    assert call(clip, "--object", BALL, "-o", tmp_path / "out")[0] == 0
    report = report_of(tmp_path / "out")
    assert report["found_share"] == pytest.approx(4 / 7)
    assert report["object_answered_share"] == 1.0
    assert [len(state.hands) for state in states_of(tmp_path / "out")] == [1, 1, 1, 1, 0, 0, 0]


def test_a_frame_of_nan_is_lost_and_the_rest_is_kept(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    def diverge(state: HandObjectState, row: int) -> HandObjectState:
        if row == 2:
            hand = replace(state.hands[0], keypoints=np.full((21, 3), np.nan))
            return replace(state, hands=(hand,))
        if row == 4:
            return replace(state, objects=(replace(state.objects[0], T_camera_object=np.full((4, 4), np.inf)),))
        return state

    stand.change = diverge
    assert call(clip, "--object", BALL, "-o", tmp_path / "out")[0] == 0
    states = states_of(tmp_path / "out")
    assert [len(state.hands) for state in states] == [1, 1, 0, 1, 1, 1, 1]
    assert [len(state.objects) for state in states] == [1, 1, 1, 1, 0, 1, 1]
    assert [len(state.contact_maps) for state in states] == [1, 1, 0, 1, 0, 1, 1]
    assert states[2].status == FitStatus.HELD
    assert "right hand lost" in states[2].status_text
    assert "sphere lost" in states[4].status_text
    assert report_of(tmp_path / "out")["status"] == {"OK": 6, "HELD": 1, "NOTHING": 0}


def test_a_clip_of_one_frame(call: Call, stand: Stand, tmp_path: Path) -> None:
    code, _, said = call(make_clip(tmp_path / "one", 1), "--object", BALL, "-o", tmp_path / "out")
    assert code == 0, said
    assert len(states_of(tmp_path / "out")) == 1
    assert report_of(tmp_path / "out")["jitter"] == {}


def test_two_objects_of_one_name_are_told_apart(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    both = ("--object", BALL, "--object", BALL)

    def second(state: HandObjectState, row: int) -> HandObjectState:
        other = ObjectState("sphere_2", pose(row) - 0.02 * np.eye(4, k=3), score=0.5, mesh_resource=BALL)
        return replace(state, objects=(*state.objects, other))

    stand.change = second
    boxes = ("--object-box", "50,20,80,50", "--object-box", "10,20,40,50")
    assert call(clip, *both, *boxes, "-o", tmp_path / "out")[0] == 0
    assert stand.calls[0]["objects"] == ["sphere", "sphere_2"]
    assert {name: box.tolist() for name, box in stand.calls[0]["boxes"].items()} == {
        "sphere": [50, 20, 80, 50],
        "sphere_2": [10, 20, 40, 50],
    }
    assert [len(state.objects) for state in states_of(tmp_path / "out")] == [2] * FRAMES
    assert bag_counts(tmp_path / "out")["/objects/pose"] == 2 * FRAMES


def test_a_network_for_masks_needs_a_box(call: Call, clip: Path, tmp_path: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        (tmp_path / name).write_bytes(b"no network")
    networks = ("--segmenter", tmp_path / "encoder.onnx", tmp_path / "decoder.onnx")
    code, _, said = call(clip, "--object", BALL, *networks, "-o", tmp_path / "out")
    assert code == 2
    assert "--detector" in said.strip().splitlines()[-1]


def test_two_objects_need_boxes(call: Call, clip: Path, tmp_path: Path) -> None:
    both = ("--object", BALL, "--object", BALL)
    for boxes in ((), ("--object-box", "50,20,80,50")):
        code, _, said = call(clip, *both, *boxes, "-o", tmp_path / "out")
        assert code == 2
        assert "--object-box" in said.strip().splitlines()[-1]
    assert not list((tmp_path / "out" / "parts").iterdir())


def test_settings_with_which_nothing_was_finished_bind_nobody(
    call: Call, stand: Stand, clip: Path, tmp_path: Path
) -> None:
    stand.stop_after = 0
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 130
    assert "before any frame was finished" in said
    assert not (tmp_path / "out" / "trajectory.npz").exists()
    stand.stop_after = None
    assert call(clip, "--object", BALL, "-o", tmp_path / "out", "--seed", 1)[0] == 0


def test_a_mesh_in_millimetres_is_said_and_can_be_scaled(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    mesh = tmp_path / "sphere.obj"
    trimesh.creation.icosphere(subdivisions=3, radius=1000 * RADIUS).export(mesh)
    code, _, said = call(clip, "--object", mesh, "-o", tmp_path / "out")
    assert code == 2
    assert "sphere.obj" in said
    assert "0.001" in said
    assert not (tmp_path / "out").exists()

    def from_millimetres(state: HandObjectState, _: int) -> HandObjectState:
        return replace(state, objects=(replace(state.objects[0], scale=0.001, mesh_resource=str(mesh)),))

    stand.change = from_millimetres
    words = ("--object", mesh, "--object-scale", 0.001, "-o", tmp_path / "out")
    assert call(clip, *words)[0] == 0
    # A ball that were drawn in mm, or shrunk twice, would not differ between its middle and a place beside it.
    video = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    picture = video.read()[1].astype(int)
    column, line = CAMERA.project(pose(0)[:3, 3]).round().astype(int)
    reach = round(100 * RADIUS / 0.55)
    assert np.ptp(picture[line, column]) > 15
    assert np.ptp(picture[line, column + reach - 3]) > 15
    assert np.ptp(picture[line, column + reach + 4]) < 15


def test_depth_is_not_shown_to_an_rgb_run(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    (clip / "depth").mkdir()
    for row in range(FRAMES):
        write_image(clip / "depth" / f"{row:06d}.png", np.full((72, 96), 500, np.uint16))
    write_clip_info(clip, ClipInfo(FRAMES, FPS, CAMERA, depth_unit=0.001))
    assert call(clip, "--object", BALL, "-o", tmp_path / "with")[0] == 0
    assert call(clip, "--object", BALL, "-o", tmp_path / "without", "--rgb-only")[0] == 0
    assert [one["depth"] for one in stand.calls] == [True, False]
    assert [report_of(tmp_path / name)["has_depth"] for name in ("with", "without")] == [True, False]


def test_only_the_first_frames(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    assert call(clip, "--object", BALL, "-o", tmp_path / "out", "--frames", 5)[0] == 0
    assert stand.calls[0]["frames"] == 5
    assert len(states_of(tmp_path / "out")) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none.mp4",), "none.mp4"),
        (("CLIP", "--object", "none.obj"), "none.obj"),
        (("CLIP", "--object", BALL, "--object-box", "1,2,3"), "--object-box"),
        (("CLIP", "--object", BALL, "--object-box", "5,5,1,9"), "--object-box"),
        (("CLIP", "--object", BALL, "--object-box", "1,1,9,9", "--object-box", "1,1,9,9"), "2 boxes for 1"),
        (("CLIP", "--object", BALL, "--detector", "none.onnx"), "none.onnx"),
        (("CLIP", "--hand-model", "none.pkl"), "none.pkl"),
        (("CLIP", "--object-scale", "0"), "scale"),
    ],
)
def test_bad_words_are_one_line(
    call: Call, stand: Stand, clip: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    given = [str(clip) if word == "CLIP" else word for word in words]
    if "--object-scale" in given:
        given += ["--object", BALL]
    code, _, text = call(*given, "-o", tmp_path / "out")
    assert code == 2
    last = text.strip().splitlines()[-1]
    assert said in last
    assert not (tmp_path / "out" / "parts").exists()


def test_without_the_messages_there_is_no_bag_and_everything_else(
    call: Call, stand: Stand, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingDependencyError("nodes need a ROS 2 installation: run  pip install")

    monkeypatch.setattr(outputs, "prepare_runtime", missing)
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 0
    assert "There will be no bag: nodes need a ROS 2 installation" in said
    assert not (tmp_path / "out" / "bag").exists()
    assert "ROS 2" in report_of(tmp_path / "out")["bag"]["missing"]
    assert (tmp_path / "out" / "overlay.mp4").is_file()


def test_ctrl_c_while_drawing_leaves_nothing_half_written(
    call: Call, stand: Stand, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = StatePainter.overlay

    def interrupted(painter: StatePainter, frame: Frame, state: HandObjectState) -> np.ndarray:
        if state.stamp > 10**8:
            raise KeyboardInterrupt
        return drawn(painter, frame, state)

    words = (clip, "--object", BALL, "-o", tmp_path / "out")
    with monkeypatch.context() as during:
        during.setattr(StatePainter, "overlay", interrupted)
        code, _, said = call(*words)
    assert code == 130
    assert f"Stopped after {FRAMES} of {FRAMES} frames" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"lock", "parts", "settings.json", "trajectory.npz"}
    assert call(*words)[0] == 0
    assert len(stand.calls) == 1
    assert bag_counts(tmp_path / "out")["/hands"] == FRAMES


def test_a_clip_that_changed_meanwhile_is_noticed(call: Call, stand: Stand, clip: Path, tmp_path: Path) -> None:
    words = (clip, "--object", BALL, "-o", tmp_path / "out")
    stand.change = lambda state, row: replace(state, stamp=state.stamp + (row == 5))
    code, _, said = call(*words)
    assert code == 2
    assert "frame 5" in said
    assert "--restart" in said
    assert not (tmp_path / "out" / "overlay.mp4").exists()


class NoHands:
    """A landmarker that finds nothing; stands where the networks would."""

    def __init__(self, *_: object) -> None:
        pass

    def detect(self, _: Frame) -> list[HandEvidence]:
        return []

    def reset(self) -> None:
        pass


class MaskOf:
    """A segmenter that gives every frame a disc for the ball, in an image of some size."""

    def __init__(self, width: int, height: int) -> None:
        row, column = np.mgrid[:height, :width]
        self.mask = (row - 36) ** 2 + (column - 48) ** 2 < 8**2

    def segment_clip(self, frames: Any, hands: Any) -> list[tuple[ObjectEvidence, ...]]:
        return [(ObjectEvidence("sphere", 1.0, np.array([40, 28, 56, 44], np.float32), self.mask),) for _ in frames]

    def reset(self) -> None:
        pass


@pytest.fixture
def no_hands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand_landmarks, "LitertHandLandmarker", NoHands)


def test_the_real_reconstructor_follows_an_object_alone(
    call: Call, no_hands: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup, "make_segmenter", lambda *_: MaskOf(96, 72))
    code, printed, said = call(make_clip(tmp_path / "one", 1), "--object", BALL, "-o", tmp_path / "out", "--json")
    assert code == 0, said
    assert json.loads(printed.splitlines()[-1])["object_answered_share"] == 1.0
    found = states_of(tmp_path / "out")[0].objects[0].T_camera_object[:3, 3]
    # A ball of radius r seen as a disc of radius s: at f r / s, a little more as its outline is nearer than its middle.
    np.testing.assert_allclose(found, [0.002, 0.002, 100 * RADIUS / 8], atol=0.03)


def test_a_mask_of_a_wrong_size_is_named(
    call: Call, no_hands: None, monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup, "make_segmenter", lambda *_: MaskOf(64, 72))
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 2
    last = said.strip().splitlines()[-1]
    assert "mask of object 'sphere'" in last
    assert "(72, 64)" in last


def test_an_object_that_nobody_sees_leaves_the_real_reconstructor_empty_handed(
    call: Call, no_hands: None, clip: Path, tmp_path: Path
) -> None:
    code, _, said = call(clip, "--object", BALL, "-o", tmp_path / "out")
    assert code == 1
    assert "Neither a hand nor an object" in said
    assert [state.status for state in states_of(tmp_path / "out")] == [FitStatus.NOTHING] * FRAMES


def test_a_clip_of_many_is_answered_once_and_becomes_a_demonstration(stand: Stand, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{clip} name=first object={BALL}\n")
    job = read_list(tmp_path / "list.txt", setup.Request("", tmp_path / "out", images=True))[0]
    answer = json.loads(reconstruct_one(asdict(job.request), job.key))
    assert (answer["key"], answer["exit_code"], answer["frames_out"]) == (job.key, 0, FRAMES)
    assert (tmp_path / "out/logs/first.txt").is_file()
    results = ManyResults(tmp_path / "out")
    results.keep(job.name, json.dumps(answer).encode())
    assert results.write_summary([job], {}, 1.0)["done"] == 1
    assert f"| first | {FRAMES} |" in (tmp_path / "out/summary.md").read_text()

    found = {}
    for kind in ("folder", "bag"):
        path = job.request.output if kind == "folder" else job.request.output / "bag"
        found[kind] = sample(open_recording(path, SourceOptions()), "lift", SamplingOptions()).demonstration
    folder, bag = found["folder"], found["bag"]
    assert (len(folder), folder.fps, folder.side, folder.object_id) == (FRAMES, round(FPS), "right", "sphere")
    for row in range(FRAMES):
        hand = torch.cat([params(row).transl, params(row).global_orient, params(row).hand_pose], dim=1)[0]
        np.testing.assert_allclose(folder.columns["observation.state"].values[row], hand, atol=1e-6)
        np.testing.assert_allclose(
            folder.columns["observation.environment_state"].values[row, :3], pose(row)[:3, 3], atol=1e-6
        )
    assert folder.columns.keys() == bag.columns.keys()
    for name, column in folder.columns.items():
        # The trajectory's contact is of half precision.
        np.testing.assert_allclose(bag.columns[name].values, column.values, atol=1e-3, err_msg=name)
    for image, frame in zip(folder.images(), ClipSource(clip), strict=True):
        np.testing.assert_array_equal(image, frame.color)
    assert len(list(bag.images())) == FRAMES
