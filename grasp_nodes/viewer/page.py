"""The browser page: camera picture with overlay, the scene in 3D, and what the pipeline says of itself.

The scene is shown in the camera's optical frame. A hand's surface is split into a few levels of contact, each a mesh of
one colour, because the page can move vertices of a coloured mesh cheaply but not repaint them.
"""

from __future__ import annotations

import html
import logging
import re
import socket
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence

import numpy as np

from grasp_nodes.contact.interaction import FitStatus, HandObjectState, ObjectState
from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.viewer.colors import (
    CLOUD,
    CONTACT_COLORINGS,
    HAND_TRAIL,
    OBJECT,
    OBJECT_TRAIL,
    contact_colors,
    contact_map_colors,
)
from grasp_nodes.viewer.overlay import draw_overlay
from grasp_nodes.viewer.page_robot import PageRobot
from grasp_nodes.viewer.posed_hands import HandPoser, PosedHand

try:
    import viser
except ImportError as error:
    raise MissingDependencyError(
        "the viewer needs the package 'viser': install it with 'pip install grasp_nodes[viewer]', "
        "or start without it: viewer:=false"
    ) from error

logger = logging.getLogger(__name__)

CONTACT_LEVELS = 5
TOUCHED_POINT_SIZE = 0.0015
"""m, of the object's points that a hand touches."""
CLOUD_POINTS = 40_000
"""Of a cloud that are drawn: a browser without a GPU has to turn them, too."""
CLOUD_POINT_SIZE = 0.002
"""m."""
TRAIL_LENGTH = 90
KEPT_IMAGES = 32
BESIDE_ROBOT = 0.35
"""Opacity of a human hand where a robot hand is shown at the same place."""
VIEW_OFFSET = np.array([0.16, -0.17, -0.27])
"""m, camera frame: where the page's view stands from what it looks at; beside the camera, a little above."""
JPEG_QUALITY = 80


