"""ARCTIC: tiny files written in its format; hands posed in the world by smplx, objects turned by scipy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.grasp_readers.arctic import ANGLE_STEP, read_arctic
from grasp_nodes.data.grasp_readers.arctic_objects import arctic_object, read_articulated
from grasp_nodes.data.grasp_readers.contact_filter import object_mesh
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.files import load_hand_model, write_mano_files
from grasp_nodes.hand.model import HandModel
from grasp_nodes.objects.loading import read_mesh

smplx = pytest.importorskip("smplx", reason="the smplx extra is not installed")

COUNT = 6
HINGE_ANGLES = np.array([0.0, 0.3, 0.7, 1.2, 1.57, 2.0])


@pytest.fixture(scope="module")
def mano_folder(tmp_path_factory) -> Path:
    """The open hand in MANO's files, which stands for MANO."""
    folder = tmp_path_factory.mktemp("models")
    write_mano_files(folder / "mano")
    return folder


@pytest.fixture(scope="module")
def hand(mano_folder: Path) -> HandModel:
    return load_hand_model("right", mano_folder / "mano", torch.float64)


class Arctic:
    """A folder of ARCTIC with one laptop, in mm: a bottom plate and a lid that turns about the z axis."""

    def __init__(self, root: Path, mano_folder: Path, top_label: int = 0, unit: float = 1000.0) -> None:
        rng = np.random.default_rng(1)
        self.root = root
        home = root / "meta" / "object_vtemplates" / "laptop"
        home.mkdir(parents=True)
        plates = []
        for name, low, high in (("bottom", (0, -0.02, 0), (0.2, 0, 0.25)), ("top", (0, 0.001, 0), (0.2, 0.011, 0.25))):
            box = trimesh.creation.box(bounds=np.array([low, high]) * unit)
            plates.append(box.subdivide().subdivide())
            plates[-1].export(home / f"{name}.obj")
        self.whole = trimesh.util.concatenate(plates)
        self.whole.export(home / "mesh.obj")
        self.top = np.arange(len(self.whole.vertices)) >= len(plates[0].vertices)
        (home / "parts.json").write_text(json.dumps(np.where(self.top, top_label, 1 - top_label).tolist()))
        sequence = root / "raw_seqs" / "s05" / "laptop_use_03"
        sequence.parent.mkdir(parents=True)
        self.sequence = sequence
        turns, place = Rotation.random(COUNT, random_state=1), rng.uniform(-1, 1, (COUNT, 3))
        self.poses = np.concatenate([HINGE_ANGLES[:, None], turns.as_rotvec(), place * 1000], 1)
        self.hands = {
            side: {
                "rot": Rotation.random(COUNT, random_state=2).as_rotvec(),
                "pose": rng.normal(0, 0.2, (COUNT, 45)),
                # Around the bottom's edge: in contact, but for the last one.
                "trans": place + turns.apply([0.0, -0.02, 0.1] + 0.0 * place),
                "shape": rng.normal(size=10),
                "fitting_err": np.zeros(COUNT),
            }
            for side in ("right", "left")
        }
        self.hands["right"]["trans"][-1] += 0.6
        self.write()
        model = smplx.create(str(mano_folder), "mano", use_pca=False, flat_hand_mean=False, batch_size=COUNT)
        right = {name: torch.tensor(value, dtype=torch.float32) for name, value in self.hands["right"].items()}
        with torch.no_grad():
            world = model(
                global_orient=right["rot"],
                hand_pose=right["pose"],
                transl=right["trans"],
                betas=right["shape"].expand(COUNT, 10),
            ).vertices.numpy()
        back = turns.inv().as_matrix()
        self.in_object = np.einsum("tij,tvj->tvi", back, world - place[:, None])

    def write(self) -> None:
        np.save(self.sequence.with_name("laptop_use_03.mano.npy"), self.hands)  # type: ignore[arg-type]
        np.save(self.sequence.with_name("laptop_use_03.object.npy"), self.poses)

    def at(self, angle: float) -> np.ndarray:
        """(V, 3) m: the laptop with its lid turned, by scipy."""
        vertices = self.whole.vertices / 1000
        return np.where(self.top[:, None], Rotation.from_rotvec([0, 0, -angle]).apply(vertices), vertices)


