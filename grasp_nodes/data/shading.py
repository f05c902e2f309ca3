"""The studio in which clips are rendered: a wooden table, a wall, one soft light, a camera with blur and noise.

Everything is seeded; the same seed gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import (
    DEFAULT_LIGHT,
    RayScene,
    RenderMesh,
    Shader,
    SurfaceHits,
    box_pixels,
    cone_directions,
    draw_meshes,
    pixel_rays,
    sphere_directions,
    subpixel_offsets,
    to_uint8,
)

LABEL_BACKGROUND, LABEL_HAND, LABEL_OBJECT, LABEL_FOREARM, LABEL_TABLE = range(5)

SUPERSAMPLE = 2
TABLE_EDGE = 0.75
"""m from the object's place on the table to the table's far edge."""
WALL = 1.15
"""m from the object's place to the wall behind the table."""
TABLE_GRID = 4
"""px: shadows on the table are computed at every fourth pixel of every fourth row."""
SHADOW_REACH = 0.14
TABLE_FILL = 0.48
"""Share of the table's light that comes from all around."""
BLUR = 0.8
COLOR_NOISE = 0.012
GAMMA = 1 / 1.12


@dataclass(frozen=True)
class StudioImage:
    """color: (H, W, 3) uint8. depth: (H, W) float64, m, exact. labels: (H, W) uint8, see the LABEL constants."""

    color: np.ndarray
    depth: np.ndarray
    labels: np.ndarray


ColorsOfPoints = Callable[[np.ndarray], np.ndarray]
"""Colours (N, 3) in [0, 1] of points (N, 3), m."""


@dataclass(frozen=True)
class StudioLook:
    """What may differ between studios; the defaults are the wooden table.

    light: towards the key light, camera axes. key, fill: colour and strength of the key light and of the light from all
    around, 1 = as usual. table, wall: colours of points of the world, None = wood and grey. gloss: how much objects
    shine. blur: px, of the camera. color_noise: of the camera, in [0, 1].
    """

    light: tuple[float, float, float] = DEFAULT_LIGHT
    key: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fill: tuple[float, float, float] = (1.0, 1.0, 1.0)
    table: ColorsOfPoints | None = None
    wall: ColorsOfPoints | None = None
    gloss: float = 2.2
    blur: float = BLUR
    color_noise: float = COLOR_NOISE


@dataclass(frozen=True)
class Coating:
    """A mesh's own colours, instead of those of its vertices: sharp patterns on coarse meshes.

    vertices: (V, 3), of the mesh in the frame of `colors`.
    """

    vertices: np.ndarray
    colors: ColorsOfPoints


