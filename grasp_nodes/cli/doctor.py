"""``grasp-nodes doctor``: what is installed, found and missing, and the command that mends it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import typer
from rich.console import Console
from rich.table import Table

from grasp_nodes import __version__
from grasp_nodes.cli.runtime import chosen_runtime
from grasp_nodes.errors import GraspNodesError

State = Literal["ok", "missing", "warning"]

CORE = (
    ("numpy", "numpy"),
    ("scipy", "scipy"),
    ("torch", "torch"),
    ("trimesh", "trimesh"),
    ("cv2", "opencv-python-headless"),
    ("open3d", "open3d"),
    ("manifold3d", "manifold3d"),
    ("numba", "numba"),
    ("rosbags", "rosbags"),
    ("safetensors", "safetensors"),
    ("yaml", "pyyaml"),
)
OPTIONAL = (
    ("ai_edge_litert", "ai-edge-litert", "hands", "hand landmarks from images"),
    ("onnxruntime", "onnxruntime", "onnx", "a segmentation network of yours"),
    ("viser", "viser", "viewer", "the browser page"),
    ("pyrender", "pyrender", "viewer", "pictures through OpenGL"),
    ("mujoco", "mujoco", "sim", "grasps held in simulation"),
    ("pybullet", "pybullet", "sim", "displacement by Hasson's protocol"),
    ("ray", "ray", "scale", "grasps synthesised on several hosts"),
    ("smplx", "smplx", "smplx", "comparison with MANO's own layer (non-commercial licence)"),
)
SYSTEM_LIBRARIES = "apt-get install --no-install-recommends libusb-1.0-0 libgl1 libegl1 libx11-6"
WIDTH = 160
"""Characters of the table where it goes into a file or pipe."""
WANTED_RECEIVE_BUFFER = 4 << 20
"""Bytes. Large images over UDP between machines are lost below it; Cyclone and Fast DDS ask for no more."""


@dataclass(frozen=True)
class Finding:
    """One line of the report. `is_core`: without it nothing works. remedy: a command or what to do, empty when ok."""

    name: str
    state: State
    found: str
    remedy: str = ""
    is_core: bool = False


def report(as_json: bool) -> int:
    """Print all findings, as a table or as one JSON object.

    Returns:
        0, or 1 where something of the core is missing.
    """
    findings = list(examine())
    usable = not any(finding.is_core and finding.state == "missing" for finding in findings)
    if as_json:
        rows = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"version": __version__, "usable": usable, "findings": rows}))
    else:
        _print_table(findings, usable)
    return 0 if usable else 1


def examine() -> Iterator[Finding]:
    """Look at everything, in the order in which a user needs it."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _core_packages,
        _device,
        _own_files,
        _ros,
        _optional_packages,
        _hand_landmark_models,
        _mano_files,
        _machine,
    )
    for check in checks:
        yield from check()


def _print_table(findings: list[Finding], usable: bool) -> None:
    colors = {"ok": "green", "warning": "yellow", "missing": "red"}
    table = Table(title=f"grasp_nodes {__version__}", title_justify="left", box=None, pad_edge=False)
    for heading in ("", "what", "found", "what mends it"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        state = f"[{colors[finding.state]}]{finding.state}[/]"
        # Brackets of a remedy such as grasp_nodes[viewer] are text, not markup.
        table.add_row(state, *(text.replace("[", "\\[") for text in (finding.name, finding.found, finding.remedy)))
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    console.print(table)
    console.print("Everything that the core needs is there." if usable else "[red]The core cannot work.[/]")


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} in {sys.prefix}", is_core=True)


def _core_packages() -> Iterator[Finding]:
    for module, distribution in CORE:
        remedy = f"pip install {distribution}"
        finding = _package(module, distribution, remedy, is_core=True)
        if finding.state == "ok":
            finding = _imported(module, finding, remedy)
        yield finding


def _optional_packages() -> Iterator[Finding]:
    for module, distribution, extra, purpose in OPTIONAL:
        remedy = f"for {purpose}: pip install 'grasp_nodes[{extra}]'"
        if module == "pybullet" and sys.version_info >= (3, 12):
            remedy = f"for {purpose}: Python 3.11 or older, there are no newer wheels"
        yield _package(module, distribution, remedy)


def _package(module: str, distribution: str, remedy: str, is_core: bool = False) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(distribution, "missing", "not installed", remedy, is_core)
    return Finding(distribution, "ok", _version(distribution) or "found", "", is_core)


