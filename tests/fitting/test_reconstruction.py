"""Windows of a clip: each frame comes out once and in order, final ones stay, and memory is bounded."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.errors import InputError
from grasp_nodes.fitting import reconstruction
from grasp_nodes.fitting.reconstruction import ClipReconstructor, InitialWindow, ReconstructionSettings
from grasp_nodes.fitting.tracks import HandTrack
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.perception.evidence import Evidence, ObservedFrame

CAMERA = CameraModel(np.array([[10.0, 0, 3.5], [0, 10.0, 3.5], [0, 0, 1]]), 8, 8)
HANDS = {"right": load_hand_model("right")}


class Observer:
    """Evidence without content; remembers which frames it saw, and in what windows."""

    def __init__(self) -> None:
        self.windows: list[list[int]] = []

    def perceive(self, frames):
        self.windows.append([frame.stamp for frame in frames])
        return [ObservedFrame(Evidence(frame.stamp, frame.camera)) for frame in frames]

    def reset(self) -> None:
        self.windows = []


class Numbered(ClipReconstructor):
    """Its fit puts the number of the window into each frame that is not kept, as the hand's distance."""

    fits = 0

    def initialise(self, frames, carried=None):
        kept = 0 if carried is None else carried.kept
        params = HandParams.zeros(len(frames))
        if carried is not None and carried.hands:
            before = carried.hands[0].params.transl
            params = replace(params, transl=torch.cat([before, torch.zeros(len(frames) - len(before), 3)]))
        flags = np.ones(len(frames), bool)
        return InitialWindow(frames, [HandTrack(params, flags, flags * 1.0, ~flags)], [], kept)

    def fit(self, window):
        self.fits += 1
        (track,) = window.hands
        transl = track.params.transl.clone()
        transl[window.kept :, 2] = self.fits
        return [replace(track, params=replace(track.params, transl=transl))], [], {}


def frames_of(count):
    return (Frame(stamp, np.zeros((8, 8, 3), np.uint8), CAMERA) for stamp in range(count))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(1, 12), st.integers(0, 5), st.integers(0, 9))
def test_each_frame_comes_out_once_and_in_order(count, window, overlap, first):
    if 2 * overlap >= max(window, 2):
        overlap = (window - 1) // 2
    observer = Observer()
    reconstructor = Numbered(observer, HANDS, {}, ReconstructionSettings(window=window, overlap=overlap))
    results = list(reconstructor.reconstruct(frames_of(count), first))
    assert [state.stamp for result in results for state in result.states] == list(range(count))
    starts = np.cumsum([first, *(len(result.states) for result in results)])[:-1]
    assert [result.start for result in results] == starts.tolist()
    assert [stamp for seen in observer.windows for stamp in seen] == list(range(count))
    # What was handed out is of the window that handed it out, or of one before.
    assert all(state.hands[0].params.transl[0, 2] <= k for k, r in enumerate(results, 1) for state in r.states)


def test_the_end_of_a_window_is_fitted_again_with_the_next_one():
    reconstructor = Numbered(Observer(), HANDS, {}, ReconstructionSettings(window=10, overlap=2))
    results = list(reconstructor.reconstruct(frames_of(20)))
    by_window = [[int(state.hands[0].params.transl[0, 2]) for state in result.states] for result in results]
    assert [len(numbers) for numbers in by_window] == [8, 6, 6]
    assert by_window[0] == [1] * 8
    assert by_window[1] == [2] * 6


def test_no_more_than_two_windows_of_frames_are_in_memory():
    alive = most = 0

    def gone():
        nonlocal alive
        alive -= 1

    def source():
        nonlocal alive, most
        for frame in frames_of(200):
            weakref.finalize(frame, gone)
            alive += 1
            most = max(most, alive)
            yield frame

    reconstructor = Numbered(Observer(), HANDS, {}, ReconstructionSettings(window=10, overlap=2))
    done = sum(len(result.states) for result in reconstructor.reconstruct(source()))
    assert done == 200
    assert most <= 20


@pytest.mark.parametrize(("window", "overlap"), [(0, 0), (10, 5), (10, -1), (3, 2)])
def test_windows_that_cannot_be_are_refused(window, overlap):
    with pytest.raises(InputError, match="window"):
        ReconstructionSettings(window=window, overlap=overlap)


def test_a_hand_model_is_needed():
    with pytest.raises(InputError, match="hand_models"):
        ClipReconstructor(Observer(), {}, {})


@pytest.mark.parametrize(("independent", "asked"), [(False, True), (True, True), (False, False)])
def test_hands_are_moved_to_objects_where_it_is_asked_for(monkeypatch, independent, asked):
    params = replace(HandParams.zeros(3), transl=torch.tensor([[0.0, 0.0, 0.5]] * 3))
    flags = np.ones(3, bool)
    found = HandTrack(params, flags, flags * 1.0, ~flags)
    moved = replace(found, params=replace(params, transl=2 * params.transl))
    monkeypatch.setattr(reconstruction, "initialise_hands", lambda *_args, **_options: [found])
    monkeypatch.setattr(reconstruction, "brought_to_objects", lambda *_args: [moved])
    settings = ReconstructionSettings(independent=independent, size_by_object=asked)
    reconstructor = ClipReconstructor(Observer(), HANDS, {}, settings)
    window = reconstructor.initialise(Observer().perceive(list(frames_of(3))))
    assert window.hands[0] is (moved if asked and not independent else found)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("independent", [True, False])
def test_hands_tell_of_objects_unless_each_stands_by_itself(monkeypatch, independent, guided):
    params = replace(HandParams.zeros(3), transl=torch.tensor([[0.0, 0.0, 0.5]] * 3))
    flags = np.ones(3, bool)
    found = HandTrack(params, flags, flags * 1.0, ~flags)
    told = []

    def with_hands(_model, frames, hands, _hand_models, **_options):
        told.append(hands)
        return None, frames

    def with_paths(_model, _frames, hands, **_options):
        told.append(hands)

    monkeypatch.setattr(reconstruction, "initialise_hands", lambda *_args, **_options: [found])
    monkeypatch.setattr(reconstruction, "initialise_guided_object", with_hands)
    monkeypatch.setattr(reconstruction, "initialise_object", with_paths)
    settings = ReconstructionSettings(independent=independent, guided=guided)
    window = ClipReconstructor(Observer(), HANDS, {"can": None}, settings).initialise(
        Observer().perceive(list(frames_of(3)))
    )
    assert [len(hands) for hands in told] == [0 if independent else 1]
    assert window.hands == [found]
