"""Pictures, depth and identities of triangle meshes by ray casting.

Colours are linear to the eye of a simple camera: values in [0, 1] are written as they are, without a colour profile.
Rays start at the camera with z = 1, so that the distance to a hit is the depth along the optical axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from grasp_nodes.errors import InputError, MissingDependencyError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.mesh import vertex_normals

RAY_LIFT = 0.0012
"""m: secondary rays start this far above the surface, so that they do not hit the triangle they leave."""
OUTLINE_STEP = 0.005
"""m of depth between neighbouring pixels that makes an outline."""
AMBIENT_RAYS, SHADOW_RAYS = 24, 8
"""Of each vertex, towards all sides and towards the light."""
DEFAULT_LIGHT = (-0.4, -0.8, -0.45)
"""Direction towards the key light, camera axes: from the upper left, a little behind the camera."""


@dataclass(frozen=True)
class RenderMesh:
    """One mesh of a picture.

    vertices: (V, 3) m, camera frame. faces: (F, 3) int. colors: (V, 3) or (3,) float in [0, 1].
    smooth: shade with vertex normals, else with one normal per face.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray
    smooth: bool = True

    def __post_init__(self) -> None:
        vertices = np.asarray(self.vertices, np.float64)
        faces = np.asarray(self.faces, np.int64)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
            raise InputError(f"RenderMesh.vertices: expected finite (V, 3), got shape {vertices.shape}")
        if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
            raise InputError(f"RenderMesh.faces: expected (F, 3) with F > 0, got shape {faces.shape}")
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise InputError(f"RenderMesh.faces: index {faces.max()} is outside of the {len(vertices)} vertices")
        colors = np.broadcast_to(np.asarray(self.colors, np.float64), vertices.shape)
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)
        object.__setattr__(self, "colors", colors)

    @cached_property
    def normals(self) -> np.ndarray:
        """(V, 3) unit vertex normals."""
        return vertex_normals(self.vertices, self.faces)


@dataclass(frozen=True)
class SurfaceHits:
    """Where N rays met the meshes.

    mesh: (N,) int64, index of the mesh, -1 = none. depth: (N,) float64, in units of the ray's length, inf = none.
    triangle: (N,) int64 and weights: (N, 3), the place in that mesh; meaningless without a hit.
    """

    mesh: np.ndarray
    depth: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray

    def take(self, rows: np.ndarray) -> SurfaceHits:
        """The hits of some of the rays."""
        return SurfaceHits(self.mesh[rows], self.depth[rows], self.triangle[rows], self.weights[rows])


@dataclass(frozen=True)
class RenderedImage:
    """color: (H, W, 3) uint8, RGB. depth: (H, W) float32, m, 0 = none. ids: (H, W) int16, mesh index, -1 = none."""

    color: np.ndarray
    depth: np.ndarray
    ids: np.ndarray


class RayScene:
    """Meshes that rays can be cast at."""

    def __init__(self, meshes: Sequence[RenderMesh], threads: int = 0) -> None:
        """Prepare the meshes for ray casting.

        Args:
            meshes: the scene, at least one mesh.
            threads: of the ray caster, 0 = as many as there are cores.

        Raises:
            InputError: no mesh. MissingDependencyError: Open3D is not installed.
        """
        if not meshes:
            raise InputError("a scene needs at least one mesh, got none")
        self._open3d = _import_open3d()
        self._threads = threads
        self._scene = self._open3d.t.geometry.RaycastingScene(nthreads=threads)
        self.meshes = tuple(meshes)
        tensor = self._open3d.core.Tensor
        for mesh in meshes:
            self._scene.add_triangles(tensor(mesh.vertices.astype(np.float32)), tensor(mesh.faces.astype(np.uint32)))

    def cast(self, directions: np.ndarray, origins: np.ndarray | None = None) -> SurfaceHits:
        """First hits of rays.

        Args:
            directions: (N, 3), of any length. origins: (N, 3), m; None = the camera.
        """
        rays = _rays(directions, origins)
        answer = self._scene.cast_rays(self._open3d.core.Tensor(rays), nthreads=self._threads)
        depth = answer["t_hit"].numpy().astype(np.float64)
        hit = np.isfinite(depth)
        uv = answer["primitive_uvs"].numpy().astype(np.float64)
        return SurfaceHits(
            np.where(hit, answer["geometry_ids"].numpy().astype(np.int64), -1),
            depth,
            np.where(hit, answer["primitive_ids"].numpy().astype(np.int64), 0),
            np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], axis=1),
        )

    def crossings(self, directions: np.ndarray, origins: np.ndarray | None = None) -> tuple[np.ndarray, SurfaceHits]:
        """Every place where rays cross a surface, those behind the first one, too.

        Args:
            directions: (N, 3), of any length. origins: (N, 3), m; None = the camera.

        Returns:
            (M,) int64, the ray of each crossing, ascending; and the M crossings, of one ray in any order.
        """
        rays = _rays(directions, origins)
        answer = self._scene.list_intersections(self._open3d.core.Tensor(rays), nthreads=self._threads)
        uv = answer["primitive_uvs"].numpy().astype(np.float64)
        return answer["ray_ids"].numpy().astype(np.int64), SurfaceHits(
            answer["geometry_ids"].numpy().astype(np.int64),
            answer["t_hit"].numpy().astype(np.float64),
            answer["primitive_ids"].numpy().astype(np.int64),
            np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], axis=1),
        )

    def open_share(self, points: np.ndarray, normals: np.ndarray, directions: np.ndarray, reach: float) -> np.ndarray:
        """Share of directions in which a point sees no surface nearby.

        Args:
            points, normals: (N, 3), m and unit; rays start a little above the surface.
            directions: (K, 3) unit for all points, or (N, K, 3).
            reach: m, how far a surface hides.

        Returns:
            (N,) in [0, 1].
        """
        if not len(points):
            return np.zeros(0)
        directions = np.broadcast_to(directions, (len(points), directions.shape[-2], 3))
        start = np.broadcast_to((points + RAY_LIFT * normals)[:, None], directions.shape)
        rays = np.concatenate([start, directions], axis=-1).astype(np.float32)
        tensor = self._open3d.core.Tensor(rays)
        blocked = self._scene.test_occlusions(tensor, tfar=reach, nthreads=self._threads).numpy()
        return 1 - blocked.mean(axis=1)


