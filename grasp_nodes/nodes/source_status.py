"""What the source says of itself: JSON on the latched topic `source/status`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from std_msgs.msg import String

from grasp_nodes.errors import InputError
from grasp_nodes.nodes.mesh_roots import allowed_mesh
from grasp_nodes.nodes.node_base import LATCHED, GraspNode
from grasp_nodes.nodes.parameters import ObjectParameters

TOPIC = "source/status"


@dataclass(frozen=True)
class SourceStatus:
    """State of the source.

    source: what is played. seed: of a rendered clip. frames_total: frames of one pass, 0 = unknown (camera).
    frames_sent: of this pass. loops: passes that are complete. finished: nothing more will come.
    error: why it ended early, '' = it did not.
    object: mesh file or shape of the clip's object, '' = none; object_id: its name in states; object_scale: factor on
    it. has_truth, has_depth: whether truth/state and depth are published. is_metric: false when the focal length was
    guessed.
    """

    source: str
    seed: int = 0
    frames_total: int = 0
    frames_sent: int = 0
    loops: int = 0
    finished: bool = False
    error: str = ""
    object: str = ""
    object_id: str = ""
    object_scale: float = 1.0
    has_truth: bool = False
    has_depth: bool = False
    is_metric: bool = True


def to_message(status: SourceStatus) -> String:
    """JSON message."""
    return String(data=json.dumps(dataclasses.asdict(status)))


def from_message(message: String) -> SourceStatus:
    """The status of a message; keys that are not known are left out.

    Raises:
        InputError: not the JSON of a status.
    """
    try:
        values = json.loads(message.data)
    except ValueError as error:
        raise InputError(f"expected JSON, got {message.data[:60]!r} ({error})") from error
    fields = {entry.name: entry for entry in dataclasses.fields(SourceStatus)}
    if not isinstance(values, dict) or "source" not in values:
        raise InputError(f"expected a JSON object with the key 'source', got {message.data[:60]!r}")
    known = {name: value for name, value in values.items() if name in fields}
    for name, value in known.items():
        expected = {"str": str, "int": int, "bool": bool, "float": (int, float)}[str(fields[name].type)]
        if not isinstance(value, expected):  # type: ignore[arg-type]
            raise InputError(f"key {name!r}: expected {fields[name].type}, got {value!r}")
    return SourceStatus(**known)


def watch_source(node: GraspNode[Any], on_status: Callable[[SourceStatus], None]) -> None:
    """Call back with everything that the source says of itself, now and later; there need not be a source."""
    node.subscribe(String, TOPIC, lambda message: on_status(from_message(message)), LATCHED, while_disabled=True)


def watch_object(node: GraspNode[Any], on_object: Callable[[str, str, float], None]) -> None:
    """Tell which object is handled: the one given as parameter, else the one that the source names, when it does.

    Args:
        node: its parameters are `ObjectParameters`.
        on_object: called with mesh file or shape, name ('' = after the file) and scale, on every change; never with a
            file that the node may not open for others, see `allowed_mesh`.
    """
    settings: ObjectParameters = node.settings
    if settings.object:
        on_object(settings.object, "", settings.object_scale)
        return
    last: list[tuple[str, str, float]] = []

    def on_status(status: SourceStatus) -> None:
        found = (status.object, status.object_id, status.object_scale)
        if status.object and last != [found]:
            last[:] = [found]
            on_object(allowed_mesh(status.object, settings.mesh_roots), *found[1:])

    watch_source(node, on_status)
