"""What a reconstruction works with: the clip, the models, and the reconstructor, from what the user said."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import grasp_nodes
from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.data.clip_datasets.recording import RecordingSource
from grasp_nodes.data.clip_datasets.registry import DATASETS, ClipOptions, find_dataset
from grasp_nodes.data.clip_readers import ClipSource
from grasp_nodes.data.frame_source import DEFAULT_FIELD_OF_VIEW, FrameSource
from grasp_nodes.data.sources import open_source
from grasp_nodes.data.trajectory_files import FORMAT_VERSION
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel

if TYPE_CHECKING:
    from grasp_nodes.fitting.reconstruction import ClipInitialiser, ClipObserver, ReconstructionSettings, WindowResult
    from grasp_nodes.perception.evidence import ClipSegmenter
    from grasp_nodes.perception.foreground import ForegroundFinder

SIDES: tuple[Side, ...] = ("right", "left")
REFINEMENTS = ("none", "geo", "jointdiffusion")
METHODS = ("homan", "honet", "miho")
INITIALISERS = ("fit", "honet")
BEYOND_IMAGE = 0.05
"""Share of the image's width that the user's box may reach beyond it."""
BOX_MARGIN = 0.05
"""Share of its size by which the box of an object that was followed so far is enlarged."""


@dataclass(frozen=True)
class Request:
    """What the user asked for; see the command's help.

    boxes: of the objects in the first frame, px, in the objects' order. segmenter: encoder and decoder.
    field_of_view: deg; None = what is usual. dataset: the clip is the folder of this one. sequence: of it.
    refine: what is done to hands after the fit, one of `REFINEMENTS`. method: one of `METHODS`.
    initialise: where the joint fit begins, one of `INITIALISERS`.
    """

    clip: str
    output: Path
    objects: tuple[str, ...] = ()
    object_scale: float = 1.0
    scale_free: bool = False
    rgb_only: bool = False
    hand_model: Path | None = None
    frames: int = 0
    seed: int = 0
    boxes: tuple[str, ...] = ()
    detector: Path | None = None
    segmenter: tuple[Path, Path] | None = None
    field_of_view: float | None = None
    images: bool = False
    restart: bool = False
    as_json: bool = False
    dataset: str = ""
    sequence: str = ""
    refine: str = "none"
    method: str = "homan"
    initialise: str = "fit"


class StateRefiner(Protocol):
    """Improves states after they were fitted."""

    def refine(self, states: Sequence[HandObjectState]) -> list[HandObjectState]:
        """The same states, their hands a little moved."""
        ...


def check_refinement(request: Request) -> None:
    """Refuse a refinement or a method that there is not.

    Raises:
        InputError: another one than those of `REFINEMENTS`, `METHODS` and `INITIALISERS`, or a beginning for a method
            that fits nothing.
    """
    if request.method not in METHODS:
        raise InputError(f"--method: expected one of {', '.join(METHODS)}, got {request.method!r}")
    if request.refine not in REFINEMENTS:
        raise InputError(f"--refine: expected one of {', '.join(REFINEMENTS)}, got {request.refine!r}")
    if request.initialise not in INITIALISERS:
        raise InputError(f"--initialise: expected one of {', '.join(INITIALISERS)}, got {request.initialise!r}")
    if request.initialise != "fit" and request.method != "homan":
        raise InputError(f"--initialise {request.initialise}: --method {request.method} has no joint fit to begin")


def make_state_refiner(request: Request, inputs: Inputs) -> StateRefiner | None:
    """What ``--refine`` names; None for none."""
    if request.refine == "none":
        return None
    if request.refine == "geo":
        from grasp_nodes.fitting.geo.state_refiner import GeoStateRefiner

        return GeoStateRefiner(inputs.hands, inputs.objects)
    from grasp_nodes.fitting.weak_hands import WeakHandRefiner
    from grasp_nodes.synthesis.jointdiffusion.grasps import load_refiner

    return WeakHandRefiner(inputs.hands, inputs.objects, load_refiner(request.refine, inputs.hands["right"]))


class Reconstructor(Protocol):
    """`ClipReconstructor`, as far as the command uses it."""

    def reconstruct(self, frames: Iterable[Frame], first: int = 0) -> Iterator[WindowResult]:
        """Windows of a clip in time order, from frame `first` on."""
        ...


@dataclass(frozen=True)
class Inputs:
    """The clip and the models. objects: by id, in the user's order. hands: by side."""

    source: FrameSource
    objects: Mapping[str, ObjectModel]
    hands: Mapping[Side, HandModel]

    @property
    def has_depth(self) -> bool:
        """Whether frames carry depth."""
        return self.source.has_depth


