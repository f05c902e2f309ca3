"""The parameters of every node: one frozen dataclass each, the only place where they are defined.

A field is a ROS parameter with its default, description, range or choices; `config/defaults.yaml` lists them all and a
test keeps it equal to this file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from grasp_nodes.errors import InputError

P = TypeVar("P", bound="NodeParameters")

RELIABILITY = ("best_effort", "reliable")
SIDES = ("right", "left")
INPUT_RELIABILITY = "Reliability asked of publishers; best_effort matches both kinds."
INPUT_DEPTH = "Messages kept per input while the node is busy."


def parameter(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    read_only: bool = True,
) -> Any:
    """A field of a parameter class.

    Args:
        minimum, maximum: inclusive range of a number.
        choices: allowed texts.
        read_only: false when the node takes a change while it runs.
    """
    metadata = {
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "read_only": read_only,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NodeParameters:
    """What every node takes."""

    autostart: bool = parameter(True, "Start working at once; false: wait for the service ~/enable.")
    threads: int = parameter(2, "Threads of numerical libraries.", minimum=1, maximum=64)
    silence_warn_s: float = parameter(
        5.0, "s without a useful output after which the reason is logged.", minimum=0.5, maximum=3600.0, read_only=False
    )
    diagnostics_period_s: float = parameter(1.0, "s between messages on /diagnostics.", minimum=0.1, maximum=60.0)
    input_reliability: str = parameter("best_effort", INPUT_RELIABILITY, choices=RELIABILITY)
    input_depth: int = parameter(1, INPUT_DEPTH, minimum=1, maximum=1000)


@dataclass(frozen=True)
class PatientParameters(NodeParameters):
    """What a node takes that has to miss none of its messages. First among bases, so that these defaults win."""

    input_reliability: str = parameter("reliable", INPUT_RELIABILITY, choices=RELIABILITY)
    input_depth: int = parameter(50, INPUT_DEPTH, minimum=1, maximum=1000)


@dataclass(frozen=True)
class OutputParameters(NodeParameters):
    """What a node takes that publishes more than diagnostics."""

    output_reliability: str = parameter("reliable", "Reliability offered to subscribers.", choices=RELIABILITY)
    output_depth: int = parameter(
        10, "Messages kept per output for subscribers that are behind.", minimum=1, maximum=1000
    )


@dataclass(frozen=True)
class ObjectParameters(NodeParameters):
    """What a node takes that has to know the object."""

    object: str = parameter(
        "", "Mesh file or shape such as sphere:0.117 (radius in m); '' = the clip's own, as source/status says."
    )
    object_scale: float = parameter(
        1.0, "Factor that turns the units of the mesh in object into m.", minimum=1e-6, maximum=1e6
    )
    mesh_roots: list[str] = parameter(  # noqa: RUF009 - makes a field with a factory
        [""],
        "Folders below which a mesh that a message names may be opened; '' stands for the user's home, the working "
        "folder, the folder for temporary files and the package's own.",
    )


@dataclass(frozen=True)
class SourceParameters(PatientParameters, ObjectParameters, OutputParameters):
    """Parameters of source_node."""

    source: str = parameter(
        "",
        "What to play: '' = the default rendered clip, table = an object on a table before a rendered camera, a clip "
        "or stereo folder, a video file, an MCAP or db3 bag, or "
        "the number of a camera as text, '0'.",
    )
    frames: int = parameter(0, "Frames to play; 0 = all.", minimum=0, maximum=10_000_000)
    seed: int = parameter(0, "Seed of the default clip.", minimum=0, maximum=2**31 - 1)
    loop: bool = parameter(False, "Start again at the end; stamps go on.")
    rate: float = parameter(0.0, "Hz at pace realtime; 0 = as recorded.", minimum=0.0, maximum=1000.0)
    pace: str = parameter(
        "auto",
        "realtime: at the recorded or given rate; answered: the next frame is sent when earlier ones were answered on "
        "hand_object/state; auto: answered for recordings, realtime for cameras.",
        choices=("auto", "realtime", "answered"),
    )
    in_flight: int = parameter(2, "Frames that may be unanswered at pace answered.", minimum=1, maximum=64)
    answer_timeout_s: float = parameter(
        5.0, "s after which an unanswered frame counts as lost.", minimum=0.1, maximum=600.0
    )
    start_timeout_s: float = parameter(
        300.0,
        "s to wait for the graph to be ready and for the first answers; numerical code is compiled at the first run.",
        minimum=0.0,
        maximum=3600.0,
    )
    field_of_view: float = parameter(
        60.0, "Horizontal field of view in degrees, assumed where the camera is not known.", minimum=5.0, maximum=160.0
    )
    restamp: bool = parameter(
        False, "Stamp each frame with the time at which it is sent instead of its recorded stamp."
    )


@dataclass(frozen=True)
class PerceptionParameters(ObjectParameters, OutputParameters):
    """Parameters of perception_node."""

    max_hands: int = parameter(2, "Hands that are followed at once.", minimum=1, maximum=8)
    min_hand_score: float = parameter(
        0.5, "Score below which a hand does not count as seen.", minimum=0.01, maximum=0.99
    )
    hand_backend: str = parameter(
        "network",
        "Finder of hands; network: the one that comes with the package; evidence: landmarks (and masks, where there "
        "are any) from hand_evidence.",
        choices=("network", "evidence"),
    )
    object_backend: str = parameter(
        "auto",
        "Finder of the object's pixels; depth: what stands off the table; grabcut: colour, from a box; onnx: a network "
        "of yours, from a box; topic: masks from object_mask; evidence: masks from hand_evidence; auto: depth where "
        "there is depth, else grabcut where there is a box.",
        choices=("auto", "depth", "grabcut", "onnx", "topic", "evidence", "none"),
    )
    object_box: str = parameter(
        "", "x_min,y_min,x_max,y_max in px of the object in the first image; '' = from object_detections, or found."
    )
    onnx_encoder: str = parameter("", "Image encoder (Segment Anything's layout) for object_backend onnx.")
    onnx_decoder: str = parameter("", "Its mask decoder.")
    onnx_encoder_sha256: str = parameter("", "SHA-256 of the encoder; '' = not checked.")
    onnx_decoder_sha256: str = parameter("", "SHA-256 of the decoder; '' = not checked.")
    use_depth: str = parameter(
        "auto", "Wait for depth of each image; auto: when somebody publishes it.", choices=("auto", "always", "never")
    )
    sync_slop_s: float = parameter(
        0.01, "s by which stamps of colour and all that goes with it may differ.", minimum=0.0, maximum=1.0
    )
    camera_is_metric: bool = parameter(
        True, "False: the focal length in camera_info is a guess, so that positions are right up to scale only."
    )
    image_transport: str = parameter(
        "raw", "compressed: JPEG or PNG from the topic <image>/compressed.", choices=("raw", "compressed")
    )
    queue_size: int = parameter(1, "Images that wait while one is worked on; the newest wins.", minimum=1, maximum=1000)


@dataclass(frozen=True)
class FittingParameters(ObjectParameters, OutputParameters):
    """Parameters of fitting_node."""

    hand_model: str = parameter("", "MANO file or folder; '' = the open hand.")
    min_hand_score: float = parameter(0.5, "Score below which a hand is not fitted.", minimum=0.0, maximum=1.0)
    contact_threshold: float = parameter(0.005, "m at which contact is one half.", minimum=1e-4, maximum=0.1)
    hold_time_s: float = parameter(
        1.0, "s for which the last answer is repeated while nothing is seen.", minimum=0.0, maximum=3600.0
    )
    window: int = parameter(
        10,
        "Frames on which the newest answer rests; 1 = each frame by itself, after the one before.",
        minimum=1,
        maximum=100,
    )
    hand_poses_backend: str = parameter(
        "own", "Where the fit of hands starts; topic: poses from hand_poses_in.", choices=("own", "topic")
    )
    object_pose_backend: str = parameter(
        "own", "Where the fit of the object starts; topic: the pose from object_pose_in.", choices=("own", "topic")
    )
    refine: str = parameter(
        "none",
        "What is done to hands after the fit; geo: the springs of their contact map pull them to the object and out of "
        "it, a few tenths of a second for each hand that touches; jointdiffusion: right hands that are deep in the "
        "object, or hardly seen, are refined by a network.",
        choices=("none", "geo", "jointdiffusion"),
    )
    seed: int = parameter(0, "Seed of the search for the object's pose.", minimum=0, maximum=2**31 - 1)
    use_depth: str = parameter(
        "auto", "Wait for depth of each image; auto: when somebody publishes it.", choices=("auto", "always", "never")
    )
    sync_slop_s: float = parameter(
        0.01, "s by which stamps of evidence, depth and given poses may differ.", minimum=0.0, maximum=1.0
    )
    publish_tf: bool = parameter(True, "Publish the frames hand_right, hand_left and object_<id> on /tf.")
    publish_markers: bool = parameter(True, "Publish markers while somebody subscribes to them.")
    contact_coloring: str = parameter(
        "contact",
        "Colours of contact in the markers: how close; which region of the hand; elasticity, as springs would have.",
        choices=("contact", "region", "elasticity"),
    )
    queue_size: int = parameter(
        1, "Evidence that waits while one is worked on; the newest wins.", minimum=1, maximum=1000
    )
    device: str = parameter(
        "cpu", "Device of the hand model; the solver itself works on the CPU.", choices=("cpu", "cuda")
    )


@dataclass(frozen=True)
class RecorderParameters(NodeParameters):
    """Parameters of recorder_node."""

    input_depth: int = parameter(50, INPUT_DEPTH, minimum=1, maximum=1000)
    output: str = parameter("", "Folder of the bag; '' = grasp_nodes_<date> in the working folder.")
    topics: list[str] = parameter(  # noqa: RUF009 - makes a field with a factory
        [
            "camera/color/image_raw",
            "camera/color/camera_info",
            "camera/depth/image_raw",
            "evidence",
            "hand_object/state",
            "hand_model_info",
            "truth/state",
            "robot/joint_states",
            "/tf",
        ],
        "Topics to record; one that this package does not know is written topic:package/msg/Type; all: every topic of "
        "this package, with the joints of a robot.",
    )
    min_free_mb: float = parameter(
        256.0, "MB that stay free on the disk: recording stops before.", minimum=0.0, maximum=1e9, read_only=False
    )
    task: str = parameter("", "What is done in the demonstrations that ~/save_demo keeps, in words.", read_only=False)


@dataclass(frozen=True)
class ReportParameters(PatientParameters, ObjectParameters):
    """Parameters of report_node."""

    report_file: str = parameter("", "JSON file of the report; '' = only logged.")
    exit_when_finished: bool = parameter(True, "End after the report of a source that has finished.")
    grace_s: float = parameter(
        2.0,
        "s without a new state after the source has finished, before the report is written.",
        minimum=0.1,
        maximum=600.0,
    )
    device: str = parameter("cpu", "Device named in the report.", choices=("cpu", "cuda"))


@dataclass(frozen=True)
class ViewerParameters(ObjectParameters):
    """Parameters of viewer_node."""

    port: int = parameter(8080, "TCP port of the page; the next free one if it is in use.", minimum=1, maximum=65535)
    host: str = parameter("127.0.0.1", "Address to listen on; 0.0.0.0 = any.")
    hand_model: str = parameter("", "MANO file or folder; '' = the open hand.")
    open_browser: bool = parameter(True, "Open the page in the desktop's browser, where there is one.")
    robot: str = parameter("", "Robot hand that is shown, as of retargeting_node; '' = none.")
    robot_side: str = parameter("right", "Its side.", choices=SIDES)
    show_cloud: bool = parameter(False, "Show the points of object_cloud.")
    show_trails: bool = parameter(True, "Draw the ways of hand and object over the last states.")


@dataclass(frozen=True)
class GraspParameters(ObjectParameters, OutputParameters):
    """Parameters of grasp_node."""

    method: str = parameter(
        "auto",
        "Method of grasps, such as fastgrasp-flow+rank8+polish; an unknown one lists them all. auto: "
        "fastgrasp-flow+rank2, or where its weights are missing the search of synthetic.",
        read_only=False,
    )
    count: int = parameter(16, "Grasps of an object.", minimum=0, maximum=10_000, read_only=False)
    seed: int = parameter(0, "Of everything that is random.", minimum=0, maximum=2**31 - 1, read_only=False)
    answer_clouds: bool = parameter(
        True, "Grasps for every cloud that comes; false: only on request, of the last cloud.", read_only=False
    )
    cloud_scale: float = parameter(
        1.0, "Factor that turns the units of clouds into m.", minimum=1e-6, maximum=1e6, read_only=False
    )
    table: str = parameter(
        "auto",
        "Whether a table is taken away from clouds; auto: where a plane is larger than a thing to hold.",
        choices=("auto", "always", "never"),
        read_only=False,
    )
    avoid_table: bool = parameter(
        True, "No grasps whose joints or fingertips would be below the table that was found.", read_only=False
    )
    completion: str = parameter(
        "auto",
        "What becomes of the side of an object that no point shows; auto: symmetry, if one side alone was seen; "
        "mirror: always so; none: it is left as it is.",
        choices=("auto", "mirror", "none"),
        read_only=False,
    )
    max_contact_maps: int = parameter(
        16, "Contact maps are computed of so many grasps, the best.", minimum=0, maximum=1000, read_only=False
    )
    publish_state: bool = parameter(
        False, "Publish the best grasp of each cloud on hand_object/state, for the page; not beside a fitting_node."
    )
    publish_markers: bool = parameter(True, "Publish markers while somebody subscribes to them.")
    max_markers: int = parameter(1, "Hands in the markers, the best.", minimum=1, maximum=100, read_only=False)
    queue_size: int = parameter(1, "Clouds that wait while one is worked on; the newest wins.", minimum=1, maximum=1000)
    device: str = parameter("auto", "Where networks run; auto: a GPU if there is one.", choices=("auto", "cpu", "cuda"))
    hand_model: str = parameter("", "MANO file or folder; '' = the open hand.")


@dataclass(frozen=True)
class RetargetingParameters(ObjectParameters, OutputParameters):
    """Parameters of retargeting_node."""

    robot: str = parameter(
        "generic", "Robot hand: generic, one that 'grasp-nodes hands' lists, or the path of a URDF file."
    )
    side: str = parameter("right", "Side of the robot hand, and of the human hand that it follows.", choices=SIDES)
    follow: str = parameter(
        "state",
        "What is followed; state: hand_object/state, with contact; hands: poses from the topic hands.",
        choices=("state", "hands"),
    )
    mode: str = parameter(
        "contact",
        "contact: what touched the object touches it; position: fingertips where the human's are; vector: directions "
        "and scaled lengths; dexpilot: these, and a pinch stays one.",
        choices=("contact", "position", "vector", "dexpilot"),
    )
    backend: str = parameter(
        "own", "Solver: the package's own, or the library dex_retargeting.", choices=("own", "dex_retargeting")
    )
    wrist: str = parameter(
        "auto",
        "Whether the robot's base may leave the place where palm lies on palm; auto: free for position and contact.",
        choices=("auto", "free", "fixed"),
    )
    smoothing: float = parameter(0.3, "Weight of the last frame; 0 = none.", minimum=0.0, maximum=100.0)
    velocity_limits: bool = parameter(True, "Joints keep to the limits of velocity in the description.")
    scale: float = parameter(
        0.0,
        "Factor on the human hand where the wrist is fixed; 0 = by the lengths of fingers.",
        minimum=0.0,
        maximum=10.0,
    )
    fingertip_offset: float = parameter(
        0.0, "m, that the robot's fingertips are taken farther out.", minimum=-0.05, maximum=0.05
    )
    squeeze: float = parameter(0.001, "m, that touching links are pressed into the object.", minimum=0.0, maximum=0.01)
    max_grasps: int = parameter(16, "Of a message on grasps so many are retargeted, the best.", minimum=1, maximum=1000)
    publish_tf: bool = parameter(True, "Publish the frames of the robot's links on /tf.")
    frame_prefix: str = parameter("", "Before the names of these frames; '' = robot_right/ or robot_left/.")
    publish_markers: bool = parameter(True, "Publish markers while somebody subscribes to them.")
    hand_model: str = parameter("", "MANO file or folder of the human hand; '' = the open hand.")
    queue_size: int = parameter(1, "States that wait while one is worked on; the newest wins.", minimum=1, maximum=1000)


NODES: dict[str, type[NodeParameters]] = {
    "source_node": SourceParameters,
    "perception_node": PerceptionParameters,
    "fitting_node": FittingParameters,
    "recorder_node": RecorderParameters,
    "report_node": ReportParameters,
    "viewer_node": ViewerParameters,
    "grasp_node": GraspParameters,
    "retargeting_node": RetargetingParameters,
}


def check_value(kind: type[NodeParameters], name: str, value: Any) -> Any:
    """A value for a parameter, of its type and within its range.

    Args:
        value: an int is taken for a float.

    Raises:
        InputError: no such parameter, another type, outside the range, or not among the choices.
    """
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    if name not in fields:
        raise InputError(f"parameter {name!r} is not known; expected one of {', '.join(fields)}")
    default, metadata = default_of(fields[name]), fields[name].metadata
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, list) and not isinstance(value, (str, bytes)):
        value = [str(item) for item in value]
    if type(value) is not type(default):
        raise InputError(f"parameter {name!r}: expected {type(default).__name__}, got {type(value).__name__} {value!r}")
    if metadata["choices"] and value not in metadata["choices"]:
        raise InputError(f"parameter {name!r}: expected one of {', '.join(metadata['choices'])}, got {value!r}")
    if metadata["minimum"] is not None and not metadata["minimum"] <= value <= metadata["maximum"]:
        raise InputError(
            f"parameter {name!r}: expected a number from {metadata['minimum']} to {metadata['maximum']}, got {value}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"parameter {name!r}: expected a finite number, got {value}")
    return value


def default_of(entry: dataclasses.Field[Any]) -> Any:
    """Default of a field."""
    if entry.default is not dataclasses.MISSING:
        return entry.default
    if entry.default_factory is dataclasses.MISSING:
        raise TypeError(f"parameter {entry.name!r} has no default")
    return entry.default_factory()


def build(kind: type[P], values: Mapping[str, Any]) -> P:
    """Parameters of a node, each value checked.

    Raises:
        InputError: see `check_value`.
    """
    return kind(**{name: check_value(kind, name, value) for name, value in values.items()})


def defaults_yaml() -> str:
    """The text of `config/defaults.yaml`: every parameter of every node with its default and description."""
    lines = [
        "# Every parameter of every node with its default. Copy what you want to change; give it as params_file.",
        "# Written by: python -m grasp_nodes.nodes.parameters > config/defaults.yaml",
    ]
    for node, kind in NODES.items():
        lines += ["", f"/**/{node}:", "  ros__parameters:"]
        for entry in dataclasses.fields(kind):
            lines += [f"    # {_explain(entry)}", f"    {entry.name}: {_yaml_value(default_of(entry))}"]
    return "\n".join(lines) + "\n"


def _explain(entry: dataclasses.Field[Any]) -> str:
    metadata = entry.metadata
    text = metadata["description"]
    if metadata["minimum"] is not None:
        text += f" Range {metadata['minimum']} to {metadata['maximum']}."
    if metadata["choices"]:
        text += f" One of {', '.join(metadata['choices'])}."
    return text if metadata["read_only"] else text + " May change while the node runs."


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return repr(value)


if __name__ == "__main__":
    import sys

    sys.stdout.write(defaults_yaml())
