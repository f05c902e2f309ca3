"""The library dex_retargeting behind our interface."""

import builtins

import numpy as np
import pytest

from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.retargeting.dex_retargeting_backend import DexRetargeting
from grasp_nodes.retargeting.retargeter import RetargetSettings
from tests.retargeting.human_doubles import human_like, some_pose


@pytest.mark.parametrize("mode", ["position", "vector", "dexpilot"])
def test_fingertips_of_a_robots_own_pose(generic, mode):
    pytest.importorskip("dex_retargeting")
    rng, kinematics = np.random.default_rng(3), generic.kinematics
    driven = kinematics.lower + 0.35 * (kinematics.upper - kinematics.lower)
    T = some_pose(rng)
    backend = DexRetargeting(generic, RetargetSettings(mode, scale=1.0))
    for _ in range(3):  # it goes on from the last answer
        found = backend.update(human_like(generic, driven, T), 5, "camera")
    tips = generic.fingertips(kinematics.reduce(found.positions), found.T_frame_base)
    assert np.linalg.norm(tips - generic.fingertips(driven, T), axis=1).mean() < (0.005 if mode == "position" else 0.02)
    values = dict(zip(kinematics.joint_names, found.positions, strict=True))
    assert values["index_follow"] == pytest.approx(0.7 * values["index_curl"], abs=1e-5)


def test_what_it_cannot_do_is_told(generic, monkeypatch):
    with pytest.raises(InputError, match="no mode 'contact'"):
        DexRetargeting(generic, RetargetSettings("contact"))
    importing = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("dex_retargeting"):
            raise ImportError(name)
        return importing(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"grasp_nodes\[retarget\]"):
        DexRetargeting(generic, RetargetSettings("vector"))
