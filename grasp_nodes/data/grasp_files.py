"""Files of labelled grasps (.npz): one versioned format for what is recorded, generated and published.

The arrays, by name (N grasps, M objects): ``format``, ``format_version``; ``source``, ``side``, ``hand_model_id``,
``hand_fingerprint``; ``attributes`` (JSON object of strings); ``global_orient`` (N, 3), ``hand_pose`` (N, 45),
``betas`` (N, 10), ``transl`` (N, 3), float16 or float32, rad and m; ``scale`` (N,); ``object_index``, ``kind``,
``subject``, ``sequence``, ``frame`` (N,); ``object_name``, ``object_mesh``, ``object_scale``, ``object_category``,
``object_split``, ``object_sha256`` (M,), ``object_transform`` (M, 4, 4); ``metric_NAME`` (N,), SI units. Their meaning
is that of `LabelledGrasps`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_POSE, HandParams
from grasp_nodes.npz import pack_npz, read_npz, write_npz
from grasp_nodes.objects import registry

Precision = Literal["float16", "float32"]

FORMAT = "grasp_nodes.grasps"
FORMAT_VERSION = 1
REGISTRY_VERSION = "registry_version"
"""Attribute: `registry.VERSION` of the procedural objects; of another version the same name is another mesh."""

_WHAT = "file of grasps"
_HAND = {"global_orient": (3,), "hand_pose": (NUM_POSE,), "betas": (NUM_BETAS,), "transl": (3,), "scale": ()}
_INTEGERS = {"object_index": np.int32, "kind": np.int8, "frame": np.int64}
_WORDS = ("subject", "sequence")
_OBJECT_WORDS = {"object_name": "name", "object_mesh": "mesh", "object_category": "category", "object_split": "split"}
_OBJECT_WORDS["object_sha256"] = "mesh_sha256"
_METRIC = "metric_"

_log = logging.getLogger(__name__)


def write_grasps(path: Path, grasps: LabelledGrasps, precision: Precision = "float16") -> None:
    """Write a set of grasps, whole or not at all; equal sets give equal bytes.

    Args:
        path: the file, in a folder that exists. grasps: the set; metrics of float16 stay so, others become float32.
        precision: of the hand parameters. In float16 a translation of 0.1 m is rounded to 0.03 mm.

    Raises:
        InputError: a value is NaN, infinite, or too large for the precision. OSError: it cannot be written.
    """
    write_npz(path, grasp_arrays(grasps, precision), compressed=True)


def pack_grasps(grasps: LabelledGrasps, precision: Precision = "float16") -> bytes:
    """The bytes that `write_grasps` would write."""
    return pack_npz(grasp_arrays(grasps, precision), compressed=True)


def grasp_arrays(grasps: LabelledGrasps, precision: Precision = "float16") -> dict[str, np.ndarray]:
    """The arrays of the format, by name; arguments and errors as `write_grasps`."""
    hands, objects = grasps.hands, grasps.objects
    arrays = {
        "format": np.array(FORMAT),
        "format_version": np.array(FORMAT_VERSION),
        "source": np.array(grasps.source),
        "side": np.array(hands.side),
        "hand_model_id": np.array(grasps.hand_model_id),
        "hand_fingerprint": np.array(grasps.hand_fingerprint),
        "attributes": np.array(json.dumps(dict(grasps.attributes), sort_keys=True)),
        **{name: _narrow(getattr(hands, name), precision, f"{grasps.source}: {name}") for name in _HAND},
        **{name: getattr(grasps, name).astype(dtype) for name, dtype in _INTEGERS.items()},
        **{name: getattr(grasps, name).astype(np.str_) for name in _WORDS},
        "object_scale": np.array([one.scale for one in objects], np.float64),
        "object_transform": np.array([one.transform for one in objects], np.float64).reshape(-1, 4, 4),
    }
    for name, field in _OBJECT_WORDS.items():
        arrays[name] = np.array([getattr(one, field) for one in objects], np.str_)
    for name, values in grasps.metrics.items():
        arrays[_METRIC + name] = values if values.dtype == np.float16 else values.astype(np.float32)
    return arrays


def read_grasps(
    path: Path, expect_fingerprint: str | None = None, allow_empty: bool = False, keep_not_finite: bool = False
) -> LabelledGrasps:
    """Read a set of grasps; hands come as float32. Grasps whose parameters are not finite are dropped with a warning.

    Args:
        path: the file. expect_fingerprint: of the hand model that will pose them, None = any.
        allow_empty: whether a file without a single grasp is fine.
        keep_not_finite: whether grasps that are not finite stay, for whoever counts them.

    Raises:
        MissingFileError: no such file. InputError: it is damaged or something else, was written by a newer version, is
            of another hand model or of other procedural objects, or holds no grasps.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such {_WHAT}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: not a readable {_WHAT} (0 bytes: a copy that was cut off?)")
    arrays = read_npz(path, _WHAT)
    _check_format(path, arrays)
    fingerprint, model_id = _word(path, arrays, "hand_fingerprint"), _word(path, arrays, "hand_model_id")
    if expect_fingerprint is not None and fingerprint != expect_fingerprint:
        raise InputError(
            f"{path}: its poses belong to the hand model {model_id or '(unnamed)'} with fingerprint "
            f"{fingerprint[:12] or '(none)'}, expected fingerprint {expect_fingerprint[:12]}: on another hand they are "
            "other grasps. Load the model that they were made with (GRASP_NODES_HAND_MODEL), or take a set made with "
            "this one"
        )
    attributes = _attributes(path, arrays)
    objects = _objects(path, arrays)
    _check_registry(path, objects, attributes)
    count = len(_array(path, arrays, "object_index", "i", (None,)))
    columns: dict[str, Any] = {name: _array(path, arrays, name, "i", (count,)).astype(np.int64) for name in _INTEGERS}
    columns |= {name: _array(path, arrays, name, "U", (count,)) for name in _WORDS}
    hand = {
        name: torch.from_numpy(_array(path, arrays, name, "f", (count, *tail)).astype(np.float32))
        for name, tail in _HAND.items()
    }
    metrics = {
        name.removeprefix(_METRIC): _array(path, arrays, name, "f", (count,))
        for name in arrays
        if name.startswith(_METRIC)
    }
    try:
        grasps = LabelledGrasps(
            source=_word(path, arrays, "source"),
            hands=HandParams(**hand, side=_word(path, arrays, "side")),  # type: ignore[arg-type]
            hand_model_id=model_id,
            hand_fingerprint=fingerprint,
            objects=objects,
            metrics=metrics,
            attributes=attributes,
            **columns,
        )
    except InputError as error:
        raise InputError(f"{path}: not a readable {_WHAT} ({error})") from error
    grasps = grasps if keep_not_finite else drop_not_finite(grasps, str(path))
    if not len(grasps) and not allow_empty:
        raise InputError(f"{path}: holds no grasps")
    return grasps