class Studio:
    """A fixed camera over a table; call `render` for each frame."""

    def __init__(
        self, camera: CameraModel, T_camera_world: np.ndarray, seed: int, look: StudioLook | None = None
    ) -> None:
        """Set up the table for a camera.

        Args:
            camera: without distortion.
            T_camera_world: (4, 4); the world's z is up, z = 0 the table's top, the object stands near the origin and
                the camera looks along +y.
            seed: of the wood and the camera's noise.
            look: light, surfaces and camera.
        """
        self.camera = camera
        self._seed = seed
        self._look = look or StudioLook()
        self._light = np.array(self._look.light) / np.linalg.norm(self._look.light)
        self._up = T_camera_world[:3, 2]
        self._T_world_camera = np.linalg.inv(T_camera_world)
        size = (camera.height, camera.width)
        pixels = box_pixels((0, 0, camera.width, camera.height))
        wood = _wood_grain(seed)
        parts = [
            self._surroundings(pixel_rays(camera, pixels + offset), wood) for offset in subpixel_offsets(SUPERSAMPLE)
        ]
        center = self._surroundings(pixel_rays(camera, pixels), wood)
        tint = TABLE_FILL * np.array(self._look.fill) + (1 - TABLE_FILL) * np.array(self._look.key)
        self._albedo = np.mean([part[0] for part in parts], axis=0).reshape(*size, 3) * tint
        self._depth = center[1].reshape(size)
        self._labels = center[2].reshape(size)
        self._table_share = np.mean([part[2] == LABEL_TABLE for part in parts], axis=0).reshape(size)

    def render(
        self,
        meshes: Sequence[RenderMesh],
        labels: Sequence[np.ndarray],
        frame: int,
        coatings: Mapping[int, Coating] | None = None,
    ) -> StudioImage:
        """One frame.

        Args:
            meshes: in the camera's frame; the first is skin.
            labels: for each mesh the label of each face, (F,) uint8.
            frame: number of the frame, seeds its noise.
            coatings: of some of the meshes, by index.
        """
        scene = RayScene(meshes, threads=1)
        canvas = self._albedo * self._table_light(scene)[..., None]
        shader = skin_shader(self._light, self._look)
        if coatings:
            shader = _coated(shader, meshes, coatings)
        pixels, hits = draw_meshes(scene, self.camera, canvas, self._light, shader, SUPERSAMPLE)
        depth, label_image = self._depth.copy(), self._labels.copy()
        depth[pixels[:, 1], pixels[:, 0]] = hits.depth
        label_image[pixels[:, 1], pixels[:, 0]] = _label_of_hits(hits, labels)
        rng = np.random.default_rng([self._seed, 1, frame])
        color = photograph(canvas, rng, self._look.blur, self._look.color_noise)
        return StudioImage(color, depth, label_image)

    def _surroundings(self, rays: np.ndarray, grain: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lit colour (N, 3), depth (N,) and label (N,) of table and wall along rays with z = 1."""
        directions = rays @ self._T_world_camera[:3, :3].T
        origin = self._T_world_camera[:3, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            to_table = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], np.inf)
            to_wall = np.where(directions[:, 1] > 0, (WALL - origin[1]) / directions[:, 1], np.inf)
        table = origin + np.where(np.isfinite(to_table), to_table, 0.0)[:, None] * directions
        wall = origin + np.where(np.isfinite(to_wall), to_wall, 0.0)[:, None] * directions
        on_table = np.isfinite(to_table) & (table[:, 1] < TABLE_EDGE)
        depth = np.where(on_table, to_table, to_wall)
        table_color = _wood(table, grain) if self._look.table is None else self._look.table(table)
        wall_color = (self._look.wall or _wall)(wall)
        color = np.where(on_table[:, None], table_color, wall_color)
        return color, depth, np.where(on_table, LABEL_TABLE, LABEL_BACKGROUND).astype(np.uint8)

    def _table_light(self, scene: RayScene) -> np.ndarray:
        """(H, W) brightness of the table under the meshes' contact shadow, 1 where nothing is near."""
        height, width = self._depth.shape
        y, x = np.mgrid[TABLE_GRID // 2 : height : TABLE_GRID, TABLE_GRID // 2 : width : TABLE_GRID]
        vertices = np.concatenate([mesh.vertices for mesh in scene.meshes])
        to_world, shift = self._T_world_camera[:3, :3], self._T_world_camera[:3, 3]
        light = to_world @ self._light
        world = vertices @ to_world.T + shift
        low_part = world[world[:, 2] < 0.35]
        shadow = low_part - light * (low_part[:, 2:] / light[2])
        # depth of the table behind whatever stands on it
        rays = self.camera.normalise(np.stack([x, y], -1).reshape(-1, 2))
        rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
        points = rays * self._depth[y, x].reshape(-1, 1)
        ground = points @ to_world.T + shift
        reached = np.concatenate([low_part[:, :2], shadow[:, :2]])
        low, high = reached.min(axis=0) - SHADOW_REACH, reached.max(axis=0) + SHADOW_REACH
        near = (self._labels[y, x].ravel() == LABEL_TABLE) & ((ground[:, :2] > low) & (ground[:, :2] < high)).all(1)
        rows = np.flatnonzero(near)
        normals = np.broadcast_to(self._up, (len(rows), 3))
        upward = sphere_directions(24) + 1.001 * self._up
        upward /= np.linalg.norm(upward, axis=1, keepdims=True)
        openness = scene.open_share(points[rows], normals, upward, SHADOW_REACH)
        key = scene.open_share(points[rows], normals, cone_directions(self._light, 0.22, 12), 1.0)
        brightness = np.ones(x.size)
        brightness[rows] = TABLE_FILL * openness + 0.52 * (0.25 + 0.75 * key)
        coarse = cv2.GaussianBlur(brightness.reshape(x.shape), (0, 0), 0.7)
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        return 1 + self._table_share * (fine - 1)


def skin_shader(light: np.ndarray, studio_look: StudioLook | None = None) -> Shader:
    """Shading under a key light in direction `light` (3,), unit: mesh 0 is skin, others are glazed."""
    chosen = studio_look or StudioLook()
    key, fill = np.array(chosen.key), np.array(chosen.fill)

    def shade(hits: SurfaceHits, look: np.ndarray, normals: np.ndarray, rays: np.ndarray) -> np.ndarray:
        is_skin = hits.mesh == 0
        wrap = np.where(is_skin, 0.25, 0.0)  # light that went through skin
        toward = np.clip((normals @ light + wrap) / (1 + wrap), 0, 1) * (0.25 + 0.75 * look[:, 4])
        ambient = (0.47 - 0.11 * normals[:, 1]) * look[:, 3] ** 1.15
        half = light - rays / np.linalg.norm(rays, axis=1, keepdims=True)
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        shine = np.clip(np.einsum("nc,nc->n", normals, half), 0, 1) ** 28 * 0.10 * look[:, 4]
        shine *= np.where(is_skin, 1.0, chosen.gloss)
        tint = np.where(is_skin[:, None], np.array([1.04, 0.98, 0.95]), 1.0)
        return look[:, :3] * (ambient[:, None] * tint * fill + 0.78 * toward[:, None] * key) + shine[:, None] * key

    return shade


def photograph(
    canvas: np.ndarray, rng: np.random.Generator, blur: float = BLUR, color_noise: float = COLOR_NOISE
) -> np.ndarray:
    """What a camera makes of an image (H, W, 3) in [0, 1]: uint8 with a little blur (px) and noise."""
    image = np.clip(canvas, 0, 1) ** GAMMA
    image = cv2.GaussianBlur(image, (0, 0), blur)
    return to_uint8(image + rng.normal(0, color_noise, image.shape))


def _coated(shader: Shader, meshes: Sequence[RenderMesh], coatings: Mapping[int, Coating]) -> Shader:
    def shade(hits: SurfaceHits, look: np.ndarray, normals: np.ndarray, rays: np.ndarray) -> np.ndarray:
        look = look.copy()
        for index, coating in coatings.items():
            rows = np.flatnonzero(hits.mesh == index)
            corners = coating.vertices[meshes[index].faces[hits.triangle[rows]]]
            look[rows, :3] = coating.colors(np.einsum("nk,nkc->nc", hits.weights[rows], corners))
        return shader(hits, look, normals, rays)

    return shade


def _label_of_hits(hits: SurfaceHits, labels: Sequence[np.ndarray]) -> np.ndarray:
    result = np.zeros(len(hits.mesh), np.uint8)
    for index, given in enumerate(labels):
        rows = np.flatnonzero(hits.mesh == index)
        result[rows] = given[hits.triangle[rows]]
    return result


def _wood_grain(seed: int) -> np.ndarray:
    """(1024, 1024) float32 in [0, 1], streaks along the rows."""
    rng = np.random.default_rng([seed, 2])
    size = 1024
    fine = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), sigmaX=60, sigmaY=1.6) * 12
    # Blurred on a quarter of the rows and columns: the same streaks at a sixteenth of the cost.
    coarse = rng.normal(size=(size // 4, size // 4)) / 4
    broad = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), sigmaX=22, sigmaY=3.5), (size, size)) * 30
    return np.clip(0.5 + 0.5 * fine + 0.4 * broad, 0, 1).astype(np.float32)


def _wood(points: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """Colours (N, 3) of planks along x at points (N, 3), m, world."""
    size, extent = len(grain), 3.0
    u = ((points[:, 0] / extent + 0.5) * size).astype(np.float32)
    v = ((points[:, 1] / extent + 0.5) * size).astype(np.float32)
    share = _remap(grain, u, v)[:, None].astype(np.float64)
    color = np.array([0.44, 0.30, 0.20]) * (1 - share) + np.array([0.62, 0.46, 0.32]) * share
    gap = np.abs((points[:, 1] + 0.06) % 0.14 - 0.07) > 0.0688
    return color * np.where(gap, 0.7, 1.0)[:, None]


def _remap(image: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """cv2.remap for a list of points: its maps may not be wide, so that the list is folded."""
    width = 1024
    fill = -len(u) % width
    maps = [np.pad(value, (0, fill)).reshape(-1, width) for value in (u, v)]
    return cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT).ravel()[: len(u)]


def _wall(points: np.ndarray) -> np.ndarray:
    """Colours (N, 3) of the wall at points (N, 3), m, world."""
    shade = np.clip(0.80 - 0.25 * np.abs(points[:, 2]), 0.3, 1.0)
    return shade[:, None] * np.array([0.80, 0.82, 0.80])
