"""Both simulators on scenes with a known end, and what they need."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial import ConvexHull
from scipy.stats import spearmanr

from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.evaluation.as_released import displacement_as_released_by_oakink
from grasp_nodes.evaluation.penetration import fingertip_regions
from grasp_nodes.evaluation.simulation.convex_parts import convex_hull, convex_parts, read_obj, write_obj
from grasp_nodes.evaluation.simulation.mujoco_engine import MujocoEngine
from grasp_nodes.evaluation.simulation.protocol import BULLET_GAP, CHOIR, HASSON, HOLD, OAKINK, DisplacementProtocol
from grasp_nodes.evaluation.simulation.pybullet_displacement import simulation_displacement
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.objects.shapes import mug


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def box(extents, at=(0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    return trimesh.creation.box(extents).apply_translation(at)


def solid(mesh: trimesh.Trimesh, name: str = "object") -> Solid:
    return Solid(mesh.vertices, mesh.faces, name)


def fine(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Vertices some millimetres apart, as a hand's."""
    return mesh.subdivide_to_size(0.006)


FAR = box((0.01, 0.01, 0.01), (1.0, 1.0, 1.0))
CUBE = box((0.04, 0.04, 0.04))


def cage() -> trimesh.Trimesh:
    """Six plates half a millimetre from a cube of 4 cm, whose edges, where balls stand out, are away from it."""
    plates = []
    for axis in range(3):
        for side in (-1, 1):
            extents, at = [0.07, 0.07, 0.07], [0.0, 0.0, 0.0]
            extents[axis], at[axis] = 0.008, side * (0.02 + 0.0005 + 0.004)
            plates.append(fine(box(extents, at)))
    return trimesh.util.concatenate(plates)


def lowest(shape: Solid) -> float:
    """Where gravity, along +y, puts what the object rests on: its hull, 0.3 mm larger than a cube of 4 cm."""
    return float(max(part.vertices[:, 1].max() for part in convex_parts(shape)))


@pytest.fixture
def parts_of_pybullet():
    pytest.importorskip("pybullet", reason="V-HACD, which cuts the object, is PyBullet's")


