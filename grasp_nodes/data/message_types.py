"""The message types that a recording may need: the standard ones and this package's own, without ROS."""

from __future__ import annotations

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from grasp_nodes.paths import share_dir


def typestore() -> Typestore:
    """The standard message types and this package's own."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in sorted((share_dir() / "msg").glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"grasp_msgs/msg/{path.stem}"))
    store.register(types)
    return store