class ViewerPage:
    """Serves the page until `close`.

    Args:
        port: TCP port; the next free one is taken if it is in use.
        host: address to listen on; '127.0.0.1' is this machine alone, '0.0.0.0' any.
        hand_model_path: hand model file, None for the default hand.
        trails: whether the ways of hand and object are drawn: where states are one motion, not proposals.

    Raises:
        MissingDependencyError: viser is not installed.
        InputError: the host is not an address of this machine.
    """

    def __init__(
        self, port: int = 8080, host: str = "127.0.0.1", hand_model_path: str | None = None, trails: bool = True
    ) -> None:
        _check_host(host)
        self._server = viser.ViserServer(host=host, port=port, label="grasp_nodes", verbose=False)
        self._host = host
        self._poser = HandPoser(hand_model_path)
        self._camera: CameraModel | None = None
        self._object: ObjectModel | None = None
        self._object_mesh: viser.MeshHandle | None = None
        self._touched: viser.PointCloudHandle | None = None
        self._hands: dict[str, list[viser.MeshHandle]] = {}
        self._robot: PageRobot | None = None
        self._last_state: list[str] = []
        self._images: OrderedDict[int, np.ndarray] = OrderedDict()
        self._trails = {
            "hand": deque[np.ndarray](maxlen=TRAIL_LENGTH),
            "object": deque[np.ndarray](maxlen=TRAIL_LENGTH),
        }
        self._has_trails = trails
        self._trail_lines: dict[str, viser.LineSegmentsHandle] = {}
        self._view_target = np.array([0.0, 0.0, 0.6])
        self._has_seen = False
        self._build()

    @property
    def address(self) -> str:
        """URL of the page on this machine."""
        return f"http://{'127.0.0.1' if self._host == '0.0.0.0' else self._host}:{self._server.get_port()}"

    def _build(self) -> None:
        gui, scene = self._server.gui, self._server.scene
        gui.configure_theme(control_layout="fixed", control_width="large", show_logo=False, show_share_button=False)
        self._status = gui.add_markdown("**Waiting** for the first image.")
        self._picture = gui.add_image(np.full((240, 320, 3), 40, np.uint8), label="camera", format="jpeg")
        self._coloring = gui.add_dropdown("contact colours", CONTACT_COLORINGS)
        self._hands_shown = gui.add_checkbox("show hands", True)
        self._rates = gui.add_html("")
        scene.set_up_direction("-y")
        scene.add_frame("/camera", show_axes=False)
        self._server.on_client_connect(self._place_view)

    def _place_view(self, client: viser.ClientHandle) -> None:
        client.camera.up_direction = (0.0, -1.0, 0.0)
        client.camera.position = self._view_target + VIEW_OFFSET
        client.camera.look_at = self._view_target
        client.camera.near = 0.01

    def set_camera(self, camera: CameraModel) -> None:
        """The camera that takes the images; needed for the overlay."""
        before, self._camera = self._camera, camera
        if before is not None and _same_view(before, camera):
            return
        fov = 2 * float(np.arctan2(camera.height / 2, camera.camera_k[1, 1]))
        self._server.scene.add_camera_frustum(
            "/camera/frustum",
            fov=fov,
            aspect=camera.width / camera.height,
            scale=0.06,
            thickness=1.5,
            thickness_units="screen",
            color=(60, 60, 60),
        )

    def set_object(self, object_model: ObjectModel) -> None:
        """The object whose pose the states carry."""
        self._object = object_model
        self._object_mesh = self._server.scene.add_mesh_simple(
            "/object",
            object_model.vertices,
            object_model.faces,
            color=OBJECT,
            opacity=0.85,
            side="double",
            visible=False,
        )

    def set_cloud(self, points: np.ndarray, colors: np.ndarray | None = None) -> None:
        """Points that a depth camera measured, instead of those before.

        Args:
            points: (N, 3) m, camera frame; thinned to `CLOUD_POINTS`. colors: (N, 3) uint8, RGB; None = grey.
        """
        # Every k-th point would show as stripes: a depth camera's points come row by row.
        count = min(len(points), CLOUD_POINTS)
        kept = np.random.default_rng(0).choice(len(points), count, replace=False, shuffle=False)
        paint = CLOUD if colors is None else np.asarray(colors[kept], np.uint8)
        self._server.scene.add_point_cloud(
            "/cloud",
            np.asarray(points[kept], np.float32),
            paint,
            point_size=CLOUD_POINT_SIZE,
            point_shape="circle",
            precision="float32",
        )

    def set_robot(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """A robot hand, see `PageRobot`; human hands are seen through from now on."""
        self._robot = PageRobot(self._server, parts, self._hands_shown.order + 0.5)
        for meshes in self._hands.values():
            for mesh in meshes:
                mesh.opacity = BESIDE_ROBOT

    def update_robot(self, poses: np.ndarray) -> None:
        """Poses (B, 4, 4), m, camera frame, of the parts of the robot hand."""
        if self._robot is not None:
            with self._server.atomic():
                self._robot.place(poses)

    def update_image(self, color: np.ndarray, stamp: int) -> None:
        """An image; shown with its overlay when the state of the same stamp arrives.

        Args:
            color: (H, W, 3) uint8, RGB. stamp: ns.
        """
        if color.ndim != 3 or color.shape[2] != 3 or color.dtype != np.uint8:
            raise InputError(f"image for the page: expected uint8 (H, W, 3), got {color.dtype} {color.shape}")
        self._images[stamp] = color
        while len(self._images) > KEPT_IMAGES:
            self._images.popitem(last=False)

    def update_state(self, state: HandObjectState) -> None:
        """Show hands, object, contact, trails and status of one instant."""
        posed = [self._poser.pose(hand, state) for hand in state.hands]
        with self._server.atomic():
            self._show_hands({f"{hand.params.side}": mesh for hand, mesh in zip(state.hands, posed, strict=True)})
            self._show_object(state)
            if self._has_trails:
                self._show_trails(state)
            self._show_status(state)
            if self._robot is not None and not state.hands:
                self._robot.hide()
        self._look_at_first(state)
        self._show_picture(state, posed)
        self._server.flush()

    def set_status(self, text: str, rates: Mapping[str, float] | None = None) -> None:
        """What the pipeline says when there is no state, for instance why nothing is seen, and its rates.

        Args:
            text: one sentence, above what the last state was; empty keeps the last one.
            rates: named numbers to list, e.g. {"frames in, Hz": 29.8}.
        """
        if text:
            last = ["Before that:", *self._last_state] if self._last_state else []
            self._status.content = "  \n".join([f"**{_plain(text)}**", *last])
        if rates is not None:
            rows = "".join(
                f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{value:.1f}</td></tr>"
                for name, value in rates.items()
            )
            self._rates.content = f"<table style='width:100%;font-size:0.85em'>{rows}</table>"

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()

    def _look_at_first(self, state: HandObjectState) -> None:
        """Turn every open view to the hand, or to the object, once."""
        places = [hand.keypoints.mean(0) for hand in state.hands] + [
            item.T_camera_object[:3, 3] for item in state.objects
        ]
        if self._has_seen or not places:
            return
        self._has_seen = True
        self._view_target = np.mean(places, axis=0)
        for client in self._server.get_clients().values():
            self._place_view(client)

    def _show_hands(self, hands: Mapping[str, PosedHand]) -> None:
        for side, meshes in self._hands.items():
            if side not in hands:
                for mesh in meshes:
                    mesh.visible = False
        for side, hand in hands.items():
            levels = self._hands.get(side)
            level_of_face = np.minimum(
                (hand.contact[hand.faces].mean(1) * CONTACT_LEVELS).astype(int), CONTACT_LEVELS - 1
            )
            if levels is None:
                colors = contact_colors(np.linspace(0, 1, CONTACT_LEVELS))
                levels = self._hands[side] = [
                    self._server.scene.add_mesh_simple(
                        f"/hand_{side}/contact_{level}",
                        hand.vertices,
                        hand.faces[:1],
                        color=colors[level],
                        opacity=None if self._robot is None else BESIDE_ROBOT,
                        side="double",
                    )
                    for level in range(CONTACT_LEVELS)
                ]
            for level, mesh in enumerate(levels):
                faces = hand.faces[level_of_face == level]
                mesh.visible = bool(len(faces)) and self._hands_shown.value
                if len(faces):
                    mesh.vertices = hand.vertices
                    mesh.faces = faces.astype(np.uint32)

    def _show_object(self, state: HandObjectState) -> None:
        if self._object_mesh is None:
            return
        found = next(
            (item for item in state.objects if self._object and item.object_id == self._object.object_id), None
        )
        self._object_mesh.visible = found is not None
        if found is not None:
            self._object_mesh.position = found.T_camera_object[:3, 3]
            self._object_mesh.wxyz = viser.transforms.SO3.from_matrix(found.T_camera_object[:3, :3]).wxyz
        self._show_touched_points(state, found)

    def _show_touched_points(self, state: HandObjectState, found: ObjectState | None) -> None:
        """The object's points with contact above one half, in the colours that the page's menu names."""
        maps = [] if found is None else [each for each in state.contact_maps if each.object_id == found.object_id]
        near = [each.contact > 0.5 for each in maps]
        points = np.concatenate([np.zeros((0, 3)), *(each.points[on] for each, on in zip(maps, near, strict=True))])
        if self._touched is not None:
            self._touched.visible = bool(len(points))
        if found is None or not len(points):
            return
        colors = np.concatenate(
            [contact_map_colors(each, self._coloring.value)[on] for each, on in zip(maps, near, strict=True)]
        )
        placed = points @ found.T_camera_object[:3, :3].T + found.T_camera_object[:3, 3]
        if self._touched is None:
            self._touched = self._server.scene.add_point_cloud(
                "/contact_points", placed.astype(np.float32), colors, point_size=TOUCHED_POINT_SIZE, precision="float32"
            )
        else:
            self._touched.points, self._touched.colors = placed.astype(np.float32), colors

    def _show_trails(self, state: HandObjectState) -> None:
        if state.hands:
            self._trails["hand"].append(state.hands[0].keypoints[0])
        if state.objects:
            self._trails["object"].append(state.objects[0].T_camera_object[:3, 3].copy())
        for name, color in (("hand", HAND_TRAIL), ("object", OBJECT_TRAIL)):
            points = np.array(self._trails[name], np.float32)
            if len(points) < 2:
                continue
            segments = np.stack([points[:-1], points[1:]], axis=1)
            if name not in self._trail_lines:
                self._trail_lines[name] = self._server.scene.add_line_segments(
                    f"/trail_{name}", segments, color, thickness=0.002
                )
            else:
                self._trail_lines[name].points = segments

    def _show_status(self, state: HandObjectState) -> None:
        label = {FitStatus.OK: "Following", FitStatus.HELD: "Holding the last pose", FitStatus.NOTHING: "Nothing seen"}
        parts = []
        if state.status_text:
            parts.append(_plain(state.status_text))
        for hand in state.hands:
            metric = "" if hand.is_metric else ", distance up to scale (focal length guessed)"
            parts.append(f"{hand.params.side} hand, score {hand.score:.2f}{metric}")
        parts += [f"object *{_plain(item.object_id)}*, score {item.score:.2f}" for item in state.objects]
        parts += [
            f"contact: {int((contact.contact > 0.5).sum())} of {len(contact.contact)} object points"
            for contact in state.contact_maps
        ]
        self._last_state = parts
        self._status.content = "  \n".join([f"**{label[state.status]}**", *parts])

    def _show_picture(self, state: HandObjectState, posed: list[PosedHand]) -> None:
        color = self._images.get(state.stamp)
        if color is None:
            return
        if self._camera is not None:
            shapes = [] if self._object is None else [self._object]
            color = draw_overlay(color, self._camera, state, posed, shapes)
        self._picture.image = color


def _plain(text: str) -> str:
    """Text from outside for the page's Markdown, which would show HTML and pictures in it as they are."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def _same_view(first: CameraModel, second: CameraModel) -> bool:
    """Whether two cameras see the same pyramid."""
    sizes_agree = (first.width, first.height) == (second.width, second.height)
    return sizes_agree and np.array_equal(first.camera_k, second.camera_k)


def _check_host(host: str) -> None:
    """The server would wait for ever on an address that is not this machine's.

    Raises:
        InputError: it is not.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError as error:
        raise InputError(
            f"page: cannot listen on host {host!r} ({error}); expected an address of this machine: 127.0.0.1 for it "
            "alone, 0.0.0.0 for the network"
        ) from error