@pytest.fixture
def arctic(tmp_path: Path, mano_folder: Path) -> Arctic:
    return Arctic(tmp_path / "data", mano_folder)


def test_hands_are_where_smplx_poses_them_seen_from_the_bottom_part(
    arctic: Arctic, hand: HandModel, tmp_path: Path
) -> None:
    grasps = read_arctic(tmp_path, hand, framerate=None, contact_distance=None, mesh_folder=tmp_path / "meshes")
    assert grasps.frame.tolist() == list(range(COUNT))
    posed = hand(grasps.hands.to(torch.float64)).vertices.numpy()
    np.testing.assert_allclose(posed, arctic.in_object, atol=3e-6)
    np.testing.assert_array_equal(grasps.metrics["articulation"], HINGE_ANGLES)
    assert (grasps.subject[0], grasps.sequence[0], grasps.source) == ("s05", "laptop_use_03", "arctic")
    assert grasps.hand_fingerprint == hand.fingerprint


def test_each_angle_is_an_object_with_its_mesh(arctic: Arctic, hand: HandModel, tmp_path: Path) -> None:
    grasps = read_arctic(arctic.root, hand, framerate=None, contact_distance=None, mesh_folder=tmp_path / "meshes")
    assert len({one.name for one in grasps.objects}) == COUNT
    for row, angle in enumerate(HINGE_ANGLES):
        one = grasps.objects[grasps.object_index[row]]
        vertices, faces = object_mesh(one)
        # half a step of the angle at the far edge of the lid
        np.testing.assert_allclose(vertices, arctic.at(angle), atol=0.2 * ANGLE_STEP / 2 + 1e-6)
        np.testing.assert_array_equal(faces, arctic.whole.faces)
        assert one.category == "laptop"


def test_contact_and_thinning(arctic: Arctic, hand: HandModel, tmp_path: Path) -> None:
    near = np.array(
        [
            trimesh.proximity.closest_point(trimesh.Trimesh(arctic.at(angle), arctic.whole.faces), vertices)[1].min()
            for angle, vertices in zip(HINGE_ANGLES, arctic.in_object, strict=True)
        ]
    )
    touching = near < 0.005
    assert 0 < touching.sum() < COUNT
    grasps = read_arctic(arctic.root, hand, framerate=None, mesh_folder=tmp_path / "meshes")
    assert grasps.frame.tolist() == np.flatnonzero(touching).tolist()
    assert grasps.attributes["without_contact"] == str(int((~touching).sum()))
    assert len(grasps.objects) == touching.sum()
    assert len(list((tmp_path / "meshes").iterdir())) == touching.sum()
    thinned = read_arctic(arctic.root, hand, framerate=10, contact_distance=None, mesh_folder=tmp_path / "meshes")
    assert thinned.frame.tolist() == [0, 3]