class TestPyBullet:
    @pytest.fixture(autouse=True)
    def needs(self):
        pytest.importorskip("pybullet", reason="the sim extra is not installed")

    def test_free_fall_is_10_68_cm_and_the_protocol_knows_it(self):
        found = simulation_displacement(FAR.vertices[None], FAR.faces, solid(CUBE))
        assert found.displacement[0] == pytest.approx(0.1068, abs=5e-5)
        assert HASSON.free_fall == pytest.approx(found.displacement[0], rel=1e-4)
        np.testing.assert_allclose(found.final_center_of_mass[0], [0, found.displacement[0], 0], atol=1e-9)

    @pytest.mark.parametrize("protocol", [HASSON, OAKINK])
    def test_an_object_that_rests_scores_nothing_and_oakinks_number_its_offset(self, protocol):
        # Gravity is +y. What rests is the hull, 0.3 mm larger than the box under Hasson's settings.
        away = solid(box((0.04, 0.04, 0.04), (0.03, 0.0, 0.0)))
        parts = convex_parts(away, protocol.vhacd_resolution, protocol.vhacd_concavity)
        low = max(part.vertices[:, 1].max() for part in parts)
        floor = box((0.3, 0.02, 0.3), (0.0, low + BULLET_GAP + 0.01, 0.0))
        found = simulation_displacement(floor.vertices[None], floor.faces, away, protocol)
        assert found.displacement[0] < 5e-5
        assert displacement_as_released_by_oakink(found.final_center_of_mass)[0] == pytest.approx(0.03, rel=0.01)
        # An object that touches by its own mesh is pushed away by more than 2 mm.
        touching = box((0.3, 0.02, 0.3), (0.0, 0.02 + 0.01, 0.0))
        pushed = simulation_displacement(touching.vertices[None], touching.faces, away, protocol).displacement[0]
        assert 1e-3 < pushed < 3e-3

    def test_the_vertex_mean_as_centre_depends_on_the_tessellation_and_the_volume_does_not(self):
        cylinder = trimesh.creation.cylinder(0.03, 0.1, sections=24)
        # Each face of the upper lid in three, by its centre.
        lid = cylinder.triangles_center[:, 2] > 0.04
        a, b, c = cylinder.faces[lid].T
        middle = len(cylinder.vertices) + np.arange(lid.sum())
        parts = [np.stack(corners, axis=1) for corners in ((a, b, middle), (b, c, middle), (c, a, middle))]
        odd = Solid(
            np.concatenate([cylinder.vertices, cylinder.triangles_center[lid]]),
            np.concatenate([cylinder.faces[~lid], *parts]),
        )
        by_volume = replace(HASSON, name="by volume", center_of_mass="volume")
        assert abs(HASSON.center(solid(cylinder))[2]) < 1e-12
        assert HASSON.center(odd)[2] > 0.005
        assert abs(by_volume.center(odd)[2]) < 1e-9

    def test_nan_is_nan_and_the_others_are_not_touched(self):
        hands = np.stack([FAR.vertices, np.full_like(FAR.vertices, np.nan), FAR.vertices])
        found = simulation_displacement(hands, FAR.faces, solid(CUBE))
        assert np.isnan(found.displacement).tolist() == [False, True, False]
        assert found.displacement[0] == found.displacement[2]

    def test_pressed_fingertips_push_an_object_without_weight_that_a_stiff_hand_leaves_alone(self, hand):
        vertices = hand.posed(np.zeros(45))
        tips = fingertip_regions(hand.weights)
        # A plate 2 mm before the fingertips of a flat hand, whose palm looks along -y.
        low = vertices[np.concatenate(tips[1:])].min(axis=0)
        middle = vertices[np.concatenate(tips[1:])].mean(axis=0)
        plate = solid(box((0.03, 0.01, 0.05), (middle[0], low[1] - 0.005 - 0.0021, middle[2])))
        with pytest.raises(InputError, match="fingertips"):
            simulation_displacement(vertices[None], hand.faces, plate, CHOIR)
        weightless = replace(CHOIR, name="weightless", gravity=(0.0, 0.0, 0.0))
        pressed = simulation_displacement(vertices[None], hand.faces, plate, weightless, tips).displacement[0]
        still = simulation_displacement(
            vertices[None], hand.faces, plate, replace(weightless, press_force=0.0)
        ).displacement[0]
        assert still < 1e-3
        assert pressed > 5e-3  # 8 N on a kilogram for 0.146 s, until the sliders end

    def test_vhacd_covers_the_object_and_little_more(self):
        mesh = mug()
        parts = convex_parts(solid(mesh))
        hulls = [ConvexHull(part.vertices).equations for part in parts]
        outside = np.stack([(mesh.vertices @ one[:, :3].T + one[:, 3]).max(axis=1) for one in hulls])
        assert outside.min(axis=0).max() < 0.001
        corners = np.concatenate([part.vertices for part in parts])
        np.testing.assert_allclose([corners.min(axis=0), corners.max(axis=0)], mesh.bounds, atol=0.003)


