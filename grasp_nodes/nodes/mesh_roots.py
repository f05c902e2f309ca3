"""Meshes that a message names: which files a node opens for somebody else.

Whoever can publish could otherwise make a node open any file of its user. What the user names as a parameter is not
asked about.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from grasp_nodes.errors import InputError
from grasp_nodes.objects.loading import PRIMITIVES
from grasp_nodes.objects.registry import SPEC_PREFIX
from grasp_nodes.paths import cache_dir, share_dir

LARGEST_MESH = 200_000_000
"""bytes."""
LONGEST_NAME = 4096


def allowed_mesh(resource: str, roots: Sequence[str]) -> str:
    """What `load_object` may be given for a mesh that a message names.

    Args:
        resource: a path, a file URI, or a shape such as ``sphere:0.04`` or ``family:mug:12``.
        roots: folders below which files may be opened; an empty one stands for `default_roots`.

    Returns:
        The shape, or the path with all links followed.

    Raises:
        InputError: another kind of URI, a file outside the roots, or one that is too large. Of a file outside it is not
            told whether it is there.
    """
    if len(resource) > LONGEST_NAME:
        raise InputError(f"mesh_resource: {len(resource)} characters; expected a path")
    kind, separator, _ = resource.partition(":")
    if resource.startswith(SPEC_PREFIX) or (separator and kind in PRIMITIVES):
        return resource
    if "://" in resource:
        parts = urlsplit(resource)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise InputError(f"mesh_resource {resource!r}: expected a path, a file:// URI or a shape")
        resource = unquote(parts.path)
    if "\0" in resource:
        raise InputError(f"mesh_resource {resource!r}: expected a path")
    folders = [
        folder for root in roots for folder in ([Path(root).expanduser().resolve()] if root else default_roots())
    ]
    path = Path(resource).expanduser().resolve()
    if not any(path.is_relative_to(folder) for folder in folders):
        raise InputError(
            f"mesh_resource {resource!r}: a message may only name files below {', '.join(map(str, folders))}; "
            "allow its folder with the parameter mesh_roots, or name the mesh with the parameter object"
        )
    if path.is_file() and path.stat().st_size > LARGEST_MESH:
        raise InputError(
            f"mesh_resource {resource!r}: {path.stat().st_size} bytes, {LARGEST_MESH} are allowed: simplify the mesh"
        )
    return str(path)


def default_roots() -> list[Path]:
    """The user's home, the working folder, the folder for temporary files, and the package's own."""
    return [
        Path(folder).resolve() for folder in (Path.home(), Path.cwd(), tempfile.gettempdir(), cache_dir(), share_dir())
    ]
