"""GRAB and GrabNet's data: tiny files written in their format, the geometry checked with smplx."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.grasp_readers.grab import read_grab
from grasp_nodes.data.grasp_readers.grabnet import read_grabnet
from grasp_nodes.data.grasp_readers.registry import READERS, find_reader
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.files import load_hand_model, write_mano_files
from grasp_nodes.hand.model import HandModel

smplx = pytest.importorskip("smplx", reason="the smplx extra is not installed")

COUNT = 13
RIGHT_PALM, RIGHT_INDEX_TIP, LEFT_PALM, LEFT_THUMB_TIP, CHEST = 22, 43, 21, 40, 10


@pytest.fixture(scope="module")
def mano_folder(tmp_path_factory) -> Path:
    """The open hand in MANO's files, which stands for MANO."""
    folder = tmp_path_factory.mktemp("models")
    write_mano_files(folder / "mano")
    return folder


@pytest.fixture(scope="module")
def hand(mano_folder: Path) -> HandModel:
    return load_hand_model("right", mano_folder / "mano", torch.float64)


def subject_template(hand: HandModel, rng: np.random.Generator) -> np.ndarray:
    """A subject's own mesh: a shape of the model, somewhere else."""
    arrays = hand.arrays
    return arrays.v_template + arrays.shapedirs @ rng.normal(size=10) + np.array([0.03, -0.02, 0.01])


def posed_by_smplx(folder: Path, side: str, template: np.ndarray, params: dict[str, np.ndarray]) -> np.ndarray:
    """(T, 778, 3): the hands in the world, as GRAB's own scripts make them."""
    model = smplx.create(
        str(folder),
        "mano",
        is_rhand=side == "right",
        v_template=template,
        use_pca=False,
        flat_hand_mean=True,
        batch_size=len(params["transl"]),
    )
    with torch.no_grad():
        return (
            model(
                global_orient=torch.tensor(params["global_orient"], dtype=torch.float32),
                hand_pose=torch.tensor(params["fullpose"], dtype=torch.float32),
                transl=torch.tensor(params["transl"], dtype=torch.float32),
            )
            .vertices.numpy()
            .astype(np.float64)
        )


def vertices_of(hand: HandModel, grasps: LabelledGrasps) -> np.ndarray:
    return hand(grasps.hands.to(hand.dtype)).vertices.numpy()


