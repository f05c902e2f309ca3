"""Tables for people: the overview, the layouts of HOMan's tables with the paper's numbers beside, and breakdowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grasp_nodes.cli.clip_evaluation import variants
from grasp_nodes.cli.clip_evaluation.rows import Row
from grasp_nodes.cli.clip_evaluation.variants import VARIANTS

NONE = "-"
WORST_FRAMES = (
    "Worst first, at most two of a clip. From left to right: the answer and the truth in the same part of the image, "
    "and both from the side. Hand: 21 keypoints, absolute (with the wrists put together); object: ADD-S."
)
PAPER = "paper's number in brackets: other data, for the order of things only"


@dataclass(frozen=True)
class Table:
    """note: what the columns mean, or "". header: of the columns. rows: of cells. long: for files, not terminals."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    long: bool = False


def all_tables(rows: Sequence[Row], groups: Sequence[Row]) -> list[Table]:
    """Those for which there are results."""
    by = {row["variant"]: row for row in rows}
    tables = [overview(rows), table_one(by), table_two(by), table_three(rows), table_four(rows, groups)]
    tables += [table_detection(rows), table_masks(rows)]
    for kind, title in (
        ("view", "By the side of the hand that is seen"),
        ("hidden", "By the share of the hand that is hidden, frame by frame"),
        ("family", "By family of objects"),
        ("clip", "By clip"),
    ):
        tables.append(breakdown(groups, kind, title))
    return [table for table in tables if table.rows]


def overview(rows: Sequence[Row]) -> Table:
    """One line per variant with intervals."""
    header = ["variant", "hand mm", "from wrist mm", "hand vertices mm", "object ADD-S mm", "object mm", "pen. mm"]
    header += ["contact acc.", "found", "object answered", "accel. (true) m/s2", "fps", "frames"]
    lines = []
    for row in rows:
        lengths = [_with_interval(row, key) for key in _LENGTHS]
        accelerations = f"{_text(row['acceleration_m_s2'], 2)} ({_text(row['true_acceleration_m_s2'], 2)})"
        shares = [_text(row[key], 3) for key in ("contact_accuracy", "found_share", "object_answered_share")]
        shares += [accelerations, _text(row["fps"], 2)]
        lines.append([row["variant"], *lengths, *shares, str(row["frames"])])
    note = (
        "Means over the frames in which the hand is visible; hand: 21 keypoints, absolute, and with the wrists put "
        "together. What is not found scores its last answer, or 100 mm. Contact accuracy is balanced, within 5 mm. In "
        "brackets: 95 %, bootstrap over clips."
    )
    return Table("Variants", note, header, lines)


_LENGTHS = (
    *("hand_mpjpe_mm", "hand_root_aligned_mpjpe_mm", "hand_absolute_mm", "object_add_s_mm", "object_vertex_mm"),
    "penetration_mm",
)


def table_one(by: Mapping[str, Row]) -> Table:
    """Ablations, in HOMan's order."""
    header = [
        "",
        "hand cm",
        "aligned mepe cm",
        "object cm",
        "ADD-S cm",
        "pen. mm",
        "contact %",
        "as released cm",
        "true pen. mm",
    ]
    order = [
        "independent",
        "rgb",
        "no_local",
        "no_collision",
        "no_centroid",
        "no_smooth",
        "gt_boxes",
        "gt_masks",
        "rgbd",
        "paper",
    ]
    lines = []
    for name in order:
        row, variant = by.get(name), VARIANTS[name]
        if row is None:
            continue
        paper = variant.paper or (None,) * 6
        ours = [
            *(_centi(row[key]) for key in ("hand_absolute_mm", "hand_mepe_mm", "object_vertex_mm", "object_add_s_mm")),
            _text(row["penetration_mm"], 1),
            _text(row["contact_share"], 1, 100),
        ]
        cells = [text if number is None else f"{text} ({number:g})" for text, number in zip(ours, paper, strict=True)]
        released = [_centi(row["hand_aligned_as_released_mm"]), _text(row["true_penetration_mm"], 1)]
        lines.append([name, *cells, *released])
    note = (
        f"{PAPER} (HO-3D). Hand: mean vertex distance; aligned mepe: keypoints after scale and translation; contact: "
        "frames with a hand vertex inside the object, at touch without penetration none. As released: the aligned hand "
        "error of the paper's code, which does not remove the translation. "
        + "; ".join(f"{one.name}: {one.paper_note}" for one in VARIANTS.values() if one.paper_note and one.name in by)
    )
    return Table("Table 1: contribution of the error terms (colour alone)", note, header, lines)


