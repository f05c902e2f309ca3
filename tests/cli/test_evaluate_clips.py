"""`grasp-nodes evaluate-clips` on a tiny clip, with a reconstruction whose errors are known."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from grasp_nodes.cli import app, evaluating_clips
from grasp_nodes.cli.clip_evaluation import results as result_files
from grasp_nodes.cli.clip_evaluation import work
from grasp_nodes.cli.clip_evaluation.results import read_result
from grasp_nodes.cli.clip_evaluation.rows import MAIN_KEYS, hidden_group
from grasp_nodes.cli.clip_evaluation.variants import VARIANTS, parse_variants
from grasp_nodes.cli.clip_evaluation.worst import HEIGHT, MOST_BYTES, WIDTH
from grasp_nodes.cli.evaluating_clips import Request, evaluate_clips
from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import FitStatus, HandObjectState
from grasp_nodes.data.clip_files import ClipInfo, ClipTruth, write_clip_info, write_image, write_truth
from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.clip_metrics import FrameScore
from grasp_nodes.fitting.homan.settings import PAPER_HOMAN
from grasp_nodes.fitting.reconstruction import WindowResult
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.files import MODEL_VARIABLE, load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_mesh
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence, ObservedFrame

FRAMES = 6
CAMERA = CameraModel(np.array([[60.0, 0, 39.5], [0, 60.0, 29.5], [0, 0, 1]]), 80, 60)
SHIFTS = {"rgbd": 0.002, "rgb": 0.02, "independent": 0.06}
"""m, along x: the error of hand and object by variant; that of the others is the rgb's."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def clip(tmp_path) -> Path:
    """A hand that approaches a ball: half of the frames without contact."""
    return write_clip(tmp_path / "clip_a", "back", "sphere")


