"""Colours of contact maps by contact, region and elasticity, in pictures and on the page."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.contact.contact_map import REGION_NOT_COMPUTED, ContactMap
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, ObjectState
from grasp_nodes.objects.loading import load_object
from grasp_nodes.viewer.colors import CONTACT, ELASTICITY, OBJECT, REGION_COLORS, contact_map_colors


def contact_map(contact, region, elasticity, points=None):
    count = len(contact)
    return ContactMap(
        "ball",
        np.zeros((count, 3), np.float32) if points is None else points,
        np.zeros(count, np.float32),
        np.array(contact, np.float32),
        np.zeros(778, np.float32),
        np.zeros(778, np.float32),
        0.005,
        region=np.array(region, np.uint8),
        elasticity=np.array(elasticity, np.float32),
    )


def test_each_coloring_shows_its_own_field():
    given = contact_map([0.0, 1.0, 1.0, 1.0], [3, 3, 16, REGION_NOT_COMPUTED], [0.0, 1.0, 0.5, np.nan])
    np.testing.assert_array_equal(contact_map_colors(given), [OBJECT, CONTACT, CONTACT, CONTACT])
    np.testing.assert_array_equal(
        contact_map_colors(given, "region"), [OBJECT, REGION_COLORS[3], REGION_COLORS[16], OBJECT]
    )
    half = np.round((OBJECT.astype(float) + ELASTICITY) / 2)
    np.testing.assert_array_equal(contact_map_colors(given, "elasticity"), [OBJECT, ELASTICITY, half, OBJECT])


def test_regions_can_be_told_apart():
    between = np.abs(REGION_COLORS[:, None].astype(int) - REGION_COLORS).max(axis=2)
    assert between[np.triu_indices(17, 1)].min() > 15


@pytest.fixture
def page():
    pytest.importorskip("viser", reason="the viewer extra is not installed")
    from grasp_nodes.viewer.page import ViewerPage

    viewer = ViewerPage(port=18540)
    yield viewer
    viewer.close()


def test_the_page_shows_the_points_that_are_touched(page):
    ball = load_object("sphere:0.04", object_id="ball")
    page.set_object(ball)
    turned = np.array([[0.0, -1, 0, 0.1], [1, 0, 0, 0.2], [0, 0, 1, 0.6], [0, 0, 0, 1]])

    def show(touched):
        contact = np.zeros(20)
        contact[:touched] = 1.0
        given = contact_map(contact, np.arange(20) % 17, np.ones(20), ball.points[:20])
        placed = ObjectState("ball", turned)
        page.update_state(HandObjectState(0, "camera", objects=[placed], contact_maps=[given], status=FitStatus.OK))

    show(7)
    np.testing.assert_allclose(page._touched.points, ball.points[:7] @ turned[:3, :3].T + turned[:3, 3], atol=1e-6)
    np.testing.assert_array_equal(page._touched.colors, np.tile(CONTACT, (7, 1)))
    page._coloring.value = "region"
    show(12)
    np.testing.assert_array_equal(page._touched.colors, REGION_COLORS[:12])
    show(0)
    assert not page._touched.visible
