"""The clouds that a node rehearses with are a ball from all sides and a can on a table."""

import numpy as np

from grasp_nodes.objects.clouds.observed import object_from_cloud
from grasp_nodes.objects.clouds.rehearsal import rehearsal_clouds


def test_they_take_both_ways_from_a_cloud_to_an_object():
    ball, can = (object_from_cloud(cloud) for cloud in rehearsal_clouds())
    assert ball.table is None
    assert "seen from all sides" in ball.completion
    np.testing.assert_allclose(np.ptp(ball.model.vertices, axis=0), 0.07, atol=0.005)
    assert can.table is not None
    assert "completed by" in can.completion
    assert abs(np.ptp(can.model.vertices @ can.table.normal) - 0.1) < 0.01
