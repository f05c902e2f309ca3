"""Robot hands by name: ours, which travels with the package, and those whose descriptions are in a public wheel.

Descriptions are their makers'; none but the generic hand is shipped. ``grasp-nodes hands fetch`` takes one out of the
wheel ``mani_skill`` 3.0.1, which is downloaded by pip, checked by its SHA-256 and never installed. Any other hand is
named by the path of its URDF.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.parameters import Side
from grasp_nodes.paths import PACKAGE_DIR, cache_dir
from grasp_nodes.perception.model_files import check_sha256, download_wheel
from grasp_nodes.retargeting.robot_hand import RobotHand, load_robot_hand

WHEEL = "mani_skill==3.0.1"
WHEEL_SHA256 = "685de2f03c300b1ede49881a1bf6306ad062082d39c8d3be8b8e85603f32e33a"
WHEEL_ROOT = "mani_skill/assets/robots"
SHIPPED = PACKAGE_DIR / "retargeting" / "hands"
DEFAULT = "generic"
LARGEST_MEMBER = 50_000_000
"""bytes, of one file of a description."""


@dataclass(frozen=True)
class KnownHand:
    """A hand by name. folder: below `WHEEL_ROOT`, empty = shipped. files: URDF of each side below the folder.

    joints: driven ones. licence: of the description.
    """

    name: str
    joints: int
    licence: str
    files: Mapping[Side, str]
    folder: str = ""

    def path(self, side: Side) -> Path:
        """Where its URDF is, or would be once it is fetched."""
        root = SHIPPED if not self.folder else cache_dir("robot_hands") / self.folder
        return root / self.files[side]

    @property
    def is_here(self) -> bool:
        """Whether both sides can be loaded."""
        return all(self.path(side).is_file() for side in self.files)


KNOWN: Mapping[str, KnownHand] = {
    hand.name: hand
    for hand in (
        KnownHand(
            "generic",
            16,
            "Apache-2.0",
            {"right": "generic_right.urdf", "left": "generic_left.urdf"},
        ),
        KnownHand(
            "allegro",
            16,
            "BSD-2-Clause, SimLab",
            {"right": "allegro_hand_right.urdf", "left": "allegro_hand_left.urdf"},
            "allegro",
        ),
        KnownHand(
            "ability",
            6,
            "not stated by the wheel",
            {"right": "ability_hand_right.urdf", "left": "ability_hand_left.urdf"},
            "ability_hand",
        ),
        KnownHand(
            "inspire",
            8,
            "CC BY-NC-SA 4.0: not for commercial use",
            {
                "right": "RH56DFX-2LR/urdf/inspire_hand_right.urdf",
                "left": "RH56DFX-2LR/urdf/inspire_hand_left.urdf",
            },
            "inspire_hand",
        ),
    )
}


def find_robot_hand(name: str, side: Side = "right") -> Path:
    """The URDF of a hand.

    Args:
        name: of a known hand, or the path of a URDF file, whatever its side.

    Raises:
        MissingFileError: it was not fetched yet, or there is no such file; the message says what to do.
    """
    known = KNOWN.get(name)
    path = Path(name).expanduser() if known is None else known.path(side)
    if path.is_file():
        return path
    if known is not None:
        raise MissingFileError(f"robot hand {name!r}: not fetched yet: run 'grasp-nodes hands fetch {name}'")
    raise MissingFileError(
        f"robot hand {name!r}: expected the path of a URDF file or one of {', '.join(KNOWN)}; there is no such file"
    )


def open_robot_hand(name: str, side: Side = "right") -> RobotHand:
    """A hand by name or by the path of its URDF.

    Args:
        side: of a known hand; of a URDF's the way in which its fingers bend tells the side, and it has to be this one.

    Raises:
        MissingFileError: see `find_robot_hand`. InputError: it is no hand, or one of the other side.
    """
    hand = load_robot_hand(find_robot_hand(name, side))
    if hand.side != side:
        raise InputError(
            f"robot hand {name}: its fingers bend as a {hand.side} hand's do, expected a {side} hand; ask for the "
            f"{hand.side} side, or give the other description"
        )
    return hand


def fetch_robot_hand(name: str) -> KnownHand:
    """A hand's description, taken from the user's cache, else out of the wheel that pip downloads.

    Raises:
        InputError: no hand of that name can be fetched, or the wheel is another one.
        MissingFileError: the wheel could not be downloaded.
    """
    known = KNOWN.get(name)
    if known is None:
        raise InputError(f"robot hand {name!r}: expected one of {', '.join(KNOWN)}, or use the path of your URDF")
    if known.is_here:
        return known
    with tempfile.TemporaryDirectory(prefix="grasp_nodes_hands_") as temporary:
        put = f"unpack {WHEEL_ROOT}/{known.folder} of that wheel into {cache_dir('robot_hands')}"
        wheel = download_wheel(WHEEL, Path(temporary), f"robot hand {name!r}", put)
        check_sha256(wheel, WHEEL_SHA256)
        unpack_robot_hand(wheel, known, cache_dir("robot_hands"))
    return known


def unpack_robot_hand(wheel: Path, known: KnownHand, folder: Path) -> None:
    """Take a hand's folder out of a wheel; it appears in `folder` only when it is whole.

    Raises:
        InputError: the wheel is not one, or lacks the description.
    """
    inside = f"{WHEEL_ROOT}/{known.folder}/"
    with tempfile.TemporaryDirectory(prefix=known.folder, dir=folder) as temporary:
        target = Path(temporary) / known.folder
        try:
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.infolist():
                    relative = PurePosixPath(member.filename.removeprefix(inside))
                    if member.is_dir() or not member.filename.startswith(inside) or ".." in relative.parts:
                        continue
                    if member.file_size > LARGEST_MEMBER:
                        raise InputError(f"{wheel.name}: {member.filename} has {member.file_size} bytes")
                    path = target / relative
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(member))
        except zipfile.BadZipFile as error:
            raise InputError(f"{wheel}: not a wheel ({error}); fetch it again") from error
        missing = [file for file in known.files.values() if not (target / file).is_file()]
        if missing:
            raise InputError(f"{wheel.name}: holds no {inside}{missing[0]}; expected the wheel of {WHEEL}")
        shutil.rmtree(folder / known.folder, ignore_errors=True)
        target.rename(folder / known.folder)