def _rays(directions: np.ndarray, origins: np.ndarray | None) -> np.ndarray:
    rays = np.zeros((len(directions), 6), np.float32)
    rays[:, 3:] = directions
    if origins is not None:
        rays[:, :3] = origins
    return rays


def _import_open3d() -> Any:
    try:
        import open3d
    except ImportError as error:
        raise MissingDependencyError(
            "rendering needs Open3D, which could not be imported "
            f"({error}): install it with 'pip install open3d' (Debian also needs the package libgomp1)"
        ) from error
    return open3d


def sphere_directions(count: int) -> np.ndarray:
    """(count, 3) unit vectors, evenly spread over the sphere (a Fibonacci lattice)."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    radius, turn = np.sqrt(1 - z * z), index * np.pi * (3 - np.sqrt(5))
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)


def cosine_directions(normals: np.ndarray, count: int) -> np.ndarray:
    """(N, count, 3) unit vectors about each normal, denser towards it as Lambert's law weighs them."""
    directions = normals[:, None] + 0.999 * sphere_directions(count)
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def cone_directions(axis: np.ndarray, spread: float, count: int) -> np.ndarray:
    """(count, 3) unit vectors about a light's direction; spread (unitless, tangent) makes its shadow soft."""
    directions = axis / np.linalg.norm(axis) + spread * sphere_directions(count)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def pixel_rays(camera: CameraModel, pixels: np.ndarray) -> np.ndarray:
    """Ray directions (N, 3) with z = 1 through pixels (N, 2)."""
    plane = camera.normalise(pixels)
    return np.concatenate([plane, np.ones((len(plane), 1))], axis=1)


def box_pixels(box: tuple[int, int, int, int]) -> np.ndarray:
    """(N, 2) float64: the pixels x, y of a box x0, y0, x1, y1 (end left out), row by row."""
    x, y = np.meshgrid(np.arange(box[0], box[2]), np.arange(box[1], box[3]))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)


def subpixel_offsets(supersample: int) -> np.ndarray:
    """(supersample**2, 2) px: the places inside a pixel whose colours are averaged."""
    steps = (np.arange(supersample) + 0.5) / supersample - 0.5
    return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)


def covered_box(meshes: Sequence[RenderMesh], camera: CameraModel, margin: int = 2) -> tuple[int, int, int, int]:
    """Pixels x0, y0, x1, y1 (end left out) outside of which no mesh is seen; the whole image where that is unsure."""
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    whole = (0, 0, camera.width, camera.height)
    if camera.is_distorted or vertices[:, 2].min() < 1e-3:
        return whole
    pixels = camera.project(vertices)
    size = np.array([camera.width, camera.height])
    low = np.clip(np.floor(pixels.min(axis=0)) - margin, 0, size).astype(int)
    high = np.clip(np.ceil(pixels.max(axis=0)) + margin + 1, 0, size).astype(int)
    return int(low[0]), int(low[1]), int(max(high[0], low[0])), int(max(high[1], low[1]))