class Grab:
    """A folder of GRAB with one subject, one object and one sequence."""

    def __init__(self, root: Path, hand: HandModel, left: HandModel, mano_folder: Path, unit: float = 1.0) -> None:
        rng = np.random.default_rng(5)
        self.root = root
        self.sequence = root / "grab" / "s3" / "mug_drink_2.npz"
        self.sequence.parent.mkdir(parents=True)
        (root / "tools" / "object_meshes" / "contact_meshes").mkdir(parents=True)
        (root / "tools" / "subject_meshes" / "male").mkdir(parents=True)
        box = trimesh.creation.box((0.06 * unit, 0.08 * unit, 0.1 * unit))
        box.export(root / "tools/object_meshes/contact_meshes/mug.ply")
        self.template = subject_template(hand, rng)
        left_template = subject_template(left, rng)
        for name, vertices, faces in (("s3_rhand", self.template, hand.faces), ("s3_lhand", left_template, left.faces)):
            mesh = trimesh.Trimesh(vertices, faces.numpy(), process=False)
            mesh.export(root / f"tools/subject_meshes/male/{name}.ply", vertex_normal=False)
        self.object = {
            "transl": rng.uniform(-1, 1, (COUNT, 3)).astype(np.float32),
            "global_orient": Rotation.random(COUNT, random_state=1).as_rotvec().astype(np.float32),
        }
        self.right, self.left = (
            {
                "transl": self.object["transl"] + rng.uniform(-0.1, 0.1, (COUNT, 3)).astype(np.float32),
                "global_orient": Rotation.random(COUNT, random_state=seed).as_rotvec().astype(np.float32),
                "hand_pose": rng.normal(size=(COUNT, 24)).astype(np.float32),
            }
            for seed in (2, 3)
        )
        for params, model in ((self.right, hand), (self.left, left)):
            params["fullpose"] = (params["hand_pose"] @ model.arrays.hands_components[:24]).astype(np.float32)
        parts = np.zeros((COUNT, 8), np.uint8)
        parts[:, 0] = CHEST
        parts[3:9, 1] = RIGHT_PALM
        parts[5:9, 2] = RIGHT_INDEX_TIP
        parts[7:11, 3] = LEFT_PALM
        parts[10, 4] = LEFT_THUMB_TIP
        self.data = {
            "gender": "male",
            "sbj_id": "s3",
            "obj_name": "mug",
            "motion_intent": "drink",
            "framerate": 120.0,
            "n_frames": COUNT,
            "n_comps": 24,
            "body": {"params": {}, "vtemp": "tools/subject_meshes/male/s3.ply"},
            "lhand": {"params": self.left, "vtemp": "tools/subject_meshes/male/s3_lhand.ply"},
            "rhand": {"params": self.right, "vtemp": "tools/subject_meshes/male/s3_rhand.ply"},
            "object": {"params": self.object, "object_mesh": "tools/object_meshes/contact_meshes/mug.ply"},
            "contact": {"object": parts, "body": np.zeros((COUNT, 5), np.uint8)},
        }
        self.write()
        self.in_object = {
            side: np.einsum("tij,tvj->tvi", self.turn(), world - self.object["transl"][:, None])
            for side, world in (
                ("right", posed_by_smplx(mano_folder, "right", self.template, self.right)),
                ("left", posed_by_smplx(mano_folder, "left", left_template, self.left)),
            )
        }

    def turn(self) -> np.ndarray:
        """World to object: vertices @ R + t is how GRAB places an object, so R itself takes back."""
        return Rotation.from_rotvec(self.object["global_orient"]).as_matrix()

    def write(self) -> None:
        np.savez(self.sequence, **self.data)


@pytest.fixture
def grab(tmp_path: Path, hand: HandModel, mano_folder: Path) -> Grab:
    return Grab(tmp_path / "GRAB", hand, load_hand_model("left", mano_folder / "mano", torch.float64), mano_folder)


