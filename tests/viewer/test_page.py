"""The page as a person sees it: screenshots by headless Chromium."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object

viser = pytest.importorskip("viser", reason="the viewer extra is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from grasp_nodes.viewer.colors import HAND_TRAIL  # noqa: E402
from grasp_nodes.viewer.page import ViewerPage  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

WIDTH, HEIGHT = 1280, 800
SCENE = slice(330, 860)
"""Columns of the 3D view between the browser's notice about software rendering and the panel."""
CAMERA = CameraModel(np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]]), 640, 480)
STAMP = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """One headless Chromium that asks no outside host."""
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page() -> Iterator[ViewerPage]:
    """A page on a free port."""
    viewer = ViewerPage(port=18080)
    yield viewer
    viewer.close()


def screenshot(
    browser: object, address: str, is_drawn: Callable[[np.ndarray], bool] = lambda _: False, patience: float = 40.0
) -> np.ndarray:
    """RGB picture of the page as soon as `is_drawn` says so; the last one when it never does within `patience` s."""
    tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})  # type: ignore[attr-defined]
    try:
        tab.goto(address, wait_until="commit")
        tab.wait_for_selector("canvas", timeout=30_000)
        end = time.monotonic() + patience
        while True:
            time.sleep(1.0)
            encoded = np.frombuffer(tab.screenshot(), np.uint8)
            image = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            if is_drawn(image) or time.monotonic() > end:
                return image
    finally:
        tab.close()


def share_of_hue(image: np.ndarray, low: int, high: int) -> float:
    """Share of the 3D view's pixels that are coloured and have an OpenCV hue in [low, high)."""
    scene = cv2.cvtColor(image[:, SCENE], cv2.COLOR_RGB2HSV)
    return float(((scene[..., 0] >= low) & (scene[..., 0] < high) & (scene[..., 1] > 40)).mean())


def share_of_red(image: np.ndarray) -> float:
    """Share of the 3D view's pixels in the colour of contact."""
    scene = image[:, SCENE].astype(int)
    return float(
        ((scene[..., 0] > 100) & (scene[..., 1] < scene[..., 0] // 3) & (scene[..., 2] < scene[..., 0] // 3)).mean()
    )


def state_in_view(contact: float) -> HandObjectState:
    """A right hand 0.6 m in front of the camera, a ball beside it, and one level of contact all over the hand."""
    model = load_hand_model("right")
    params = HandParams(
        torch.tensor([[0.0, 0.0, 1.2]]),
        torch.zeros(1, 45),
        torch.zeros(1, 10),
        torch.tensor([[0.0, 0.0, 0.6]]),
        torch.ones(1),
    )
    with torch.no_grad():
        output = model(params)
    hand = HandState(
        params,
        output.keypoints[0].double().numpy(),
        np.tile([0.0, 0, 0, 0, 0, 0, 1], (16, 1)),
        model.model_id,
        model.fingerprint,
        1,
        0.9,
        True,
    )
    T_camera_object = np.eye(4)
    T_camera_object[:3, 3] = [0.12, 0.05, 0.6]
    contact_map = ContactMap(
        "ball",
        np.zeros((1, 3), np.float32),
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
        np.zeros(778, np.float32),
        np.full(778, contact, np.float32),
        0.005,
        "right",
        1,
    )
    return HandObjectState(
        STAMP,
        CAMERA.frame_id,
        [hand],
        [ObjectState("ball", T_camera_object, score=0.8)],
        [contact_map],
        status=FitStatus.OK,
    )


def test_empty_scene_shows_no_hand(browser: object, page: ViewerPage) -> None:
    image = screenshot(browser, page.address, patience=5.0)
    assert share_of_hue(image, 2, 22) < 0.001


def test_hand_object_and_picture_are_seen(browser: object, page: ViewerPage) -> None:
    page.set_camera(CAMERA)
    page.set_object(load_object("sphere:0.04", object_id="ball"))
    page.update_image(np.full((480, 640, 3), (20, 200, 20), np.uint8), STAMP)
    page.update_state(state_in_view(contact=0.0))
    image = screenshot(
        browser,
        page.address,
        lambda image: share_of_hue(image, 2, 22) > 0.01 and share_of_hue(image, 95, 125) > 0.003,
    )
    assert share_of_hue(image, 2, 22) > 0.01, "the hand is missing from the 3D view"
    assert share_of_hue(image, 95, 125) > 0.003, "the object is missing from the 3D view"
    panel = cv2.cvtColor(image[:, SCENE.stop :], cv2.COLOR_RGB2HSV)
    green = (panel[..., 0] > 50) & (panel[..., 0] < 70) & (panel[..., 1] > 150)
    assert green.mean() > 0.05, "the camera picture is missing from the panel"


def test_contact_turns_the_hand_red(browser: object, page: ViewerPage) -> None:
    page.update_state(state_in_view(contact=1.0))
    image = screenshot(browser, page.address, lambda image: share_of_red(image) > 0.01)
    assert share_of_red(image) > 0.01


def test_reason_is_shown_when_nothing_is_seen(browser: object, page: ViewerPage) -> None:
    page.set_status("No hand found for 6 s: palm score below 0.5", {"frames in, Hz": 29.8})
    tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})  # type: ignore[attr-defined]
    try:
        tab.goto(page.address, wait_until="commit")
        tab.wait_for_selector("text=palm score below 0.5", timeout=20_000)
        assert tab.get_by_text("29.8").count() == 1
    finally:
        tab.close()