def interpolate(hits: SurfaceHits, meshes: Sequence[RenderMesh], values: Sequence[np.ndarray]) -> np.ndarray:
    """Values that are given per vertex, at the hits.

    Args:
        values: for each mesh (V, C).

    Returns:
        (N, C), zero where nothing was hit.
    """
    result = np.zeros((len(hits.mesh), values[0].shape[1]))
    for index, (mesh, value) in enumerate(zip(meshes, values, strict=True)):
        rows = np.flatnonzero(hits.mesh == index)
        corners = value[mesh.faces[hits.triangle[rows]]]
        result[rows] = np.einsum("nk,nkc->nc", hits.weights[rows], corners)
    return result


def shading_normals(hits: SurfaceHits, meshes: Sequence[RenderMesh], directions: np.ndarray) -> np.ndarray:
    """(N, 3) unit normals at the hits, turned towards the camera; zero where nothing was hit."""
    normals = interpolate(hits, meshes, [mesh.normals for mesh in meshes])
    for index, mesh in enumerate(meshes):
        if not mesh.smooth:
            rows = np.flatnonzero(hits.mesh == index)
            corners = mesh.vertices[mesh.faces[hits.triangle[rows]]]
            normals[rows] = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return np.where(np.einsum("nc,nc->n", normals, directions)[:, None] > 0, -normals, normals)


def visible_vertices(hits: SurfaceHits, meshes: Sequence[RenderMesh]) -> list[np.ndarray]:
    """For each mesh the indices of the vertices of the triangles that were hit."""
    return [
        np.unique(mesh.faces[np.unique(hits.triangle[hits.mesh == index])].reshape(-1))
        for index, mesh in enumerate(meshes)
    ]


def vertex_light(
    scene: RayScene,
    needed: Sequence[np.ndarray],
    light: np.ndarray,
    reach: float = 0.07,
    ambient_rays: int = AMBIENT_RAYS,
    shadow_rays: int = SHADOW_RAYS,
) -> list[np.ndarray]:
    """Ambient and key light that reach the vertices.

    Per vertex and not per pixel: a tenth of the rays, and no noise that flickers from frame to frame.

    Args:
        needed: for each mesh the vertices to compute, as `visible_vertices` gives them; others get 1.
        light: (3,), towards the key light. reach: m, how far a surface darkens another.

    Returns:
        for each mesh (V, 2) in [0, 1]: openness to the surroundings, share of the key light that is seen.
    """
    result = []
    cone = cone_directions(light, 0.22, shadow_rays)
    for mesh, rows in zip(scene.meshes, needed, strict=True):
        values = np.ones((len(mesh.vertices), 2))
        normals = mesh.normals[rows]
        points = mesh.vertices[rows]
        values[rows, 0] = scene.open_share(points, normals, cosine_directions(normals, ambient_rays), reach)
        lit = normals @ light > -0.35 * np.linalg.norm(light)
        values[rows, 1] = 0.0
        values[rows[lit], 1] = scene.open_share(points[lit], normals[lit], cone, 1e3)
        result.append(values)
    return result


