"""Objects and places that several tests of fits use."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.model import ObjectModel


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of the module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def bracket(cache) -> ObjectModel:
    """Three bars of different lengths: no view of it looks like another."""
    bars = [
        trimesh.creation.box((0.11, 0.02, 0.02)),
        trimesh.creation.box((0.02, 0.07, 0.02)),
        trimesh.creation.box((0.03, 0.02, 0.05)),
    ]
    bars[1].apply_translation([0.045, 0.035, 0.0])
    bars[2].apply_translation([-0.03, 0.0, 0.03])
    solid = trimesh.boolean.union(bars)
    return make_object(np.array(solid.vertices) + [0.02, 0, 0], np.array(solid.faces), "bracket")