def drop_not_finite(grasps: LabelledGrasps, where: str) -> LabelledGrasps:
    """Without the grasps that have NaN or infinity among their parameters; a warning counts them.

    Args:
        grasps: the set. where: it comes from, for the warning.
    """
    finite = torch.ones(len(grasps), dtype=torch.bool)
    for name, tail in _HAND.items():
        finite &= torch.isfinite(getattr(grasps.hands, name)).reshape(len(grasps), math.prod(tail)).all(dim=1)
    if finite.all():
        return grasps
    _log.warning("%s: dropped %d of %d grasps: NaN or infinite pose", where, int((~finite).sum()), len(grasps))
    return grasps[finite.numpy()]


def check_meshes(path: Path, objects: Iterable[GraspedObject]) -> None:
    """Refuse grasps of procedural objects that are made differently here.

    Args:
        path: of the file, for the message. objects: of the file, those that are used.

    Raises:
        InputError: naming the first whose mesh is another one, and the remedy.
    """
    for one in objects:
        if not (one.mesh_sha256 and one.mesh.startswith(registry.SPEC_PREFIX)):
            continue
        if mesh_sha256(one.mesh.removeprefix(registry.SPEC_PREFIX)) != one.mesh_sha256:
            raise InputError(
                f"{path}: {one.name} ({one.mesh}) is not the mesh that its grasps were made on (SHA-256 "
                f"{one.mesh_sha256[:12]} in the file): the installed numpy, scipy or trimesh makes another one. Make "
                "the set anew with 'grasp-nodes synthesize', or install the versions that its attributes name"
            )


