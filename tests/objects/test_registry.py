"""Procedural objects: solid, of hand scale, reproducible; volumes against closed formulas; what is held out."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import beta

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import is_watertight, signed_volume
from grasp_nodes.objects.families import flat, solids, tools, vessels
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.registry import (
    FAMILIES,
    HELD_OUT_FAMILIES,
    HELD_OUT_SEED,
    TRAINING_FAMILIES,
    ObjectName,
    check_not_held_out,
    family_mesh,
    heldout_names,
    parse_name,
    training_names,
)
from grasp_nodes.objects.surfaces import altitudes

HANDLES = {"mug": 1, "ring": 1}
"""Holes through the object."""


def check_object(name):
    vertices, faces = family_mesh(name)
    volume, extent = signed_volume(vertices, faces), np.sort(np.ptp(vertices, axis=0))
    assert is_watertight(faces)
    assert volume > 5e-6  # faces look outward
    assert 1000 <= len(faces) <= 10_000
    assert altitudes(vertices, faces).min() > 1e-6  # no degenerate face
    assert 0.03 < extent[2] < 0.30
    assert 0.006 < extent[0] < 0.092  # a hand opens that far
    np.testing.assert_allclose(vertices.min(axis=0), -vertices.max(axis=0), atol=1e-12)
    euler = len(vertices) - len(faces) / 2
    assert euler == 2 - 2 * HANDLES.get(parse_name(name).family, 0)
    return volume, extent


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.one_of(st.integers(0, 5000), st.integers(HELD_OUT_SEED, 2**40)))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_seed_is_a_solid_that_a_hand_can_hold(family, seed):
    check_object(f"{family}:{seed}")


@pytest.mark.parametrize("family", FAMILIES)
def test_seeds_differ_and_repeat(family):
    first, again = family_mesh(f"{family}:3"), family_mesh(f"family:{family}:3")
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    sizes = np.array([np.ptp(family_mesh(f"{family}:{seed}")[0], axis=0) for seed in range(8)])
    assert np.ptp(sizes, axis=0).max() > 0.01
    assert len(np.unique(sizes.round(5), axis=0)) == 8


def volume_of(mesh):
    return signed_volume(np.asarray(mesh.vertices), np.asarray(mesh.faces))


def rounded_box_volume(half, edge):
    """Steiner's formula for the parallel body of the inner box."""
    a, b, c = 2 * (np.array(half) - edge)
    flat_parts = a * b * c + 2 * edge * (a * b + b * c + c * a)
    return flat_parts + np.pi * edge**2 * (a + b + c) + 4 / 3 * np.pi * edge**3


def test_volumes_are_those_of_the_formulas():
    half = [0.02, 0.03, 0.05]
    assert volume_of(solids.box(half, 0.004)) == pytest.approx(rounded_box_volume(half, 0.004), rel=3e-3)
    assert volume_of(solids.ellipsoid(np.array(half))) == pytest.approx(4 / 3 * np.pi * 3e-5, rel=5e-3)
    capsule = np.pi * 0.02**2 * 0.1 + 4 / 3 * np.pi * 0.02**3
    assert volume_of(solids.capsule(0.02, 0.1)) == pytest.approx(capsule, rel=8e-3)
    cone = np.pi * 0.1 / 3 * (0.03**2 + 0.03 * 0.01 + 0.01**2)
    assert volume_of(solids.frustum(0.03, 0.01, 0.1, 1e-4)) == pytest.approx(cone, rel=5e-3)
    hexagon = 1.5 * np.sqrt(3) * 0.03**2
    assert volume_of(solids.prism(solids.polygon(6, 0.03, 1e-4), 0.1, 1e-4)) == pytest.approx(0.1 * hexagon, rel=5e-3)
    torus = 2 * np.pi**2 * 0.04 * 0.01 * 0.008
    assert volume_of(flat.ring(0.04, 0.01, 0.008)) == pytest.approx(torus, rel=0.02)
    slab = 8 * 0.035 * 0.07 * 0.005 - (4 - np.pi) * 0.008**2 * 0.01
    assert volume_of(flat.phone(np.array([0.035, 0.07, 0.005]), 0.008, 1e-4)) == pytest.approx(slab, rel=0.01)
    discs = np.pi * (2 * 0.04**2 * 0.23 + 0.012**2 * 0.54) * 0.15
    assert volume_of(tools.dumbbell(0.04, 0.012, 0.15, 5e-4)) == pytest.approx(discs, rel=0.01)


