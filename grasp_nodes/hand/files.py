"""Hand models from and to files: the open hand that travels with the package, and MANO's own .pkl and .npz."""

from __future__ import annotations

import io
import logging
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.arrays import HandArrays, check_arrays, mirror, shapedirs_disagree_with_template
from grasp_nodes.hand.keypoints import PARENTS
from grasp_nodes.hand.mano_pickle import read_mano_pickle
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_JOINTS, Side
from grasp_nodes.npz import read_npz

OPEN_HAND_ID = "open_hand_v1"
OPEN_HAND_FILE = Path(__file__).resolve().parent / "data" / f"{OPEN_HAND_ID}.npz"
MODEL_VARIABLE = "GRASP_NODES_HAND_MODEL"

_LARGEST_NPZ = 50_000_000  # bytes, unpacked; MANO's files have 6 MB
_ROOT_PARENT = 4294967295  # how MANO's uint32 kintree_table writes "none"

_log = logging.getLogger(__name__)


def load_hand_model(
    side: Side = "right",
    path: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float32,
    fix_left_shapedirs: bool = False,
) -> HandModel:
    """A hand model from a file.

    Args:
        side: which hand.
        path: a MANO .pkl or .npz, or a folder with MANO_RIGHT and MANO_LEFT in it; None = the file or folder that the
            environment's GRASP_NODES_HAND_MODEL names, else the open hand (its left hand is the exact mirror).
        dtype: float32 or float64.
        fix_left_shapedirs: undo the sign error of the published MANO_LEFT's shapes. Off by default, because annotations
            made without the fix (DexYCB's, for one) need the file as it is.

    Raises:
        MissingFileError: no such file; the message says where MANO comes from and where to put it.
        InputError: the file is not a hand model, or is not safe to read.
    """
    arrays = load_hand_arrays(side, path)
    if arrays.side == "left" and shapedirs_disagree_with_template(arrays):
        if fix_left_shapedirs:
            arrays = replace(arrays, shapedirs=arrays.shapedirs * np.array([-1.0, 1.0, 1.0])[:, None])
        _log.warning(
            "the left hand's shapedirs have the sign of x wrong (a known error of the published MANO_LEFT): %s",
            "corrected"
            if fix_left_shapedirs
            else "kept, as annotations made with the file need; fix_left_shapedirs=True corrects it",
        )
    return HandModel(arrays, dtype)


def load_hand_arrays(side: Side = "right", path: str | os.PathLike[str] | None = None) -> HandArrays:
    """The arrays of a hand, as `load_hand_model` finds them."""
    if side not in ("right", "left"):
        raise InputError(f"side: expected 'right' or 'left', got {side!r}")
    chosen = path if path is not None else os.environ.get(MODEL_VARIABLE) or OPEN_HAND_FILE
    file = _find(Path(chosen).expanduser(), side)
    data = read_mano_pickle(file) if file.suffix.lower() == ".pkl" else read_npz(file, "hand model .npz", _LARGEST_NPZ)
    model_id = str(data.get("model_id", "mano"))
    stored_side = str(data.get("side", "")) or _side_of_name(file) or side
    if stored_side not in ("right", "left"):
        raise InputError(f"{file}: side is {stored_side!r}, expected 'right' or 'left'")
    arrays = check_arrays(data, str(file), "left" if stored_side == "left" else "right", model_id)
    if "fingerprint" in data and str(data["fingerprint"]) != arrays.fingerprint:
        raise InputError(f"{file}: the content does not match its fingerprint, the file was changed or damaged")
    return arrays if arrays.side == side else mirror(arrays)


def write_mano_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Write the open hand as MANO_RIGHT and MANO_LEFT, .pkl and .npz, for tools that read MANO's format.

    The pickles hold numpy arrays and one scipy matrix and need no chumpy. smplx.create(root, 'mano') wants them in
    root/mano. Betas and PCA coefficients of the open hand mean nothing to MANO itself.

    Returns:
        The files written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for side in ("right", "left"):
        arrays = load_hand_arrays("right" if side == "right" else "left", OPEN_HAND_FILE)
        entries = mano_entries(arrays)
        stem = target / f"MANO_{side.upper()}"
        with stem.with_suffix(".pkl").open("wb") as stream:
            sparse = {**entries, "J_regressor": scipy.sparse.csc_matrix(entries["J_regressor"])}
            # numpy strings of the npz are plain ones here
            pickle.dump({k: str(v) if v.dtype.kind == "U" else v for k, v in sparse.items()}, stream, protocol=2)
        save_npz(stem.with_suffix(".npz"), entries)
        written += [stem.with_suffix(".pkl"), stem.with_suffix(".npz")]
    return written


def mano_entries(arrays: HandArrays, dtype: type = np.float64) -> dict[str, np.ndarray]:
    """The entries of a MANO file, with our `side`, `model_id` and `fingerprint` beside them."""
    tree = np.array([[_ROOT_PARENT, *PARENTS[1:]], range(NUM_JOINTS)], np.int64)
    floats = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "hands_mean", "hands_components")
    return {
        **{name: np.asarray(getattr(arrays, name), dtype) for name in floats},
        "J": np.asarray(arrays.J_regressor @ arrays.v_template, dtype),
        "f": arrays.faces.astype(np.uint32),
        "kintree_table": tree,
        "bs_style": np.array("lbs"),
        "bs_type": np.array("lrotmin"),
        "side": np.array(arrays.side),
        "model_id": np.array(arrays.model_id),
        "fingerprint": np.array(arrays.fingerprint),
    }


def save_npz(path: Path, entries: Mapping[str, np.ndarray]) -> None:
    """Write entries compressed and without a clock in it, so that equal content gives equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, value in entries.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, np.asanyarray(value), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, stream.getvalue())


def _find(path: Path, side: Side) -> Path:
    """The file of this side at or near `path`."""
    if path.is_dir():
        for folder in (path, path / "mano", path / "models"):
            for suffix in (".pkl", ".npz"):
                if (folder / f"MANO_{side.upper()}{suffix}").is_file():
                    return folder / f"MANO_{side.upper()}{suffix}"
        raise _missing(path / f"MANO_{side.upper()}.pkl")
    if not path.is_file():
        raise _missing(path)
    if path.suffix.lower() not in (".pkl", ".npz"):
        raise InputError(
            f"{path}: a hand model is a .pkl or .npz file, or the folder that holds MANO_RIGHT and MANO_LEFT"
        )
    if _side_of_name(path) not in (None, side):
        other = path.with_name(
            path.name.replace("RIGHT", "LEFT").replace("right", "left")
            if side == "left"
            else path.name.replace("LEFT", "RIGHT").replace("left", "right")
        )
        if not other.is_file():
            raise _missing(other)
        return other
    return path


def _side_of_name(path: Path) -> Side | None:
    """The side that the file's name states."""
    stem = path.stem.upper()
    if "RIGHT" in stem:
        return "right"
    return "left" if "LEFT" in stem else None


def _missing(path: Path) -> MissingFileError:
    return MissingFileError(
        f"no hand model at {path}. MANO is free for research after registration at https://mano.is.tue.mpg.de (its "
        "licence forbids passing it on): put MANO_RIGHT.pkl and MANO_LEFT.pkl into one folder and set "
        f"{MODEL_VARIABLE} to that folder. Without {MODEL_VARIABLE} the open hand that comes with the package is used"
    )