def _imported(module: str, finding: Finding, remedy: str) -> Finding:
    """Import a package as its users would: one whose system libraries are missing is of no use."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        mend = SYSTEM_LIBRARIES if ".so" in reason else remedy
        return replace(finding, state="missing", found=f"cannot be imported: {reason}", remedy=mend)
    return finding


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError):
        return
    if torch.cuda.is_available():
        yield Finding("cuda", "ok", f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    else:
        yield Finding(
            "cuda", "ok", f"none: computes on the CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
        )


def _own_files() -> Iterator[Finding]:
    from grasp_nodes.paths import cache_dir, share_dir

    try:
        yield Finding("messages and launch files", "ok", str(share_dir()), is_core=True)
    except GraspNodesError as error:
        remedy = "pip install --force-reinstall grasp_nodes"
        yield Finding("messages and launch files", "missing", str(error), remedy, is_core=True)
    try:
        folder = cache_dir()
        free = shutil.disk_usage(folder).free / 1e9
        state: State = "ok" if os.access(folder, os.W_OK) and free > 1 else "warning"
        remedy = "" if state == "ok" else "export GRASP_NODES_CACHE=a folder with 1 GB of room"
        yield Finding("cache folder", state, f"{folder}, {free:.0f} GB free", remedy)
    except (GraspNodesError, OSError) as error:
        yield Finding("cache folder", "warning", str(error), "export GRASP_NODES_CACHE=a folder that can be written")
    yield _open_hand()


def _open_hand() -> Finding:
    try:
        from grasp_nodes.hand.files import load_hand_arrays

        arrays = load_hand_arrays("right")
    except (GraspNodesError, ImportError, OSError) as error:
        remedy = "reinstall, or mend GRASP_NODES_HAND_MODEL"
        return Finding("hand model", "missing", str(error).splitlines()[0], remedy, is_core=True)
    return Finding("hand model", "ok", f"{arrays.model_id}, fingerprint {arrays.fingerprint[:12]}", is_core=True)


def _ros() -> Iterator[Finding]:
    distro = os.environ.get("ROS_DISTRO", "")
    cyclone = _package("cyclonedds", "cyclonedds", "for nodes without ROS 2: pip install 'grasp_nodes[embedded]'")
    try:
        runtime = chosen_runtime()
    except GraspNodesError as error:
        yield Finding("ROS 2", "missing", str(error), "source the ROS 2 installation, or unset GRASP_NODES_ROS")
        runtime = "embedded"
    else:
        if runtime == "real":
            middleware = os.environ.get("RMW_IMPLEMENTATION") or "the default middleware"
            yield Finding("ROS 2", "ok", f"installed, {distro or 'unknown distribution'}, {middleware}")
            yield _installed_messages()
        elif cyclone.state == "ok":
            note = f" (ROS_DISTRO={distro}, but rclpy cannot be imported by this Python)" if distro else ""
            yield Finding("ROS 2", "ok", f"embedded runtime over Cyclone DDS{note}")
        else:
            yield Finding("ROS 2", "missing", "neither installed nor embedded", cyclone.remedy)
    if runtime == "embedded" or cyclone.state == "ok":
        yield cyclone
    yield Finding("ROS_DOMAIN_ID", "ok", os.environ.get("ROS_DOMAIN_ID") or "0 (not set)")
    if os.environ.get("CYCLONEDDS_URI"):
        yield Finding("CYCLONEDDS_URI", "ok", os.environ["CYCLONEDDS_URI"])


def _installed_messages() -> Finding:
    if importlib.util.find_spec("grasp_msgs") is not None:
        return Finding("grasp_msgs", "ok", "built")
    remedy = "cd ros2_ws && colcon build && source install/setup.bash"
    return Finding("grasp_msgs", "missing", "not built for this ROS 2", remedy)


def _hand_landmark_models() -> Iterator[Finding]:
    name, remedy = "hand-landmark models", "make models (needs a network once)"
    try:
        from grasp_nodes.perception.model_files import find_hand_models, sha256_of

        models = find_hand_models()
    except ImportError as error:
        yield Finding(name, "missing", f"cannot be examined: {error}", remedy)
    except GraspNodesError as error:
        yield Finding(name, "warning", str(error), "delete the file, then make models")
    else:
        if models is None:
            yield Finding(name, "missing", "not in the cache", remedy)
        else:
            hashes = ", ".join(f"{path.stem} {sha256_of(path)[:8]}" for path in (models.palm, models.landmark))
            yield Finding(name, "ok", hashes)


def _mano_files() -> Iterator[Finding]:
    name = "MANO files"
    place = os.environ.get("GRASP_NODES_HAND_MODEL")
    if not place:
        remedy = "only for MANO itself: register at mano.is.tue.mpg.de, then export GRASP_NODES_HAND_MODEL=their folder"
        yield Finding(name, "ok", "not named: the open hand is used", remedy)
    elif Path(place).exists():
        yield Finding(name, "ok", place)
    else:
        yield Finding(
            name, "missing", f"GRASP_NODES_HAND_MODEL={place} does not exist", "put the files there, or unset it"
        )


def _machine() -> Iterator[Finding]:
    path = Path("/proc/sys/net/core/rmem_max")
    if not path.is_file():
        return
    size = int(path.read_text())
    if size >= WANTED_RECEIVE_BUFFER:
        yield Finding("receive buffer", "ok", f"{size >> 10} KiB")
    else:
        remedy = f"for images from other machines: sudo sysctl -w net.core.rmem_max={2 * WANTED_RECEIVE_BUFFER}"
        yield Finding("receive buffer", "warning", f"{size >> 10} KiB", remedy)