@pytest.mark.parametrize(("across", "around"), [(1.0, 1.0), (0.4, 0.6), (0.3, 1.3), (1.4, 1.4)])
def test_superquadrics_have_barrs_volume_and_surface(across, around):
    axes = np.array([0.02, 0.03, 0.04])
    mesh = solids.superquadric(axes, across, around)
    expected = 2 * axes.prod() * across * around * beta(across / 2 + 1, across) * beta(around / 2, around / 2)
    assert volume_of(mesh) == pytest.approx(expected, rel=0.025)
    x, y, z = np.abs(mesh.vertices / axes).T
    level = (x ** (2 / around) + y ** (2 / around)) ** (around / across) + z ** (2 / across)
    np.testing.assert_allclose(level, 1.0, rtol=1e-9)


def inside(mesh, *points):
    return trimesh.Trimesh(mesh.vertices, mesh.faces).contains(np.array(points)).tolist()


def test_vessels_are_hollow_and_bottles_are_not():
    outline = np.array([[0.03, 0.0], [0.035, 0.06], [0.04, 0.12]])
    glass = vessels.hollow(outline, 0.004, 0.008)
    assert inside(glass, [0, 0, 0.06], [0.0331, 0, 0.06], [0, 0, 0.004], [0, 0, 0.2]) == [False, True, True, False]
    assert glass.bounds[1, 2] == pytest.approx(0.12)
    goblet = vessels.goblet(0.035, 0.08, 0.06, 0.03, 0.0035)
    assert inside(goblet, [0, 0, 0.03], [0, 0, 0.11]) == [True, False]
    across = np.linspace(0, 0.05, 1001)
    wall = across[inside(goblet, *np.stack([across, 0 * across, 0 * across + 0.0936], axis=1))]
    assert np.ptp(wall) == pytest.approx(0.0035, abs=3e-4)
    assert 0.03 < wall.max() < 0.0351
    bottle = vessels.bottle(0.03, 0.2, 0.012, 0.6, 0.015)
    assert inside(bottle, [0, 0, 0.1], [0, 0, 0.195], [0.02, 0, 0.18]) == [True, True, False]


def test_held_out_objects_are_kept_from_training():
    held_out = heldout_names()
    assert len(held_out) == len(set(held_out)) == 24
    assert all(name.held_out for name in held_out)
    assert {name.family for name in held_out if name.seed < HELD_OUT_SEED} == set(HELD_OUT_FAMILIES)
    training = training_names(400)
    assert len(set(training)) == 400
    assert not set(training) & set(held_out)
    assert {name.family for name in training} == set(TRAINING_FAMILIES)
    assert len(TRAINING_FAMILIES) >= 12
    assert not set(TRAINING_FAMILIES) & set(HELD_OUT_FAMILIES)
    check_not_held_out(training)
    with pytest.raises(InputError, match=r"2 of 3 are held out .*banana:0, mug:1000000\)"):
        check_not_held_out([ObjectName("mug", 1), ObjectName("banana", 0), ObjectName("mug", HELD_OUT_SEED)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teapot:1", "no family 'teapot'; the families are box, "),
        ("mug", "expected family:mug:SEED"),
        ("mug:-1", "expected family:mug:SEED"),
        ("family:mug:1.5", "expected family:mug:SEED"),
        ("mug:²", "expected family:mug:SEED"),
    ],
)
def test_names_that_are_none_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_name(text)


@pytest.mark.parametrize("count", [-1, 10**9])
def test_a_number_of_objects_that_there_are_not(count):
    with pytest.raises(InputError, match=f"got {count}"):
        training_names(count)


def test_a_name_is_loaded_as_any_object(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path))
    model = load_object("family:capsule:12", resolution=32)
    vertices, faces = family_mesh("capsule:12")
    assert model.object_id == "capsule:12"
    assert model.mesh_resource == "family:capsule:12"
    assert len(model.faces) == len(faces)
    assert signed_volume(model.vertices.astype(float), model.faces) == pytest.approx(
        signed_volume(vertices, faces), rel=1e-5
    )
    distance, _ = model.signed_distance.query(np.array([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0]]))
    assert distance[0] < -0.005
    assert distance[1] > 0.1
    with pytest.raises(InputError, match="teapot"):
        load_object("family:teapot:1")
