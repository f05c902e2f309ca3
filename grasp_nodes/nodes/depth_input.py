"""The depth that may accompany images: whether to wait for it, and what of it can be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import Image

from grasp_nodes.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from grasp_nodes.nodes.node_base import GraspNode

DEPTH = "camera/depth/image_raw"


class DepthInput:
    """Subscription to depth, registered to colour.

    Args:
        choice: the parameter `use_depth`: auto waits for depth when somebody publishes it.
        add: takes stamp (ns) and message.
    """

    def __init__(self, node: GraspNode[Any], choice: str, add: Callable[[str, int, Any], None]) -> None:
        self._node, self._choice, self._add = node, choice, add
        self._seen = False
        if choice != "never":
            node.subscribe(Image, DEPTH, self._on_depth)

    @property
    def wanted(self) -> bool:
        """Whether an image has to wait for its depth."""
        if self._choice == "auto":
            return self._seen or self._node.publishers_of(DEPTH) > 0
        return self._choice == "always"

    def read(self, message: Image | None, width: int, height: int) -> np.ndarray | None:
        """Depth (H, W) float32, m, of an image of a size; None, reported and counted, where it cannot be used."""
        from grasp_nodes.nodes.conversions.images import image_to_depth

        if message is None:
            return None
        try:
            depth = image_to_depth(message)
            if depth.shape != (height, width):
                raise InputError(
                    f"depth is {depth.shape[1]}x{depth.shape[0]} but the image {width}x{height}: it must be registered "
                    "to colour"
                )
            if not depth.any():
                raise InputError("depth has no measurement (all zero, NaN or infinite)")
        except InputError as error:
            self._node.drop(DEPTH, f"bad {DEPTH}", f"{error}; the image is used without it")
            return None
        return depth

    def _on_depth(self, message: Image) -> None:
        stamp = self._node.stamp_of(message.header)
        self._seen = True
        self._add(DEPTH, stamp, message)
