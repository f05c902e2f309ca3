"""JSON objects from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grasp_nodes.errors import InputError


def read_json_object(path: Path) -> dict[str, Any]:
    """What a file holds.

    Raises:
        InputError: it cannot be read, is not JSON, or something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