def open_inputs(request: Request) -> Inputs:
    """Open the clip and load the models.

    Raises:
        InputError, MissingFileError: something cannot be used; the message names it.
    """
    hand_model = None if request.hand_model is None else str(request.hand_model)
    hands = {side: load_hand_model(side, hand_model) for side in SIDES}
    source = _open_source(request, hands)
    if source.is_live:
        raise InputError(
            f"clip {request.clip!r}: a camera has no end; expected a recording. For a camera: grasp-nodes demo "
            f"source:={request.clip}"
        )
    if len(request.boxes) > max(len(request.objects), 1):
        raise InputError(f"--object-box: {len(request.boxes)} boxes for {max(len(request.objects), 1)} objects")
    return Inputs(source, _load_objects(request, source), hands)


def _open_source(request: Request, hands: Mapping[Side, HandModel]) -> FrameSource:
    """The clip, or the sequence of a data set; its annotated hands are in the terms of `hands` where these are MANO."""
    object_spec = next(iter(request.objects), "")
    if request.dataset:
        is_mano = all(model.model_id == "mano" for model in hands.values())
        options = ClipOptions(hands if is_mano else None, object_spec, request.frames, request.field_of_view)
        return find_dataset(request.dataset).open(Path(request.clip).expanduser(), request.sequence, options)
    if request.sequence:
        raise InputError(f"--sequence {request.sequence}: of which data set? Add --dataset ({', '.join(DATASETS)})")
    field_of_view = DEFAULT_FIELD_OF_VIEW if request.field_of_view is None else request.field_of_view
    return open_source(request.clip, object_spec, request.frames, request.seed, field_of_view)


def _load_objects(request: Request, source: FrameSource) -> dict[str, ObjectModel]:
    """The user's objects, or the clip's own; two of one name get numbers."""
    if not request.objects:
        if not source.object_spec:
            return {}
        scale = request.object_scale * source.object_scale
        model = _load_object(source.object_spec, source.object_id, scale)
        return {model.object_id: model}
    models: dict[str, ObjectModel] = {}
    for spec in request.objects:
        model = _load_object(spec, "", request.object_scale)
        number, name = 1, model.object_id
        while name in models:
            number += 1
            name = f"{model.object_id}_{number}"
        models[name] = replace(model, object_id=name)
    return models


def _load_object(spec: str, object_id: str, scale: float) -> ObjectModel:
    model = load_object(spec, object_id or None, scale)
    # What is written is read from other folders.
    return replace(model, mesh_resource=str(Path(spec).resolve())) if Path(spec).is_file() else model


def settings_of(request: Request, inputs: Inputs) -> dict[str, Any]:
    """All that decides what comes out, as JSON knows it; a run with other settings does not go on with this one."""
    source = inputs.source
    return {
        "clip": str(Path(request.clip).expanduser().resolve()) if request.clip else "",
        "frames": len(source),
        "fps": source.fps,
        "camera_k": source.camera.camera_k.tolist(),
        "image_size": [source.camera.width, source.camera.height],
        "first_stamp": source.first_stamp,
        "objects": {name: mesh_fingerprint(model) for name, model in inputs.objects.items()},
        "object_boxes": [_parse_box(box) for box in request.boxes],
        "detector": _file_fingerprint(request.detector),
        "segmenter": [_file_fingerprint(path) for path in request.segmenter or ()],
        "hands": {side: model.fingerprint for side, model in inputs.hands.items()},
        "seed": request.seed,
        "scale_free": request.scale_free,
        "rgb_only": request.rgb_only,
        "version": grasp_nodes.__version__,
        "format_version": FORMAT_VERSION,
        **({"dataset": request.dataset, "sequence": request.sequence} if request.dataset else {}),
        **({"refine": request.refine} if request.refine != "none" else {}),
        **({"method": request.method} if request.method != "homan" else {}),
        **({"initialise": request.initialise} if request.initialise != "fit" else {}),
        **_flat("fit", asdict(reconstruction_settings(request))),
    }