def test_cloud_is_seen_in_its_colours_and_thinned(browser: object, page: ViewerPage) -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-0.15, 0.15, (60_000, 2)), np.full((60_000, 1), 0.6)], axis=1)
    page.set_cloud(points, np.tile(np.array([30, 200, 60], np.uint8), (len(points), 1)))

    def green(image: np.ndarray) -> float:
        return share_of_hue(image, 50, 75)

    assert green(screenshot(browser, page.address, lambda image: green(image) > 0.2)) > 0.2
    page.set_cloud(points[:0])
    assert green(screenshot(browser, page.address, lambda image: green(image) < 0.01)) < 0.01


def test_reason_stands_above_the_last_state(page: ViewerPage) -> None:
    page.update_state(state_in_view(0.0))
    page.set_status("fitting_node: evidence stopped coming")
    told = page._status.content.split("  \n")
    assert told[0].startswith("**fitting")
    assert told[0].endswith("coming**")
    assert told[1] == "Before that:"
    assert "right hand, score 0.90" in told
    assert not any("Following" in line for line in told)
    page.update_state(state_in_view(0.0))
    assert page._status.content.startswith("**Following**")


def test_text_from_outside_is_shown_and_not_run(browser: object, page: ViewerPage) -> None:
    text = (
        "lost <b>hand</b> *of* my_mug <img src=x onerror=\"document.title='run'\"> ![p](http://127.0.0.1:9/p.png) {1+1}"
    )
    page.set_status(text)
    tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})  # type: ignore[attr-defined]
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    try:
        tab.goto(page.address, wait_until="commit")
        tab.get_by_text("of* my_mug").wait_for(timeout=20_000)
        shown = tab.get_by_text("of* my_mug").inner_text()
        assert shown == text
        assert tab.title() != "run"
        assert not [url for url in asked if "p.png" in url or url.endswith("/x")]
    finally:
        tab.close()


@pytest.mark.parametrize("trails", [True, False])
def test_ways_are_drawn_of_motions_and_not_of_proposals(browser: object, trails: bool) -> None:
    viewer = ViewerPage(18090, trails=trails)

    def orange(image: np.ndarray) -> float:
        scene = image[:, SCENE].astype(int)
        return float((np.abs(scene - HAND_TRAIL).max(axis=-1) < 40).mean())

    try:
        for k in range(3):
            shown = state_in_view(0.0)
            hand = shown.hands[0]
            moved = replace(hand, keypoints=hand.keypoints + [0.15 * (-1) ** k, 0.1 * k - 0.1, 0.0])
            viewer.update_state(replace(shown, stamp=STAMP + k, hands=[moved]))
        seen = orange(screenshot(browser, viewer.address, lambda image: orange(image) > 1e-3, 12.0))
        assert (seen > 1e-3) == trails
    finally:
        viewer.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="expected an address of this machine"):
        ViewerPage(18321, host)