Shader = Callable[[SurfaceHits, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Colours (N, 3) of hits, given look (N, 5) = colour, openness and share of the key light, normals and rays (N, 3)."""


def draw_meshes(
    scene: RayScene,
    camera: CameraModel,
    canvas: np.ndarray,
    light: np.ndarray,
    shader: Shader,
    supersample: int,
    ambient_rays: int = AMBIENT_RAYS,
    shadow_rays: int = SHADOW_RAYS,
) -> tuple[np.ndarray, SurfaceHits]:
    """Draw a scene over an image; outlines are smoothed by more rays, the inside of surfaces gets one per pixel.

    Args:
        canvas: (H, W, 3) float64, is drawn upon.
        light: (3,) unit, towards the key light.
        supersample: edge of the grid of rays in a pixel on an outline.
        ambient_rays, shadow_rays: for each vertex that is seen; fewer are faster and less smooth.

    Returns:
        pixels (N, 2) int64, x and y, in which a mesh covers the pixel's centre, and the hits there.
    """
    meshes = scene.meshes
    x0, y0, x1, y1 = covered_box(meshes, camera)
    pixels = box_pixels((x0, y0, x1, y1))
    rays = pixel_rays(camera, pixels)
    center = scene.cast(rays)
    outline = np.flatnonzero(_outlines(center, (y1 - y0, x1 - x0)))
    offsets = subpixel_offsets(supersample)
    fine_rays = pixel_rays(camera, (pixels[outline, None] + offsets).reshape(-1, 2))
    fine = scene.cast(fine_rays)
    seen = visible_vertices(join_hits([center, fine]), meshes)
    lights = vertex_light(scene, seen, light, ambient_rays=ambient_rays, shadow_rays=shadow_rays)
    values = [np.concatenate([mesh.colors, value], axis=1) for mesh, value in zip(meshes, lights, strict=True)]

    def shade(hits: SurfaceHits, directions: np.ndarray, under: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(hits.mesh >= 0)
        some = hits.take(rows)
        normals = shading_normals(some, meshes, directions[rows])
        under[rows] = shader(some, interpolate(some, meshes, values), normals, directions[rows])
        return under

    patch = canvas[y0:y1, x0:x1].reshape(-1, 3)
    smooth = shade(fine, fine_rays, np.repeat(patch[outline], len(offsets), axis=0))
    patch = shade(center, rays, patch.copy())
    patch[outline] = smooth.reshape(len(outline), len(offsets), 3).mean(axis=1)
    canvas[y0:y1, x0:x1] = patch.reshape(y1 - y0, x1 - x0, 3)
    covered = np.flatnonzero(center.mesh >= 0)
    return pixels[covered].astype(np.int64), center.take(covered)


def _outlines(hits: SurfaceHits, shape: tuple[int, int]) -> np.ndarray:
    """(H * W,) bool: pixels next to another mesh or to a step in depth."""
    if not len(hits.mesh):
        return np.zeros(0, bool)
    kernel = np.ones((3, 3), np.uint8)
    depth = np.where(np.isfinite(hits.depth), hits.depth, 0.0).reshape(shape)
    mesh = (hits.mesh + 1).astype(np.float64).reshape(shape)
    step = cv2.dilate(depth, kernel) - cv2.erode(depth, kernel) > OUTLINE_STEP
    return (step | (cv2.dilate(mesh, kernel) != cv2.erode(mesh, kernel))).ravel()


def render_meshes(
    meshes: Sequence[RenderMesh],
    camera: CameraModel,
    background: np.ndarray | tuple[float, float, float] = (1.0, 1.0, 1.0),
    light: tuple[float, float, float] = DEFAULT_LIGHT,
    supersample: int = 3,
    threads: int = 0,
) -> RenderedImage:
    """A picture of meshes with ambient occlusion and one soft light.

    Args:
        meshes: in the camera's frame.
        camera: distortion is honoured.
        background: a colour in [0, 1], or an image (H, W, 3) uint8.
        light: towards the key light, camera axes.
        supersample: edge of the grid of rays in a pixel on an outline.
        threads: of the ray caster, 0 = all cores.

    Raises:
        InputError: no mesh, or a background of another size. MissingDependencyError: Open3D is not installed.
    """
    key = np.asarray(light, np.float64) / np.linalg.norm(light)

    def shader(_: SurfaceHits, look: np.ndarray, normals: np.ndarray, __: np.ndarray) -> np.ndarray:
        diffuse = np.clip(normals @ key, 0, 1) * (0.25 + 0.75 * look[:, 4])
        return look[:, :3] * ((0.47 - 0.11 * normals[:, 1]) * look[:, 3] + 0.70 * diffuse)[:, None]

    canvas = _background_image(background, camera)
    pixels, hits = draw_meshes(RayScene(meshes, threads), camera, canvas, key, shader, supersample)
    depth = np.zeros((camera.height, camera.width), np.float32)
    ids = np.full((camera.height, camera.width), -1, np.int16)
    depth[pixels[:, 1], pixels[:, 0]] = hits.depth
    ids[pixels[:, 1], pixels[:, 0]] = hits.mesh
    return RenderedImage(to_uint8(canvas), depth, ids)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """An image of values in [0, 1] as bytes, values outside clipped."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def join_hits(parts: Sequence[SurfaceHits]) -> SurfaceHits:
    """Hits of several casts one after the other."""
    return SurfaceHits(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("mesh", "depth", "triangle", "weights"))
    )


def _background_image(background: np.ndarray | tuple[float, float, float], camera: CameraModel) -> np.ndarray:
    values = np.asarray(background)
    if values.shape == (3,):
        return np.broadcast_to(values.astype(np.float64), (camera.height, camera.width, 3)).copy()
    if values.shape != (camera.height, camera.width, 3) or values.dtype != np.uint8:
        raise InputError(
            f"background: expected a colour or uint8 {(camera.height, camera.width, 3)}, "
            f"got {values.dtype} {values.shape}"
        )
    return values.astype(np.float64) / 255


def contact_sheet(images: Sequence[np.ndarray], columns: int, scale: float = 1.0) -> np.ndarray:
    """Images of one size (H, W, 3) uint8 side by side, row by row; missing ones are black."""
    if not images:
        raise InputError("a contact sheet needs at least one image, got none")
    rows = -(-len(images) // columns)
    tiles = [*images, *[np.zeros_like(images[0])] * (rows * columns - len(images))]
    small = [cv2.resize(tile, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for tile in tiles]
    return np.vstack([np.hstack(small[row * columns : (row + 1) * columns]) for row in range(rows)])