def test_meshes_go_to_the_cache_and_are_written_once(
    arctic: Arctic, hand: HandModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    first = read_arctic(arctic.root, hand, framerate=None)
    files = {Path(one.mesh): Path(one.mesh).stat().st_mtime_ns for one in first.objects}
    assert all(path.is_relative_to(tmp_path / "cache") for path in files)
    read_arctic(arctic.root, hand, framerate=None)
    assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.parametrize("top_label", [0, 1])
def test_the_top_is_found_by_the_meshes_of_the_parts(tmp_path: Path, mano_folder: Path, top_label: int) -> None:
    arctic = Arctic(tmp_path / "data", mano_folder, top_label)
    mesh = read_articulated(arctic.root, "laptop")
    np.testing.assert_array_equal(mesh.top, arctic.top)
    np.testing.assert_allclose(mesh.at(0.8), arctic.at(0.8), atol=1e-6)
    (arctic.root / "meta/object_vtemplates/laptop/top.obj").unlink()
    np.testing.assert_array_equal(read_articulated(arctic.root, "laptop").top, arctic.top == (top_label == 0))


def test_a_template_in_metres_is_left_as_it_is(tmp_path: Path, mano_folder: Path) -> None:
    arctic = Arctic(tmp_path / "data", mano_folder, unit=1.0)
    vertices, _ = read_mesh(arctic.root / "meta/object_vtemplates/laptop/mesh.obj")
    np.testing.assert_array_equal(read_articulated(arctic.root, "laptop").vertices, vertices)


def test_an_object_at_an_angle(arctic: Arctic) -> None:
    laptop = arctic_object(arctic.root, "laptop", np.pi / 2)
    assert laptop.object_id == "laptop@90.0deg"
    low, high = laptop.vertices.min(0), laptop.vertices.max(0)
    np.testing.assert_allclose(low, [0, -0.2, 0], atol=1e-6)  # the lid now hangs down beside the bottom's hinge
    np.testing.assert_allclose(high, [0.2, 0, 0.25], atol=1e-6)


def test_splits_are_the_protocol_s_sequences(arctic: Arctic, hand: HandModel, tmp_path: Path) -> None:
    (arctic.root / "splits_json").mkdir()
    file = arctic.root / "splits_json" / "protocol_p1.json"
    file.write_text(json.dumps({"train": ["s01/box_grab_01"], "val": ["s05/laptop_use_03"]}))
    grasps = read_arctic(arctic.root, hand, framerate=None, split="val", mesh_folder=tmp_path)
    assert {one.split for one in grasps.objects} == {"val"}
    with pytest.raises(InputError, match="nothing to read is left"):
        read_arctic(arctic.root, hand, split="train")
    with pytest.raises(InputError, match="no split 'test'; found train, val"):
        read_arctic(arctic.root, hand, split="test")
    file.write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        read_arctic(arctic.root, hand, split="val")


def test_rows_that_are_not_numbers_are_counted_and_left_out(arctic: Arctic, hand: HandModel, tmp_path: Path) -> None:
    arctic.poses[1, 0] = np.nan
    arctic.hands["right"]["rot"][3, 1] = np.nan
    arctic.write()
    grasps = read_arctic(arctic.root, hand, framerate=None, contact_distance=None, mesh_folder=tmp_path)
    assert grasps.frame.tolist() == [0, 2, 4, 5]
    assert grasps.attributes["not_finite_dropped"] == "2"


class Payload:
    """Makes a file when a pickle is obeyed."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch obeyed",)


def test_hostile_and_broken_files_are_named(
    arctic: Arctic, hand: HandModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(arctic.root / "raw_seqs/s05/laptop_use_03.mano.npy", {"right": Payload()})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"laptop_use_03\.mano\.npy: refused.*system"):
        read_arctic(arctic.root, hand)
    assert not (tmp_path / "obeyed").exists()
    arctic.hands["right"]["shape"] = np.zeros(9)
    arctic.write()
    with pytest.raises(InputError, match=r"right\.shape: expected 10 betas, got \(9,\)"):
        read_arctic(arctic.root, hand)
    (arctic.root / "raw_seqs/s05/laptop_use_03.object.npy").unlink()
    with pytest.raises(MissingFileError, match=r"object\.npy: there is no such file\. ARCTIC comes from"):
        read_arctic(arctic.root, hand)
    (arctic.root / "meta/object_vtemplates/laptop/parts.json").write_text("[0, 1]")
    with pytest.raises(InputError, match=r"parts\.json: expected 0 or 1 for each of"):
        read_articulated(arctic.root, "laptop")
    with pytest.raises(MissingFileError, match=r"https://arctic\.is\.tue\.mpg\.de"):
        read_articulated(arctic.root, "box")