def table_two(by: Mapping[str, Row]) -> Table:
    """Contact accuracy by HOMan's definition, and penetration."""
    lines = []
    for name, (contact, penetration) in variants.CORE50.items():
        if name in by:
            row = by[name]
            accuracy = f"{_text(row['contact_share_of_touching'], 1, 100)} ({contact:g})"
            deep = f"{_text(row['penetration_mm'], 1)} ({penetration:g})"
            lines.append([name, accuracy, deep, _text(row["contact_accuracy"], 3)])
    note = f"{PAPER} (Core50). Contact accuracy as there: frames in true contact with a hand vertex inside the object."
    return Table("Table 2: interaction", note, ["", "contact accuracy %", "pen. mm", "balanced, 5 mm"], lines)


def table_three(rows: Sequence[Row]) -> Table:
    """The hand after Procrustes alignment."""
    lines = []
    for row in rows:
        ours = [_centi(row["hand_aligned_mm"]), _text(row["f_5mm"], 2), _text(row["f_15mm"], 2)]
        if row["variant"] == "rgb":
            ours = [f"{text} ({paper:g})" for text, paper in zip(ours, variants.TABLE_THREE, strict=True)]
        lines.append([row["variant"], *ours])
    note = (
        f"{PAPER} (HO-3D). Hand vertices after Procrustes alignment. The landmark reader was trained without the "
        "objects of the 20 clips of seed 0 and of the first 12 of seed 1; those of other clips it may have seen."
    )
    return Table("Table 3: aligned hand", note, ["", "mesh error cm", "F@5 mm", "F@15 mm"], lines)


def table_four(rows: Sequence[Row], groups: Sequence[Row]) -> Table:
    """Objects that training may see, and those that it may not."""
    header = [
        "",
        "seen: object cm",
        "unseen: object cm",
        "seen: ADD-S cm",
        "unseen: ADD-S cm",
        "hand mepe cm",
        "aligned cm",
    ]
    lines = []
    for row in rows:
        own = {
            group["group"]: group for group in groups if group["variant"] == row["variant"] and group["by"] == "object"
        }
        cells = []
        for place, key in enumerate(("object_vertex_mm", "object_add_s_mm")):
            for kind in ("seen", "unseen"):
                text = _centi(own[kind][key]) if kind in own else NONE
                paper = f" ({variants.TABLE_FOUR[kind][place]:g})" if row["variant"] == "rgb" else ""
                cells.append(text + paper)
        hand = [_centi(row["hand_mpjpe_mm"]), _centi(row["hand_mepe_mm"])]
        if row["variant"] == "rgb":
            hand = [f"{text} ({paper})" for text, paper in zip(hand, ("8.6", "5.4"), strict=True)]
        lines.append([row["variant"], *cells, *hand])
    note = f"{PAPER} (HO-3D). Unseen: families and seeds that are held out of all training."
    return Table("Table 4: unseen objects", note, header, lines)