class TestMujoco:
    @pytest.fixture(autouse=True)
    def needs(self):
        pytest.importorskip("mujoco", reason="the sim extra is not installed")

    def test_free_fall_is_that_of_the_protocol(self, parts_of_pybullet):
        found = MujocoEngine(solid(CUBE), FAR.faces).displacement(FAR.vertices[None])
        assert found[0] == pytest.approx(HASSON.free_fall, rel=3e-3)

    def test_an_object_that_rests_scores_nothing(self, parts_of_pybullet):
        floor = fine(box((0.08, 0.02, 0.08), (0.0, lowest(solid(CUBE)) + BULLET_GAP + 0.01, 0.0)))
        assert MujocoEngine(solid(CUBE), floor.faces).displacement(floor.vertices[None])[0] < 2e-4

    def test_it_ranks_bodies_as_pybullet_does(self, parts_of_pybullet):
        # Three balls around a cylinder, some loose and some too tight.
        target = solid(trimesh.creation.cylinder(0.03, 0.1, sections=48))
        hands = []
        for seed in range(24):
            rng = np.random.default_rng(seed)
            turn, tight = rng.uniform(0, 2 * np.pi), rng.normal(-0.001, 0.002)
            angles = turn + np.array([0.0, 2.0, 4.0]) + rng.uniform(-0.3, 0.3, 3)
            away = 0.03 + 0.015 + BULLET_GAP + tight
            places = np.column_stack([away * np.cos(angles), away * np.sin(angles), rng.uniform(-0.03, 0.03, 3)])
            balls = [trimesh.creation.icosphere(3, 0.015).apply_translation(place) for place in places]
            hands.append(trimesh.util.concatenate(balls))
        vertices, faces = np.stack([mesh.vertices for mesh in hands]), hands[0].faces
        theirs = simulation_displacement(vertices, faces, target).displacement
        ours = MujocoEngine(target, faces).displacement(vertices)
        assert theirs.max() > 10 * theirs.min()
        assert spearmanr(ours, theirs)[0] > 0.85

    def test_a_simulation_that_diverges_holds_nothing(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # MuJoCo writes of it into the working folder
        around = cage()
        engine = MujocoEngine(solid(CUBE), around.faces)
        endless = replace(HOLD, gravity=1e300)
        found = engine.six_direction_hold(around.vertices[None], endless)
        assert found.holds.tolist() == [False]

    def test_a_displacement_that_diverges_is_nan(self, parts_of_pybullet):
        engine = MujocoEngine(solid(CUBE), FAR.faces)
        hands, endless = np.stack([FAR.vertices, FAR.vertices]), replace(HASSON, gravity=(0.0, 1e300, 0.0))
        assert np.isnan(engine.displacement(hands, endless)).all()
        assert engine.displacement(hands)[1] == pytest.approx(HASSON.free_fall, rel=3e-3)

    def test_what_is_held_early_is_held_to_the_end(self):
        around = cage()
        floor = fine(box((0.08, 0.02, 0.08), (0.0, 0.0305, 0.0)))
        to_the_end = replace(HOLD, settle_speed=0.0)
        for mesh in (around, floor):
            engine = MujocoEngine(solid(CUBE), mesh.faces)
            early = engine.six_direction_hold(mesh.vertices[None], every_direction=True)
            late = engine.six_direction_hold(mesh.vertices[None], to_the_end, every_direction=True)
            np.testing.assert_array_equal(early.displacement > HOLD.limit, late.displacement > HOLD.limit)
            np.testing.assert_allclose(
                early.displacement[0, early.displacement[0] < HOLD.limit],
                late.displacement[0, late.displacement[0] < HOLD.limit],
                atol=5e-4,
            )

    def test_an_object_above_a_floor_falls_and_one_inside_is_pushed_out_as_in_pybullet(self, parts_of_pybullet):
        floor, cube = fine(box((0.08, 0.02, 0.08), (0.0, 0.0, 0.0))), solid(CUBE)
        engine = MujocoEngine(cube, floor.faces)
        shift = np.array([0.0, lowest(cube) + BULLET_GAP + 0.01, 0.0])
        hands = np.stack([floor.vertices + shift + [0, gap, 0] for gap in (0.0, 0.01, 0.03, -0.0005, -0.001, -0.002)])
        found = engine.displacement(hands)
        # One that falls on the floor goes a little into it.
        np.testing.assert_allclose(found[:3], [0.0, 0.01, 0.03], atol=1.2e-3)
        np.testing.assert_allclose(found, simulation_displacement(hands, floor.faces, cube).displacement, atol=5e-4)
        # The same hands in another order: the scene keeps nothing of the last one.
        np.testing.assert_allclose(engine.displacement(hands[::-1])[::-1], engine.displacement(hands), atol=1e-9)

    def test_a_cage_holds_in_six_directions_and_is_shaken_in_vain_and_a_floor_holds_in_one(self):
        around = cage()
        engine = MujocoEngine(solid(CUBE), around.faces)
        held = engine.six_direction_hold(around.vertices[None])
        assert held.holds.tolist() == [True]
        np.testing.assert_allclose(held.displacement, 0.0005, atol=1e-4)
        assert engine.shake(around.vertices[None]).holds.tolist() == [True]
        floor = fine(box((0.08, 0.02, 0.08), (0.0, 0.0305, 0.0)))
        engine = MujocoEngine(solid(CUBE), floor.faces)
        found = engine.six_direction_hold(floor.vertices[None], every_direction=True)
        assert (found.displacement[0] < HOLD.limit).tolist() == [False, False, True, False, False, False]
        assert not found.holds[0]
        # The first of the directions in which nothing is in the way, and no other.
        stopped = engine.six_direction_hold(floor.vertices[None])
        assert np.isinf(stopped.displacement[0]).sum() == 5
        assert HOLD.limit < stopped.displacement[0].min() < np.inf
        assert not engine.shake(floor.vertices[None]).holds[0]

    @pytest.mark.parametrize(("slope", "slips"), [(14, False), (20, True)])
    def test_a_slope_holds_up_to_the_angle_of_friction(self, slope, slips):
        # Coulomb: a block slips where the tangent of the slope is more than the friction, here from 16.7 degrees on.
        turn = trimesh.transformations.rotation_matrix(np.deg2rad(slope), [0, 0, 1])
        block = box((0.04, 0.02, 0.04)).apply_transform(turn)
        plane = fine(box((0.12, 0.02, 0.12), (0.0, -0.0199, 0.0))).apply_transform(turn)
        settings = replace(HOLD, friction=0.3, limit=1.0, duration=0.25, settle_speed=0.0)
        engine = MujocoEngine(solid(block), plane.faces)
        down = engine.six_direction_hold(plane.vertices[None], settings, every_direction=True).displacement[0, 3]
        assert (down > 1e-3) == slips
        assert slips or down < 3e-4

    def test_the_inside_of_a_mug_is_empty(self):
        # A ball of 2 cm hangs in the mug's inside and is touched by nothing: the mug falls as if it were alone.
        whole = mug()
        low, high = whole.bounds
        inside = trimesh.creation.icosphere(3, 0.01).apply_translation([0.0, 0.0, 0.5 * (low[2] + high[2])])
        short = replace(HOLD, duration=4 * HOLD.timestep, settle_speed=0.0)
        found = MujocoEngine(solid(whole), inside.faces).six_direction_hold(inside.vertices[None], short, True)
        fall = HOLD.gravity * HOLD.timestep**2 * (1 + 2 + 3 + 4)
        np.testing.assert_allclose(found.displacement, fall, rtol=1e-6)

    def test_nan_does_not_hold(self):
        around = cage()
        hands = np.stack([np.full_like(around.vertices, np.nan), around.vertices])
        engine = MujocoEngine(solid(CUBE), around.faces)
        assert engine.six_direction_hold(hands).holds.tolist() == [False, True]
        with pytest.raises(InputError, match="PyBullet"):
            engine.displacement(hands, CHOIR)

    def test_nan_is_nan(self, parts_of_pybullet):
        around = cage()
        hands = np.stack([np.full_like(around.vertices, np.nan), around.vertices])
        assert np.isnan(MujocoEngine(solid(CUBE), around.faces).displacement(hands)).tolist() == [True, False]

    def test_without_pybullet_there_is_a_hold_but_no_displacement(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pybullet", None)
        around, uncut = cage(), solid(box((0.0401, 0.04, 0.04)))
        engine = MujocoEngine(uncut, around.faces)
        assert engine.six_direction_hold(around.vertices[None]).holds.tolist() == [True]
        with pytest.raises(MissingDependencyError, match=r"grasp_nodes\[sim\]"):
            engine.displacement(around.vertices[None])


def test_a_hull_is_slim():
    part = convex_hull(trimesh.creation.icosphere(5, 0.03).vertices)
    assert len(part.vertices) <= 64
    assert Solid(*part).volume == pytest.approx(4 / 3 * np.pi * 0.03**3, rel=0.12)
    np.testing.assert_allclose(np.sort(convex_hull(CUBE.vertices).vertices, axis=0), np.sort(CUBE.vertices, axis=0))


def test_parts_come_from_the_cache_and_a_damaged_file_is_made_again(tmp_path, monkeypatch, caplog):
    pytest.importorskip("pybullet", reason="the sim extra is not installed")
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path))
    one = solid(box((0.03, 0.04, 0.05)))
    first = convex_parts(one)
    (file,) = (tmp_path / "convex_parts").iterdir()
    monkeypatch.setattr("grasp_nodes.evaluation.simulation.convex_parts._vhacd", lambda *_: [])
    again = convex_parts(solid(trimesh.Trimesh(one.vertices, one.faces, process=False)))
    assert len(again) == len(first)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.vertices, b.vertices)
    file.write_bytes(b"half a fi")
    assert convex_parts(one) == []
    assert "damaged" in caplog.text


