"""The variants of the reconstruction: HOMan's ablations (table 1, figure 4), and the numbers that it published.

All ablations are of colour alone, as the paper's. Its numbers were measured on other data (HO-3D, Core50) and are
quoted beside ours for the order of things, never as a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.homan.joint_fit import JointFitSettings
from grasp_nodes.fitting.homan.settings import PAPER_HOMAN
from grasp_nodes.fitting.reconstruction import ReconstructionSettings

Evidence = Literal["own, depth", "own", "true boxes", "true masks"]
"""Where hands and object come from in the images; all but the first are colour alone."""


class TableOne(NamedTuple):
    """A row of HOMan's table 1, on HO-3D: hand and object in cm, penetration in mm, contact in %."""

    hand: float
    hand_aligned: float
    object_vertex: float
    object_add_s: float
    penetration: float
    contact: float


@dataclass(frozen=True)
class Variant:
    """One way to reconstruct. meaning: for people. joint: of the joint fit. off: weights of it that are zero."""

    name: str
    meaning: str
    evidence: Evidence = "own"
    independent: bool = False
    joint: JointFitSettings = field(default_factory=JointFitSettings)
    off: tuple[str, ...] = ()
    paper: TableOne | None = None
    paper_note: str = ""

    @property
    def use_depth(self) -> bool:
        """Whether depth is looked at."""
        return self.evidence == "own, depth"

    def settings(self, seed: int, frames: int) -> ReconstructionSettings:
        """How clips are reconstructed; a whole clip of up to `frames` frames is one window."""
        weights: dict[str, float] = dict.fromkeys(self.off, 0.0)
        joint: JointFitSettings = replace(self.joint, **weights)  # type: ignore[arg-type]
        window = max(min(frames, ReconstructionSettings().window), 1)
        overlap = min(ReconstructionSettings().overlap, (window - 1) // 2)
        return ReconstructionSettings(
            window, overlap, use_depth=self.use_depth, independent=self.independent, joint=joint, seed=seed
        )


VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("rgbd", "colour and depth, joint fit", "own, depth"),
        Variant("rgb", "colour alone, joint fit", paper=TableOne(8.6, 5.4, 8.0, 3.8, 2.8, 77.5)),
        Variant(
            "independent",
            "hand and object by themselves",
            independent=True,
            paper=TableOne(26.2, 5.2, 12.1, 7.7, 3.2, 25.8),
        ),
        Variant(
            "no_local", "without local contact", off=("local", "holding"), paper=TableOne(8.5, 5.4, 8.0, 3.8, 2.4, 72.3)
        ),
        Variant(
            "no_collision", "without collision", off=("collision",), paper=TableOne(8.9, 5.4, 8.0, 3.8, 10.2, 80.5)
        ),
        Variant("no_centroid", "without centroids", off=("centroid",), paper=TableOne(17.1, 5.3, 8.1, 3.8, 1.9, 59.4)),
        Variant("no_smooth", "without smoothness", off=("smooth",), paper=TableOne(11.4, 5.6, 12.8, 8.3, 3.0, 79.1)),
        Variant("gt_boxes", "true boxes", "true boxes", paper_note="figure 4: hand and object 2 cm better"),
        Variant(
            "gt_masks",
            "true boxes and masks; what hides the object told from measured depth and its true pose",
            "true masks",
            paper_note="figure 4: object 2 cm, ADD-S below 1 cm",
        ),
        Variant(
            "paper", "`rgb` with the paper's eight losses, weights and rates alone in the joint fit", joint=PAPER_HOMAN
        ),
    )
}
DEFAULT = ("rgbd", "rgb")
ALL = "all"

CORE50 = {"independent": (7.3, 0.6), "rgb": (89.5, 1.2)}
"""Table 2: contact accuracy (%), penetration depth (mm); on Core50 every frame is in contact."""
TABLE_THREE = (1.47, 0.39, 0.88)
"""Table 3, on HO-3D: Procrustes-aligned mesh error (cm), F@5 mm, F@15 mm."""
TABLE_FOUR = {"seen": (8.0, 4.0), "unseen": (8.1, 3.3)}
"""Table 4, on HO-3D: vertex distance and ADD-S (cm) of objects that the learnt methods had seen, or not."""
DETECTION_AP = {"without": (0.61, 0.59), "with": (0.85, 0.71)}
"""Table A.1, on HO-3D's train split: AP of hands and objects without and with tracking."""
MASK_IOU = {"true boxes": (0.63, 0.74), "own": (0.61, 0.66)}
"""Table A.2, on HO-3D's train split: IoU of hand and object masks by the boxes that they start from."""


def parse_variants(text: str) -> list[Variant]:
    """Names separated by commas, or ``all``.

    Raises:
        InputError: a name that is unknown or given twice, or none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == [ALL]:
        return list(VARIANTS.values())
    unknown = [name for name in names if name not in VARIANTS]
    if unknown or not names:
        raise InputError(f"--variants {text!r}: expected {ALL}, or some of {', '.join(VARIANTS)}, separated by commas")
    if len(set(names)) < len(names):
        raise InputError(f"--variants {text!r}: a variant is named twice")
    return [VARIANTS[name] for name in names]
