"""The kinds of grasps."""

from __future__ import annotations

from typing import Literal, get_args

GraspKind = Literal["power", "precision", "tripod", "pinch", "lateral"]
"""The whole hand around it; thumb against three or four finger pads; against two; against one; against the index
finger's side."""
KINDS: tuple[GraspKind, ...] = get_args(GraspKind)