def write_clip(folder: Path, view: str, family: str) -> Path:
    for name in ("color", "depth", "labels", "objects"):
        (folder / name).mkdir(parents=True)
    vertices, faces, _ = load_mesh("sphere:0.04")
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in faces]
    (folder / "objects" / "ball.obj").write_text("\n".join(lines))
    model = load_hand_model("right", dtype=torch.float64)
    params = HandParams.zeros(FRAMES, dtype=torch.float64)
    params = replace(params, transl=torch.tensor([[0.0, 0.0, 0.5]] * FRAMES, dtype=torch.float64))
    states = hand_states(params, model)
    with torch.no_grad():
        skin = model(params).vertices[0].numpy()
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    # The ball rests on a vertex's place in the second half and is 15 cm away in the first.
    poses[:, :3, 3] = skin[skin[:, 1].argmax()] + np.array([0, 0.039, 0])
    poses[: FRAMES // 2, 1, 3] += 0.15
    for row in range(FRAMES):
        name = f"{row:06d}.png"
        write_image(folder / "color" / name, np.full((60, 80, 3), 90, np.uint8))
        write_image(folder / "depth" / name, np.full((60, 80), 500, np.uint16))
        labels = np.zeros((60, 80), np.uint8)
        labels[10:30, 20:40], labels[30:50, 20:40], labels[50:, 20:40] = 1, 2, 3
        write_image(folder / "labels" / name, labels)
    write_truth(
        folder,
        ClipTruth(
            np.arange(FRAMES, dtype=np.int64) * 33_000_000,
            *(tensor.numpy() for tensor in (params.global_orient, params.hand_pose, params.betas, params.transl)),
            scale=params.scale.numpy(),
            side="right",
            keypoints=np.stack([state.keypoints for state in states]),
            T_camera_object=poses,
            object_id="ball",
            hand_visible=np.linspace(0.5, 1, FRAMES),
            model_id=model.model_id,
            model_fingerprint=model.fingerprint,
            joint_poses=np.stack([state.joint_poses for state in states]),
        ),
    )
    extra = {"view": view, "family": family}
    write_clip_info(folder, ClipInfo(FRAMES, 30.0, CAMERA, 1e-3, {"ball": "objects/ball.obj"}, extra))
    return folder


class FakeObserver:
    """Sees exactly the true boxes and object, and every second row of the hand."""

    calls = 0

    def __init__(self, truth) -> None:
        self.truth = truth

    def reset(self) -> None:
        pass

    def perceive(self, frames):
        FakeObserver.calls += 1
        return [self._look(frame) for frame in frames]

    def _look(self, frame) -> ObservedFrame:
        half = np.arange(60)[:, None] % 2 == 0
        keypoints = np.zeros((21, 2), np.float32)
        hand_mask, object_mask = self.truth.hand_mask(frame.stamp) & half, self.truth.object_mask(frame.stamp)
        hand = HandEvidence("right", 0.9, 0.9, self.truth.hand_box(frame), keypoints, mask=hand_mask, track_id=1)
        item = ObjectEvidence("ball", 0.8, self.truth.object_box(frame), object_mask, 1)
        # Another thing that is followed, and surer: no answer.
        thing = ObjectEvidence("another", 1.0, np.array([0, 0, 9, 9], np.float32), ~object_mask, 2)
        return ObservedFrame(Evidence(frame.stamp, frame.camera, (hand,), (thing, item)), frame.depth)


def see_without_masks(observer: FakeObserver, frame) -> ObservedFrame:
    keypoints = np.zeros((21, 2), np.float32)
    hand = HandEvidence("right", 0.9, 0.9, observer.truth.hand_box(frame), keypoints, track_id=1)
    box = observer.truth.object_box(frame)
    item = ObjectEvidence("ball", 0.8, box, np.ones((60, 80), bool), 1)
    return ObservedFrame(Evidence(frame.stamp, frame.camera, (hand,), (item,)), frame.depth)


class FakeReconstructor:
    """The truth, shifted by what the variant says; the last frame is lost."""

    fail = ""

    def __init__(self, shared, observer, hand_models, object_models, settings) -> None:
        self._observer, self._models, self._settings = observer, hand_models, settings

    def reconstruct(self, frames):
        frames = list(frames)
        assert all((frame.depth is not None) == self._settings.use_depth for frame in frames)
        self._observer.reset()
        observed = self._observer.perceive(frames)
        if FakeReconstructor.fail:
            raise InputError(FakeReconstructor.fail)
        name = "rgbd" if self._settings.use_depth else "independent" if self._settings.independent else "rgb"
        states = [self._state(frame.evidence.stamp, SHIFTS[name]) for frame in observed[:-1]]
        lost = HandObjectState(frames[-1].stamp, "camera", status=FitStatus.NOTHING)
        stages = {"perception_s": 0.1, "initialisation_s": 0.2, "joint_fit_s": 0.2, "contact_s": 0.1}
        yield WindowResult(0, [*states, lost], stages)

    def _state(self, stamp: int, shift: float) -> HandObjectState:
        truth = open_clip(self._observer.observer.truth._clip.folder).truth(stamp)
        hand, item = truth.hands[0], truth.objects[0]
        params = hand.params
        moved = replace(params, transl=params.transl + torch.tensor([shift, 0, 0], dtype=params.transl.dtype))
        pose = item.T_camera_object.copy()
        pose[0, 3] += shift
        hands = (replace(hand, params=moved, keypoints=hand.keypoints + [shift, 0, 0]),)
        return replace(truth, hands=hands, objects=(replace(item, T_camera_object=pose),))


@pytest.fixture
def fake(monkeypatch):
    FakeObserver.calls, FakeReconstructor.fail = 0, ""
    monkeypatch.setattr(work, "make_observer", lambda evidence, truth, object_model: FakeObserver(truth))
    monkeypatch.setattr(work, "SharingReconstructor", FakeReconstructor)
    monkeypatch.setattr(result_files, "code_fingerprint", lambda: "code")


def request(clip: Path, output: Path, variants: str = "rgbd,rgb", **more) -> Request:
    return Request(variants, (clip,), output, frames=FRAMES, processes=1, **more)


def rows_of(output: Path) -> dict[str, dict]:
    return {row["variant"]: row for row in json.loads((output / "evaluation.json").read_text())["rows"]}


class TestVariants:
    def test_names(self) -> None:
        assert [variant.name for variant in parse_variants(" rgb, no_smooth ")] == ["rgb", "no_smooth"]
        assert [variant.name for variant in parse_variants("all")] == list(VARIANTS)
        wanted = "rgbd rgb independent no_local no_collision no_centroid no_smooth gt_boxes gt_masks paper"
        assert list(VARIANTS) == wanted.split()

    @pytest.mark.parametrize("text", ["", "depth", "rgb,all", "rgb,rgb", ","])
    def test_bad_names(self, text: str) -> None:
        with pytest.raises(InputError, match="--variants"):
            parse_variants(text)

    def test_each_ablation_switches_off_what_its_name_says_and_only_the_first_has_depth(self) -> None:
        plain = VARIANTS["rgb"].settings(0, 30)
        off = {
            "local": ("local", "holding"),
            "collision": ("collision",),
            "centroid": ("centroid",),
            "smooth": ("smooth",),
        }
        for name, terms in off.items():
            settings = VARIANTS[f"no_{name}"].settings(0, 30)
            assert all(getattr(settings.joint, term) == 0 < getattr(plain.joint, term) for term in terms)
            assert replace(settings.joint, **{term: getattr(plain.joint, term) for term in terms}) == plain.joint
        assert [name for name, variant in VARIANTS.items() if variant.use_depth] == ["rgbd"]
        assert [name for name, variant in VARIANTS.items() if variant.settings(0, 30).independent] == ["independent"]

    def test_the_papers_variant_fits_with_the_papers_losses_alone(self) -> None:
        settings = VARIANTS["paper"].settings(0, 30)
        assert settings.joint == PAPER_HOMAN
        assert replace(settings, joint=VARIANTS["rgb"].settings(0, 30).joint) == VARIANTS["rgb"].settings(0, 30)

    @pytest.mark.parametrize("frames", [1, 2, 10, 30, 200])
    def test_clips_of_any_length_have_valid_windows(self, frames: int) -> None:
        settings = VARIANTS["rgb"].settings(0, frames)
        assert 1 <= settings.window <= frames


class TestRun:
    def test_rows_hold_what_was_put_in(self, clip, tmp_path, fake, capsys) -> None:
        output = tmp_path / "out"
        assert evaluate_clips(request(clip, output, "independent,rgb,rgbd", as_json=True)) == 0
        said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        assert [row["variant"] for row in said["rows"]] == ["rgbd", "rgb", "independent"]
        for row in said["rows"]:
            assert list(row)[1 : 1 + len(MAIN_KEYS)] == list(MAIN_KEYS)
            # The lost frame scores the last answer, which is as far away.
            assert row["hand_mpjpe_mm"] == pytest.approx(1e3 * SHIFTS[row["variant"]])
            assert row["object_vertex_mm"] == pytest.approx(1e3 * SHIFTS[row["variant"]])
            assert row["hand_root_aligned_mpjpe_mm"] == pytest.approx(0, abs=1e-6)
            assert row["found_share"] == pytest.approx(1 - 1 / FRAMES)
            assert row["contact_accuracy"] == 1.0
            assert row["fps"] == pytest.approx(FRAMES / 0.6, rel=0.2)
        by = {row["variant"]: row for row in said["rows"]}
        assert by["rgb"]["mask_iou"] == {"hand": 0.5, "arm": pytest.approx(1 / 3), "object": 1.0}
        assert by["rgb"]["detection_ap"] == {"hand": {"without": 1, "with": 1}, "object": {"without": 1, "with": 1}}
        page = (output / "evaluation.md").read_text()
        for title in ("Table 1", "Table 2", "Table 3", "Table 4", "Table A.1", "Table A.2", "By the side"):
            assert title in page
        assert "6.00 (26.2)" in page
        assert "2.00 (8.6)" in page
        sheet = cv2.imread(str(output / "worst_rgb.jpg"))
        assert sheet is not None
        # Answer and truth as the camera sees them, and from the side.
        assert sheet.shape[1] == 2 * WIDTH + 2 * HEIGHT
        assert (output / "worst_rgb.jpg").stat().st_size <= MOST_BYTES

    def test_the_page_shows_copies_of_the_worst_frames(self, clip, tmp_path, fake, capsys) -> None:
        page, pictures = tmp_path / "docs" / "results" / "clips.md", tmp_path / "docs" / "pictures"
        page.parent.mkdir(parents=True)
        wanted = request(clip, tmp_path / "out", "rgb,rgbd,independent", markdown=page, pictures=pictures)
        evaluate_clips(wanted)
        printed = capsys.readouterr().out
        assert "By the side of the hand that is seen" in printed
        assert "By clip" not in printed
        text = page.read_text()
        assert "By clip" in text
        assert sorted(path.name for path in pictures.iterdir()) == ["clips_worst_rgb.jpg", "clips_worst_rgbd.jpg"]
        for name in ("rgb", "rgbd"):
            assert f"(../pictures/clips_worst_{name}.jpg)" in text
            assert (pictures / f"clips_worst_{name}.jpg").read_bytes() == (
                tmp_path / "out" / f"worst_{name}.jpg"
            ).read_bytes()
        assert "independent.jpg" not in text
        evaluate_clips(replace(wanted, pictures=None))
        assert "jpg" not in page.read_text()

    def test_variants_share_what_they_see(self, clip, tmp_path, fake) -> None:
        evaluate_clips(request(clip, tmp_path / "out", "rgb,independent,no_local,no_smooth"))
        # One window for all of them, and each frame by itself for the boxes without tracking.
        assert FakeObserver.calls == 1 + FRAMES

    def test_a_second_run_measures_nothing_again(self, clip, tmp_path, fake, capsys, monkeypatch) -> None:
        output = tmp_path / "out"
        evaluate_clips(request(clip, output, "rgb"))
        first, calls = rows_of(output), FakeObserver.calls
        evaluate_clips(request(clip, output, "rgb"))
        assert FakeObserver.calls == calls
        assert rows_of(output) == first
        assert "1 of 1 results of an earlier run" in capsys.readouterr().err
        evaluate_clips(request(clip, output, "rgb,rgbd"))
        assert FakeObserver.calls == 2 * calls
        monkeypatch.setattr(result_files, "code_fingerprint", lambda: "other code")
        evaluate_clips(request(clip, output, "rgb"))
        assert FakeObserver.calls == 3 * calls
        evaluate_clips(request(clip, output, "rgb", seed=1))
        assert FakeObserver.calls == 4 * calls

    def test_ctrl_c_keeps_what_is_done(self, clip, tmp_path, fake, capsys, monkeypatch) -> None:
        output, measure = tmp_path / "out", work.score_clip
        done = []

        def interrupted(*arguments):
            if done:
                raise KeyboardInterrupt
            done.append(1)
            return measure(*arguments)

        monkeypatch.setattr(work, "score_clip", interrupted)
        assert evaluate_clips(request(clip, output)) == 130
        assert "the same command goes on" in capsys.readouterr().err
        kept = list((output / "clips").glob("*.json"))
        assert len(kept) == 1
        assert read_result(kept[0]).variant == "rgbd"
        assert not (output / "evaluation.json").exists()
        monkeypatch.setattr(work, "score_clip", measure)
        assert evaluate_clips(request(clip, output)) == 0
        assert set(rows_of(output)) == {"rgbd", "rgb"}

    def test_a_damaged_result_is_measured_again(self, clip, tmp_path, fake) -> None:
        output = tmp_path / "out"
        evaluate_clips(request(clip, output, "rgb"))
        path = next((output / "clips").glob("*.json"))
        path.write_text(path.read_text()[:100])
        calls = FakeObserver.calls
        evaluate_clips(request(clip, output, "rgb"))
        assert FakeObserver.calls == 2 * calls

    def test_a_clip_that_cannot_be_reconstructed_is_lost_and_told(self, clip, tmp_path, fake, capsys) -> None:
        FakeReconstructor.fail = "no hand anywhere"
        output = tmp_path / "out"
        assert evaluate_clips(request(clip, output, "rgb")) == 0
        row = rows_of(output)["rgb"]
        assert (row["found_share"], row["failed_clips"]) == (0, 1)
        assert row["hand_mpjpe_mm"] == pytest.approx(100)
        assert row["contact_accuracy"] == 0
        assert "ended early: clip_a, rgb: no hand anywhere" in capsys.readouterr().out

    def test_after_a_failure_the_next_variant_begins_anew(self, clip, tmp_path, fake) -> None:
        FakeReconstructor.fail = "the fit broke off"
        evaluate_clips(request(clip, tmp_path / "out", "rgb,no_local"))
        # Nothing that was seen before the failure, or while boxes were looked for afterwards, is taken over.
        assert FakeObserver.calls == 1 + FRAMES + 1

    def test_recorded_clips_have_no_masks_and_everything_else(self, clip, tmp_path, fake, monkeypatch) -> None:
        shutil.rmtree(clip / "labels")
        monkeypatch.setattr(FakeObserver, "_look", see_without_masks)
        assert evaluate_clips(request(clip, tmp_path / "out", "rgb")) == 0
        row = rows_of(tmp_path / "out")["rgb"]
        assert row["hand_mpjpe_mm"] == pytest.approx(1e3 * SHIFTS["rgb"])
        assert row["detection_ap"]["object"]["with"] == 1
        assert row["mask_iou"] == {}
        assert "Table A.2" not in (tmp_path / "out" / "evaluation.md").read_text()
        with pytest.raises(MissingFileError, match=r"labels: not found; without true masks there is no gt_masks"):
            evaluate_clips(request(clip, tmp_path / "out", "rgb,gt_masks"))

    def test_a_mask_of_a_wrong_size_is_named(self, clip, tmp_path, fake) -> None:
        write_image(clip / "labels" / "000001.png", np.ones((30, 40), np.uint8))
        with pytest.raises(
            InputError, match=r"000001\.png: expected the size of the images, \(60, 80\), got \(30, 40\)"
        ):
            evaluate_clips(request(clip, tmp_path / "out", "gt_masks"))

    def test_results_of_other_code_keep_their_pictures(self, clip, tmp_path, fake, monkeypatch) -> None:
        evaluate_clips(request(clip, tmp_path / "out", "rgb"))
        before = {path: path.read_bytes() for path in (tmp_path / "out" / "clips").glob("*.png")}
        assert before
        monkeypatch.setattr(result_files, "code_fingerprint", lambda: "other code")
        monkeypatch.setitem(SHIFTS, "rgb", 0.09)
        evaluate_clips(request(clip, tmp_path / "out", "rgb"))
        assert {path: path.read_bytes() for path in before} == before
        assert len(list((tmp_path / "out" / "clips").glob("*.png"))) == 2 * len(before)

    def test_groups_by_view_and_hidden_share(self, clip, tmp_path, fake) -> None:
        other = write_clip(tmp_path / "clip_b", "palm", "bulb")
        output = tmp_path / "out"
        evaluate_clips(Request("rgb", (clip, other), output, frames=FRAMES, processes=1))
        groups = json.loads((output / "evaluation.json").read_text())["groups"]
        by = {(group["by"], group["group"]): group["frames"] for group in groups}
        assert by["view", "back"] == by["view", "palm"] == FRAMES
        assert by["object", "unseen"] == by["object", "seen"] == FRAMES
        assert sum(frames for (kind, _), frames in by.items() if kind == "hidden") == 2 * FRAMES


def test_clips_without_truth_or_with_one_name_are_refused(clip, tmp_path, fake) -> None:
    twin = write_clip(tmp_path / "other" / "clip_a", "back", "sphere")
    with pytest.raises(InputError, match="the same name"):
        evaluate_clips(Request("rgb", (clip, twin), tmp_path / "out", processes=1))
    (clip / "truth.npz").unlink()
    with pytest.raises(MissingFileError, match=r"truth\.npz"):
        evaluate_clips(request(clip, tmp_path / "out"))
    with pytest.raises(MissingFileError, match=r"clip\.json"):
        evaluate_clips(request(tmp_path / "absent", tmp_path / "out"))


def test_folder_that_cannot_be_written(clip, tmp_path, fake) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="name another folder with -o"):
        evaluate_clips(request(clip, tmp_path / "file" / "out"))


@pytest.mark.parametrize(
    ("visible", "group"), [(1.0, "00-10 %"), (0.85, "10-30 %"), (0.5, "30-60 %"), (0.2, "60-100 %")]
)
def test_hidden_groups(visible: float, group: str) -> None:
    assert hidden_group(FrameScore(0, visible, True, True)) == group


def test_the_command_line_passes_everything_on(monkeypatch, tmp_path) -> None:
    seen: list[Request] = []
    monkeypatch.setattr(evaluating_clips, "evaluate_clips", lambda wanted: seen.append(wanted) or 0)
    line = f"grasp-nodes evaluate-clips -o {tmp_path} --variants all --clips a --clips b --count 3 --frames 7"
    monkeypatch.setattr(
        sys, "argv", f"{line} --seed 5 --processes 1 --worst 2 --markdown m.md --pictures p --json".split()
    )
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 0
    assert seen == [Request("all", (Path("a"), Path("b")), tmp_path, 3, 7, 5, 1, 2, Path("m.md"), True, Path("p"))]


def test_bad_variants_end_with_exit_code_2(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["grasp-nodes", "evaluate-clips", "-o", str(tmp_path), "--variants", "best"])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 2
    assert "no_collision" in capsys.readouterr().err
