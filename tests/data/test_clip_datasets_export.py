from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grasp_nodes.data.clip_datasets.export import export_clip
from grasp_nodes.data.clip_datasets.registry import ClipOptions, find_dataset
from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.errors import InputError
from grasp_nodes.objects.loading import load_object
from tests.data import clip_dataset_doubles as doubles
from tests.data.test_clip_datasets_ho3d import Writer, empty_meta


def test_the_longest_annotated_run_becomes_a_clip(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(7):
        writer.frame("train/ABF10", number, **(empty_meta() if number in (1, 5) else {}))
    source = find_dataset("ho3d").open(tmp_path, "ABF10", ClipOptions(doubles.hand_models()))
    clip = open_clip(export_clip(source, tmp_path / "clip"))
    assert clip.has_depth
    frames, states = list(clip), clip.trajectory.states
    assert [frame.stamp for frame in frames] == [source.stamps[row] for row in (2, 3, 4)]
    for frame, state, row in zip(frames, states, (2, 3, 4), strict=True):
        expected, known = source.frame(row), source.truth(frame.stamp)
        np.testing.assert_array_equal(frame.color, expected.color)
        np.testing.assert_allclose(frame.depth, expected.depth, atol=0.5 * 0.000125 + 1e-6)
        np.testing.assert_array_equal(frame.camera.camera_k, expected.camera.camera_k)
        np.testing.assert_allclose(state.hands[0].keypoints, known.hands[0].keypoints)
        np.testing.assert_allclose(state.hands[0].params.hand_pose, known.hands[0].params.hand_pose)
        np.testing.assert_allclose(state.hands[0].joint_poses, known.hands[0].joint_poses)
        np.testing.assert_allclose(state.objects[0].T_camera_object, known.objects[0].T_camera_object)
        assert state.objects[0].object_id == clip.object_id == source.object_id
    before, after = load_object(source.object_spec), load_object(clip.object_spec)
    np.testing.assert_allclose(np.ptp(after.vertices, 0), np.ptp(before.vertices, 0), atol=1e-6)
    np.testing.assert_allclose(after.vertices.mean(0), before.vertices.mean(0), atol=1e-6)
    short = open_clip(export_clip(source, tmp_path / "short", frames=2))
    assert [frame.stamp for frame in short] == [source.stamps[row] for row in (2, 3)]


def test_without_mano_there_is_nothing_to_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRASP_NODES_HAND_MODEL", raising=False)
    Writer(tmp_path).frame("train/ABF10", 0)
    with pytest.raises(InputError, match=r"set GRASP_NODES_HAND_MODEL"):
        export_clip(find_dataset("ho3d").open(tmp_path, "ABF10"), tmp_path / "clip")
    assert not (tmp_path / "clip").exists()
