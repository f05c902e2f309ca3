"""Translates every message and service with Debian's rosidl, generates C for it, and lets gcc read the result.

`rosidl` alone accepts a field whose type does not exist, so the standard messages that ours refer to are generated too
(from the definitions that rosbags carries) and the compiler resolves every one of them.

Usage: python .ci/check_messages.py (needs rosidl, gcc, and an environment with rosbags)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "grasp_msgs"
INCLUDES = (
    Path("/usr/include/rosidl_runtime_c"),
    Path("/usr/include/rosidl_typesupport_interface"),
    Path("/usr/include/rcutils"),
)
# Debian's rosidl belongs to Debian's Python, not to the one of an active environment.
SYSTEM = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": "", "AMENT_PREFIX_PATH": "/usr"}


def run(command: list[str], folder: Path) -> None:
    """Run one system command; its failure ends this program with what it said."""
    done = subprocess.run(command, cwd=folder, env=SYSTEM, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed in {folder}: {' '.join(command)}\n{done.stdout}{done.stderr}")


def standard_types(definitions: list[Path]) -> dict[str, str]:
    """Definition of every message of another package that ours refer to, directly or not.

    Args:
        definitions: our .msg and .srv files.

    Returns:
        `package/msg/Name` to the text of that message alone.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    found: dict[str, str] = {}
    waiting: set[str] = set()
    for path in definitions:
        for half in path.read_text().split("\n---\n"):
            for _, fields in get_types_from_msg(half, f"{PACKAGE}/msg/{path.stem}").values():
                waiting |= {name for _, field in fields if (name := named_type(field))}
    while waiting:
        name = waiting.pop()
        if name in found or name.startswith(f"{PACKAGE}/"):
            continue
        found[name] = own_definition(store, name)
        waiting |= {inner for _, field in store.fielddefs[name][1] if (inner := named_type(field))}
    return found


def named_type(field: Any) -> str | None:
    """Message type in a rosbags field description, None for a number or string; arrays nest one."""
    kind, content = field
    if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return named_type(content[0])
    return str(content) if kind == Nodetype.NAME else None


def own_definition(store: Typestore, name: str) -> str:
    """Text of one standard message, without those that it refers to."""
    text, _ = store.generate_msgdef(name, ros_version=2)
    return text.split("=" * 80)[0]


def main() -> None:
    """Translate, generate and compile."""
    definitions = sorted(ROOT.glob("msg/*.msg")) + sorted(ROOT.glob("srv/*.srv"))
    with tempfile.TemporaryDirectory(prefix="grasp_msgs_") as name:
        work, out = Path(name, "definitions"), Path(name, "out")
        packages: dict[str, list[str]] = {PACKAGE: []}
        for path in definitions:
            relative = f"{path.parent.name}/{path.name}"
            (work / PACKAGE / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, work / PACKAGE / relative)
            packages[PACKAGE].append(relative)
        for full_name, text in standard_types(definitions).items():
            package, _, message = full_name.split("/")
            target = work / package / "msg" / f"{message}.msg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            packages.setdefault(package, []).append(f"msg/{message}.msg")

        run(["rosidl", "translate", "-o", str(out / "idl"), "--to", "idl", PACKAGE, *packages[PACKAGE]], work / PACKAGE)
        for package, files in packages.items():
            run(["rosidl", "generate", "-o", str(out / package), "--type", "c", package, *files], work / package)
        cpp = ["--type", "cpp", PACKAGE, *packages[PACKAGE]]
        run(["rosidl", "generate", "-o", str(Path(name, "cpp", PACKAGE)), *cpp], work / PACKAGE)

        sources = sorted((out / PACKAGE).rglob("*__functions.c"))
        if len(sources) != len(definitions):
            sys.exit(f"rosidl generated C for {len(sources)} of {len(definitions)} definitions of {PACKAGE}")
        include = [f"-I{folder}" for folder in (out, *INCLUDES)]
        run(["gcc", "-std=c11", "-fsyntax-only", "-Wall", "-Werror", *include, *map(str, sources)], out)
        others = ", ".join(f"{name} ({len(files)})" for name, files in packages.items() if name != PACKAGE)
        print(f"{len(definitions)} definitions of {PACKAGE} translated and compiled, with {others}")


if __name__ == "__main__":
    main()