def _flat(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings as one level, so that a message can name the one that differs."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(f"{name}.{key}", value) if isinstance(value, dict) else {f"{name}.{key}": value}
    return flat


def reconstruction_settings(request: Request) -> ReconstructionSettings:
    """Settings of the reconstructor."""
    from grasp_nodes.fitting.homan.settings import JointFitSettings
    from grasp_nodes.fitting.reconstruction import ReconstructionSettings

    return ReconstructionSettings(
        use_depth=not request.rgb_only, joint=JointFitSettings(scale_free=request.scale_free), seed=request.seed
    )


def make_reconstructor(request: Request, inputs: Inputs, boxes: Mapping[str, np.ndarray]) -> Reconstructor:
    """The reconstructor with its perception.

    Args:
        request, inputs: what it works with. boxes: (4,), px, by object id, in the first frame that it will see.

    Raises:
        InputError, MissingFileError, MissingDependencyError: a network or a setting cannot be used.
    """
    from grasp_nodes.fitting.reconstruction import ClipReconstructor
    from grasp_nodes.perception.clip_perceiver import ClipPerceiver
    from grasp_nodes.perception.foreground import ForegroundFinder
    from grasp_nodes.perception.hand_landmarks import LandmarkerOptions, LitertHandLandmarker

    foreground = ForegroundFinder()
    segmenter = make_segmenter(request, inputs, boxes, foreground)
    landmarker = LitertHandLandmarker(LandmarkerOptions())
    perceiver = ClipPerceiver(landmarker, segmenter, foreground=foreground)
    if request.method != "homan":
        return _miho(request, inputs, perceiver)
    initialiser = _honet_initialiser(inputs) if request.initialise == "honet" else None
    return ClipReconstructor(
        perceiver, inputs.hands, inputs.objects, reconstruction_settings(request), initialiser=initialiser
    )


def _honet_initialiser(inputs: Inputs) -> ClipInitialiser:
    from grasp_nodes.miho.initialiser import HoNetInitialiser
    from grasp_nodes.miho.pipeline import MihoPipeline
    from grasp_nodes.miho.trained import load_honet

    honet = load_honet(None, inputs.hands["right"].fingerprint)
    return HoNetInitialiser(inputs.hands, inputs.objects, MihoPipeline(inputs.hands, honet))


def _miho(request: Request, inputs: Inputs, perceiver: ClipObserver) -> Reconstructor:
    """HoNet in every frame, alone or with PiCR and GeO."""
    from grasp_nodes.fitting.geo.refiner import GeoRefiner
    from grasp_nodes.fitting.geo.settings import GeoSettings
    from grasp_nodes.miho.pipeline import MihoPipeline
    from grasp_nodes.miho.reconstruction import MihoReconstructor
    from grasp_nodes.miho.trained import load_honet, load_picr

    fingerprint = inputs.hands["right"].fingerprint
    whole = request.method == "miho"
    geo = GeoSettings(move_object=True)
    pipeline = MihoPipeline(
        inputs.hands,
        load_honet(None, fingerprint),
        load_picr(None, fingerprint) if whole else None,
        {side: GeoRefiner(model, geo) for side, model in inputs.hands.items()} if whole else None,
    )
    return MihoReconstructor(perceiver, inputs.hands, inputs.objects, pipeline)


def make_segmenter(
    request: Request, inputs: Inputs, boxes: Mapping[str, np.ndarray], foreground: ForegroundFinder
) -> ClipSegmenter | None:
    """The finder of the objects' pixels; None without objects.

    Raises:
        InputError: several objects and not a box for each, or networks that need a box and have none.
        MissingFileError, MissingDependencyError: a network cannot be loaded.
    """
    from grasp_nodes.perception.several_objects import SeveralObjects

    count = len(inputs.objects)
    if count > 1 and boxes.keys() != inputs.objects.keys():
        raise InputError(
            f"{count} objects and {len(boxes)} boxes: nothing says which is which; give --object-box X0,Y0,X1,Y1 once "
            "for each object, in the same order, px in the first frame"
        )
    parts = [
        _object_segmenter(request, model, boxes.get(name), foreground if count == 1 else None)
        for name, model in inputs.objects.items()
    ]
    if count <= 1:
        return parts[0] if parts else None
    return SeveralObjects(parts)


def _object_segmenter(
    request: Request, model: ObjectModel, box: np.ndarray | None, foreground: ForegroundFinder | None
) -> ClipSegmenter:
    from grasp_nodes.perception.clip_segmenter import ClipObjectSegmenter, StreamedClipSegmenter
    from grasp_nodes.perception.object_boxes import FirstFrameBox, ObjectBoxSource, PromptedSegmenter
    from grasp_nodes.perception.onnx_detector import OnnxBoxDetector
    from grasp_nodes.perception.onnx_segmenter import OnnxObjectSegmenter

    name = model.object_id
    source: ObjectBoxSource | None = None
    if box is not None:
        source = FirstFrameBox(box.tolist(), name)
    elif request.detector is not None:
        source = OnnxBoxDetector.from_file(request.detector, name)
    if request.segmenter is None:
        diameter = float(np.ptp(model.points, axis=0).max())
        return ClipObjectSegmenter(name, source, diameter, foreground, not request.rgb_only)
    if source is None:
        raise InputError("--segmenter needs to know where the object is: give --object-box or --detector")
    start = OnnxObjectSegmenter.starter(*request.segmenter, name)
    return StreamedClipSegmenter(PromptedSegmenter(source, lambda found: start(found.tolist())))


def first_boxes(request: Request, inputs: Inputs) -> dict[str, np.ndarray]:
    """The user's boxes by object id.

    Raises:
        InputError: a box that is none, or that goes far beyond the image, in shares of its width on all sides: it is
            of an image of another size.
    """
    boxes = {name: np.array(_parse_box(text)) for name, text in zip(inputs.objects, request.boxes, strict=False)}
    camera = inputs.source.camera
    size = np.array([camera.width, camera.height] * 2)
    for name, box in boxes.items():
        beyond = np.maximum(-box, box - size).max()
        if beyond > BEYOND_IMAGE * camera.width or (box[:2] >= size[:2]).any() or (box[2:] <= 0).any():
            told = ",".join(f"{value:g}" for value in box)
            raise InputError(
                f"--object-box {told} ({name}): expected a box in the first image, which is {camera.width} x "
                f"{camera.height} px"
            )
    return boxes


def boxes_after(states: Sequence[HandObjectState], inputs: Inputs) -> dict[str, np.ndarray]:
    """Boxes of the objects in the frame after some that are done: where each was last seen.

    Args:
        states: of the last frames that are done.
    """
    boxes = {}
    for state in states:
        for found in state.objects:
            model = inputs.objects.get(found.object_id)
            if model is None:
                continue
            vertices = model.vertices * found.scale / model.scale
            points = vertices @ found.T_camera_object[:3, :3].T + found.T_camera_object[:3, 3]
            box = _box_around(inputs.source.camera, points)
            if box is not None:
                boxes[found.object_id] = box
    return boxes


def _box_around(camera: CameraModel, points: np.ndarray) -> np.ndarray | None:
    pixels = camera.project(points)
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(pixels):
        return None
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    margin = BOX_MARGIN * (high - low)
    low = np.maximum(low - margin, 0)
    high = np.minimum(high + margin, [camera.width - 1, camera.height - 1])
    return np.concatenate([low, high]) if (high - low > 2).all() else None


def clip_frames(inputs: Inputs, first: int = 0, use_depth: bool = True) -> Iterator[Frame]:
    """The frames from number `first` on, read as they are asked for."""
    source = inputs.source
    if isinstance(source, (ClipSource, RecordingSource)):
        frames: Iterator[Frame] = (source.frame(index) for index in range(first, len(source)))
    else:
        frames = islice(iter(source), first, None)
    return frames if use_depth else (replace(frame, depth=None) for frame in frames)


def mesh_fingerprint(model: ObjectModel) -> str:
    """SHA-256 of a mesh as it is used, in m."""
    digest = hashlib.sha256(np.ascontiguousarray(model.vertices, np.float32).tobytes())
    digest.update(np.ascontiguousarray(model.faces, np.int64).tobytes())
    return digest.hexdigest()


def _file_fingerprint(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MissingFileError(f"network {path}: cannot be read ({error.strerror or error})") from error


def _parse_box(text: str) -> list[float]:
    try:
        box = [float(word) for word in text.split(",")]
    except ValueError:
        box = []
    if len(box) != 4 or not np.isfinite(box).all() or not (box[0] < box[2] and box[1] < box[3]):
        raise InputError(f"--object-box: expected X0,Y0,X1,Y1 in px with X0 < X1 and Y0 < Y1, got {text!r}")
    return box