def test_obj_groups_come_back(tmp_path):
    parts = [convex_hull(CUBE.vertices), convex_hull(FAR.vertices)]
    write_obj(tmp_path / "parts.obj", parts)
    for part, back in zip(parts, read_obj(tmp_path / "parts.obj"), strict=True):
        np.testing.assert_allclose(back.vertices, part.vertices)
        np.testing.assert_array_equal(back.faces, part.faces)


@pytest.mark.parametrize("package", ["pybullet", "mujoco"])
def test_without_the_package_the_message_says_how_to_install_it(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    run = {
        "pybullet": lambda: simulation_displacement(FAR.vertices[None], FAR.faces, solid(CUBE)),
        "mujoco": lambda: MujocoEngine(solid(CUBE), FAR.faces),
    }[package]
    with pytest.raises(MissingDependencyError, match=r"grasp_nodes\[sim\]"):
        run()


def test_protocols_say_all_their_settings_and_refuse_nonsense():
    assert HASSON.describe()["steps"] == 35
    assert OAKINK.describe()["vhacd_resolution"] == 100_000
    assert HOLD.describe()["limit"] == 0.02
    with pytest.raises(InputError, match="steps"):
        DisplacementProtocol("none", steps=0)
    # Without a step, everything would be held.
    for nonsense in ({"duration": 0.0}, {"timestep": 0.0}, {"object_mass": -1.0}, {"limit": float("nan")}):
        with pytest.raises(InputError, match="hold protocol"):
            replace(HOLD, **nonsense)


def test_a_diverging_simulation_leaves_no_file_behind(tmp_path, monkeypatch):
    mujoco = pytest.importorskip("mujoco", reason="the sim extra is not installed")

    from grasp_nodes.evaluation.simulation.mujoco_engine import _import_mujoco

    monkeypatch.chdir(tmp_path)
    _import_mujoco()
    ball = '<mujoco><worldbody><body><freejoint/><geom size="1" mass="1"/></body></worldbody></mujoco>'
    model = mujoco.MjModel.from_xml_string(ball)
    state = mujoco.MjData(model)
    state.qvel[0] = 1e30
    mujoco.mj_step(model, state)
    assert sum(warning.number for warning in state.warning) > 0
    assert not list(tmp_path.iterdir())