def table_detection(rows: Sequence[Row]) -> Table:
    """Average precision of boxes."""
    lines = []
    for row in rows:
        if "with" not in row["detection_ap"].get("hand", {}):
            continue
        for tracking in ("without", "with"):
            values = [row["detection_ap"].get(kind, {}).get(tracking) for kind in ("hand", "object")]
            if all(value is None for value in values):
                continue
            paper = variants.DETECTION_AP[tracking] if row["variant"] == "rgb" else None
            cells = [
                _text(value, 2) + (f" ({paper[k]:g})" if paper is not None else "") for k, value in enumerate(values)
            ]
            lines.append([f"{row['variant']}, {tracking} tracking", *cells])
    note = (
        f"{PAPER} (HO-3D train). Overlap of at least 0.5 with the tight box of all projected vertices, hidden ones "
        "included; hands' boxes made square. Without tracking: every frame looked at as if it were the first."
    )
    return Table("Table A.1: average precision of boxes", note, ["", "hand AP", "object AP"], lines)


def table_masks(rows: Sequence[Row]) -> Table:
    """Overlap of masks."""
    lines = []
    for row in rows:
        if not row["mask_iou"] or row["variant"] == "gt_masks":
            continue
        paper = {"rgb": variants.MASK_IOU["own"], "gt_boxes": variants.MASK_IOU["true boxes"]}.get(row["variant"])
        cells = [_text(row["mask_iou"].get(kind), 2) for kind in ("hand", "object", "arm")]
        if paper is not None:
            cells[:2] = [f"{text} ({number:g})" for text, number in zip(cells[:2], paper, strict=True)]
        lines.append([row["variant"], *cells])
    note = (
        f"{PAPER} (HO-3D train). Of visible pixels; a frame without a mask scores 0. The hand's mask may go on along "
        "the arm: the last column compares it with hand and forearm."
    )
    return Table("Table A.2: overlap of masks", note, ["", "hand IoU", "object IoU", "hand and forearm IoU"], lines)


def breakdown(groups: Sequence[Row], kind: str, title: str) -> Table:
    """Groups as lines, the most important numbers of each variant."""
    header = ["variant", kind, "hand mm", "from wrist mm", "ADD-S mm", "pen. mm", "contact acc.", "found", "frames"]
    lines = []
    for row in groups:
        if row["by"] == kind and row["group"] and row["variant"] in variants.DEFAULT:
            keys = ("hand_mpjpe_mm", "hand_root_aligned_mpjpe_mm", "object_add_s_mm", "penetration_mm")
            shares = [_text(row["contact_accuracy"], 2), _text(row["found_share"], 2), str(row["frames"])]
            lines.append([row["variant"], row["group"], *(_text(row[key], 1) for key in keys), *shares])
    return Table(title, "", header, lines, long=kind in ("family", "clip"))


def markdown_table(table: Table) -> list[str]:
    """Lines of Markdown."""
    return [
        f"## {table.title}",
        "",
        *([table.note, ""] if table.note else []),
        "| " + " | ".join(table.header) + " |",
        "|" + "---|" * len(table.header),
        *("| " + " | ".join(row) + " |" for row in table.rows),
        "",
    ]


def markdown_page(
    tables: Sequence[Table], settings: Mapping[str, Any], failures: Sequence[str], pictures: Sequence[str]
) -> str:
    """The whole report; pictures: names of files beside the page."""
    lines = ["# Reconstructed clips", "", "Written by `grasp-nodes evaluate-clips --markdown FILE`."]
    lines += ["", *(f"- {name}: {value}" for name, value in settings.items()), ""]
    for table in tables:
        lines += markdown_table(table)
    if failures:
        lines += ["## Clips that ended early", "", *(f"- {text}" for text in failures), ""]
    if pictures:
        lines += [
            "## Worst frames",
            "",
            WORST_FRAMES,
        ]
        for name in pictures:
            lines += ["", f"![The worst frames: {Path(name).stem}]({name})"]
        lines += [""]
    return "\n".join(lines)


def _with_interval(row: Row, key: str) -> str:
    text = _text(row[key], 1)
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return text if low is None or high is None else f"{text} ({low:.1f}-{high:.1f})"


def _centi(millimetres: float | None) -> str:
    return _text(millimetres, 2, 0.1)


def _text(value: float | None, digits: int, factor: float = 1.0) -> str:
    return NONE if value is None else f"{factor * value:.{digits}f}"