def mesh_sha256(name: str | registry.ObjectName) -> str:
    """Hash of a procedural mesh, to a micrometre: whether it is still the mesh that the grasps were made on.

    Raises:
        InputError: no such name.
    """
    vertices, faces = registry.family_mesh(name)
    # Rounded: another processor's vector instructions may differ in the last bit.
    content = (np.rint(vertices * 1e6).astype("<i4"), faces.astype("<i4"))
    return hashlib.sha256(b"".join(part.tobytes() for part in content)).hexdigest()


def content_sha256(grasps: LabelledGrasps, precision: Precision = "float16") -> str:
    """Hash of the grasps themselves: not of the attributes (versions, licence), nor of how a file compresses them."""
    digest = hashlib.sha256()
    for name, array in sorted(grasp_arrays(replace(grasps, attributes={}), precision).items()):
        # Strings are padded to the longest: their bytes follow from the type, which the hash covers too.
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _narrow(values: torch.Tensor, precision: Precision, what: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = values.detach().cpu().numpy().astype(precision)
    wrong = int((~np.isfinite(narrow)).sum())
    if wrong:
        raise InputError(f"{what}: {wrong} values are NaN, infinite or too large for {precision}; nothing was written")
    return narrow


def _check_format(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    if "format" not in arrays or str(arrays["format"]) != FORMAT:
        raise InputError(
            f"{path}: not a {_WHAT} (expected an array 'format' that says {FORMAT!r}; it has "
            f"{', '.join(sorted(arrays)[:8]) or 'no arrays'})"
        )
    version = int(_array(path, arrays, "format_version", "i", ()))
    if not 1 <= version <= FORMAT_VERSION:
        raise InputError(
            f"{path}: written in version {version} of the format, this grasp_nodes reads up to {FORMAT_VERSION}: "
            "upgrade it with 'pip install --upgrade grasp_nodes'"
        )


def _check_registry(path: Path, objects: Sequence[GraspedObject], attributes: Mapping[str, str]) -> None:
    made_with = attributes.get(REGISTRY_VERSION, str(registry.VERSION))
    procedural = any(one.mesh.startswith(registry.SPEC_PREFIX) for one in objects)
    if procedural and made_with != str(registry.VERSION):
        raise InputError(
            f"{path}: its procedural objects are of version {made_with}, this grasp_nodes makes version "
            f"{registry.VERSION}: the same names are other meshes. Make the set anew with 'grasp-nodes synthesize', or "
            "take the grasp_nodes that made it"
        )


def _array(
    path: Path, arrays: Mapping[str, np.ndarray], name: str, kind: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """One array, checked; None in the shape is any length."""
    if name not in arrays:
        raise InputError(f"{path}: not a readable {_WHAT} (there is no array {name!r})")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if array.dtype.kind != kind or not fits:
        wanted = {"f": "floating point", "i": "signed integer", "U": "text"}[kind]
        raise InputError(
            f"{path}: not a readable {_WHAT} ({name}: expected {wanted} of shape "
            f"{tuple('any' if size is None else size for size in shape)}, got {array.dtype} {array.shape})"
        )
    return array


def _word(path: Path, arrays: Mapping[str, np.ndarray], name: str) -> str:
    return str(_array(path, arrays, name, "U", ()))


def _attributes(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    text = _word(path, arrays, "attributes")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable {_WHAT} (attributes: {error})") from error
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise InputError(f"{path}: not a readable {_WHAT} (attributes: expected a JSON object of strings)")
    return content


def _objects(path: Path, arrays: Mapping[str, np.ndarray]) -> list[GraspedObject]:
    count = len(_array(path, arrays, "object_name", "U", (None,)))
    words = {field: _array(path, arrays, name, "U", (count,)) for name, field in _OBJECT_WORDS.items()}
    scale = _array(path, arrays, "object_scale", "f", (count,))
    transform = _array(path, arrays, "object_transform", "f", (count, 4, 4)).astype(np.float64)
    if not (np.isfinite(scale).all() and np.isfinite(transform).all()):
        raise InputError(f"{path}: not a readable {_WHAT} (object_scale or object_transform is not finite)")
    return [
        GraspedObject(
            scale=float(scale[k]), transform=transform[k], **{field: str(values[k]) for field, values in words.items()}
        )
        for k in range(count)
    ]