@pytest.mark.parametrize("pose", ["fullpose", "hand_pose"])
def test_hands_are_where_smplx_poses_them_seen_from_the_object(grab: Grab, hand: HandModel, pose: str) -> None:
    if pose == "hand_pose":
        del grab.right["fullpose"]
        grab.write()
    grasps = read_grab(grab.root, hand, framerate=None)
    assert grasps.frame.tolist() == [3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(vertices_of(hand, grasps), grab.in_object["right"][3:9], atol=2e-6)
    assert set(grasps.subject) == {"s3"}
    assert set(grasps.sequence) == {"mug_drink_2"}
    assert (grasps.source, grasps.hand_fingerprint) == ("grab", hand.fingerprint)
    (mug,) = grasps.objects
    assert (mug.name, mug.scale, mug.split) == ("mug", 1.0, "test")
    assert Path(mug.mesh) == grab.root / "tools/object_meshes/contact_meshes/mug.ply"
    assert grasps.attributes["without_contact"] == "7"
    assert "0.00 mm" in grasps.attributes["betas"]


def test_the_other_hand(grab: Grab, mano_folder: Path) -> None:
    left = load_hand_model("left", mano_folder / "mano", torch.float64)
    grasps = read_grab(grab.root, left, side="left", framerate=None)
    assert grasps.frame.tolist() == [7, 8, 9, 10]
    assert grasps.hands.side == "left"
    np.testing.assert_allclose(vertices_of(left, grasps), grab.in_object["left"][7:11], atol=2e-6)


def test_the_mean_shape_keeps_the_wrist_and_says_what_it_costs(grab: Grab, hand: HandModel) -> None:
    fitted, mean = (read_grab(grab.root, hand, framerate=None, shape=shape) for shape in ("fitted", "mean"))
    assert float(fitted.hands.betas.abs().max()) > 0.1
    assert float(mean.hands.betas.abs().max()) == 0
    wrists = [hand.joints(one.hands.to(torch.float64))[0][:, 0].numpy() for one in (fitted, mean)]
    np.testing.assert_allclose(wrists[0], wrists[1], atol=1e-6)
    assert "mean; " in mean.attributes["betas"]
    assert " 0.00 mm" not in mean.attributes["betas"]


def test_a_template_that_is_no_shape_of_the_model_leaves_a_residual_that_is_said(grab: Grab, hand: HandModel) -> None:
    bumpy = grab.template + np.random.default_rng(1).normal(0, 0.001, grab.template.shape)
    mesh = trimesh.Trimesh(bumpy, hand.faces.numpy(), process=False)
    mesh.export(grab.root / "tools/subject_meshes/male/s3_rhand.ply", vertex_normal=False)
    grasps = read_grab(grab.root, hand, framerate=None)
    stated = float(grasps.attributes["betas"].split("up to ")[1].split()[0]) / 1000
    assert stated == pytest.approx(0.001 * np.sqrt(3), rel=0.1)  # 13 parameters explain little of 2334 numbers


def test_thinned_and_counted(grab: Grab, hand: HandModel) -> None:
    assert read_grab(grab.root, hand, framerate=40).frame.tolist() == [3, 6]
    assert read_grab(grab.root, hand, framerate=None, contact_vertices=2).frame.tolist() == [5, 6, 7, 8]
    assert len(read_grab(grab.root, hand, framerate=None, contact_vertices=0)) == COUNT
    assert len(read_grab(grab.root / "grab", hand, framerate=None)) == 6
    with pytest.raises(InputError, match="at most the recorded 120"):
        read_grab(grab.root, hand, framerate=240)
    with pytest.raises(InputError, match="hand_from: expected 'mano' or 'smplx', got 'smplh'"):
        read_grab(grab.root, hand, hand_from="smplh")
    with pytest.raises(InputError, match="nothing to read is left"):
        read_grab(grab.root, hand, objects=["banana"])


def test_rows_that_are_not_numbers_are_counted_and_left_out(grab: Grab, hand: HandModel) -> None:
    grab.right["fullpose"][4, 7] = np.nan
    grab.object["transl"][6, 0] = np.inf
    grab.right["global_orient"][11] = np.nan  # without contact: not counted twice
    grab.write()
    grasps = read_grab(grab.root, hand, framerate=None)
    assert grasps.frame.tolist() == [3, 5, 7, 8]
    assert grasps.attributes["not_finite_dropped"] == "2"
    assert bool(torch.isfinite(grasps.hands.transl).all())


def test_an_object_in_millimetres_is_recognised(tmp_path: Path, hand: HandModel, mano_folder: Path) -> None:
    left = load_hand_model("left", mano_folder / "mano", torch.float64)
    grab = Grab(tmp_path / "mm", hand, left, mano_folder, unit=1000.0)
    assert read_grab(grab.root, hand, framerate=None).objects[0].scale == 0.001
    empty = read_grab(grab.root, hand, framerate=10)  # none of the two frames is in contact
    assert (len(empty), empty.attributes["without_contact"]) == (0, "2")


class Payload:
    """Makes a file when a pickle is obeyed."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch obeyed",)


def test_a_hostile_sequence_is_refused_and_nothing_runs(
    grab: Grab, hand: HandModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grab.data["contact"] = {"object": Payload()}
    grab.write()
    with pytest.raises(InputError, match=r"mug_drink_2\.npz: refused.*system"):
        read_grab(grab.root, hand)
    assert not (tmp_path / "obeyed").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("contact", {"body": np.zeros(3)}, r"expected the field contact\.object; found body"),
        ("contact", {"object": np.zeros((4, 8), np.uint8)}, r"contact\.object: expected .*\(13, V\)"),
        ("framerate", "fast", "framerate: expected numbers"),
        (
            "rhand",
            {"params": {"global_orient": np.zeros((9, 3))}, "vtemp": "tools/subject_meshes/male/s3_rhand.ply"},
            r"rhand\.params\.global_orient: expected shape \(13, 3\), got \(9, 3\)",
        ),
        ("object", {"params": {}, "object_mesh": "tools/x.ply"}, "is no such file. GRAB comes from https://grab.is"),
        ("object", {"params": {}, "object_mesh": "../../secret.ply"}, "which is outside of"),
        ("rhand", {"params": {}, "vtemp": "tools/object_meshes/contact_meshes/mug.ply"}, "expected a hand of 778"),
    ],
)
def test_broken_sequences_are_named(grab: Grab, hand: HandModel, field: str, value: object, message: str) -> None:
    grab.data[field] = value  # type: ignore[assignment]
    grab.write()
    with pytest.raises((InputError, MissingFileError), match=message):
        read_grab(grab.root, hand)


def test_what_is_missing_says_where_it_comes_from(tmp_path: Path, hand: HandModel) -> None:
    with pytest.raises(MissingFileError, match=r"GRAB comes from https://grab\.is\.tue\.mpg\.de"):
        read_grab(tmp_path / "nowhere", hand)
    (tmp_path / "grab").mkdir()
    with pytest.raises(MissingFileError, match=r"airplane_fly_1\.npz"):
        read_grab(tmp_path, hand)
    with pytest.raises(MissingFileError, match="GrabNet data"):
        read_grabnet(tmp_path / "nowhere", hand)


def test_without_mano_the_message_says_where_it_comes_from(
    grab: Grab, monkeypatch: pytest.MonkeyPatch, hand: HandModel
) -> None:
    monkeypatch.delenv("GRASP_NODES_HAND_MODEL", raising=False)
    with pytest.raises(MissingFileError, match=r"https://mano\.is\.tue\.mpg\.de.*GRASP_NODES_HAND_MODEL"):
        read_grab(grab.root)
    with pytest.raises(InputError, match="a left hand is asked for"):
        read_grab(grab.root, hand, side="left")


def test_every_reader_of_the_registry_is_there(tmp_path: Path) -> None:
    for name, reader in READERS.items():
        assert reader.home_page.startswith("https://"), name
        with pytest.raises(MissingFileError, match=r"there is no such|hand model in use"):
            reader.read(tmp_path / "nowhere")
    assert find_reader("grab") is READERS["grab"]
    with pytest.raises(InputError, match=r"unknown 'grob'; known: grab, grabnet"):
        find_reader("grob")


class GrabNet:
    """A folder of GrabNet's data with two subjects and two objects."""

    def __init__(self, root: Path, hand: HandModel, mano_folder: Path) -> None:
        rng = np.random.default_rng(8)
        self.root = root
        self.archive = root / "data" / "train" / "grabnet_train.npz"
        self.archive.parent.mkdir(parents=True)
        meshes = root / "tools" / "object_meshes" / "contact_meshes"
        meshes.mkdir(parents=True)
        for name in ("cup", "apple"):
            trimesh.creation.box((0.06, 0.08, 0.1)).export(meshes / f"{name}.ply")
        templates = {subject: subject_template(hand, rng) for subject in ("s1", "s10")}
        info = {who: {"rh_vtemp": mesh, "rh_betas": np.zeros(10)} for who, mesh in templates.items()}
        np.save(root / "data" / "sbj_info.npy", info)  # type: ignore[arg-type]
        names = [
            *(f"train/data/s1/cup_lift/{frame}.npz" for frame in (4, 9)),
            *(f"train/data/s10/cup_lift/{frame}.npz" for frame in (2, 3, 7)),
            "train/data/s1/apple_eat_1/0.npz",
        ]
        np.savez(root / "data" / "train" / "frame_names.npz", frame_names=np.array(names))
        count = len(names)
        turned = Rotation.random(count * 17, random_state=4)
        matrices = turned.as_matrix().reshape(count, 17, 3, 3)
        self.data = {
            "global_orient_rhand_rotmat": matrices[:, :1],
            "fpose_rhand_rotmat": Rotation.from_rotvec(0.3 * turned.as_rotvec())
            .as_matrix()
            .reshape(count, 17, 3, 3)[:, 1:16],
            "trans_rhand": rng.normal(size=(count, 3)),
            "root_orient_obj_rotmat": matrices[:, 16:],
            "trans_obj": rng.normal(size=(count, 3)),
            "bps_object": np.zeros((count, 4)),
        }
        np.savez(self.archive, **self.data)
        subjects = ["s1", "s1", "s10", "s10", "s10", "s1"]
        world = np.concatenate(
            [
                posed_by_smplx(
                    mano_folder,
                    "right",
                    templates[subjects[k]],
                    {
                        "global_orient": Rotation.from_matrix(matrices[k, 0]).as_rotvec()[None],
                        "fullpose": Rotation.from_matrix(self.data["fpose_rhand_rotmat"][k]).as_rotvec().reshape(1, 45),
                        "transl": self.data["trans_rhand"][k : k + 1],
                    },
                )
                for k in range(count)
            ]
        )
        # The object's vertices are v @ R + t: a point p of the world is R (p - t) for it.
        self.in_object = np.einsum("tij,tvj->tvi", matrices[:, 16], world - self.data["trans_obj"][:, None])


def test_grabnet_hands_are_where_smplx_poses_them_seen_from_the_object(
    tmp_path: Path, hand: HandModel, mano_folder: Path
) -> None:
    pack = GrabNet(tmp_path / "GrabNet", hand, mano_folder)
    grasps = read_grabnet(pack.root, hand, splits=["train"])
    expected = {
        ("s1", "cup_lift", 4): 0,
        ("s1", "cup_lift", 9): 1,
        ("s10", "cup_lift", 2): 2,
        ("s10", "cup_lift", 3): 3,
    }
    expected |= {("s10", "cup_lift", 7): 4, ("s1", "apple_eat_1", 0): 5}
    found = list(zip(grasps.subject.tolist(), grasps.sequence.tolist(), grasps.frame.tolist(), strict=True))
    assert sorted(found) == sorted(expected)
    rows = [expected[key] for key in found]
    np.testing.assert_allclose(vertices_of(hand, grasps), pack.in_object[rows], atol=3e-6)
    names = [grasps.objects[k].name for k in grasps.object_index.tolist()]
    assert names == [key[1].split("_")[0] for key in found]
    assert len(read_grabnet(pack.root / "data", hand, splits=["train"], subjects=["s1"], objects=["cup"])) == 2


def test_grabnet_files_that_do_not_fit_together_are_named(tmp_path: Path, hand: HandModel, mano_folder: Path) -> None:
    pack = GrabNet(tmp_path / "GrabNet", hand, mano_folder)
    with pytest.raises(MissingFileError, match=r"grabnet_val\.npz"):
        read_grabnet(pack.root, hand)
    np.savez(pack.archive, **{**pack.data, "trans_obj": pack.data["trans_obj"][:4]})
    with pytest.raises(InputError, match=r"as many rows in every array"):
        read_grabnet(pack.root, hand, splits=["train"])
    np.savez(pack.archive, **{name: value[:4] for name, value in pack.data.items()})
    with pytest.raises(InputError, match=r"frame_names\.npz: expected 4 names"):
        read_grabnet(pack.root, hand, splits=["train"])
    with pytest.raises(InputError, match="splits: expected"):
        read_grabnet(pack.root, hand, splits=["training"])
