"""HOMan's rule for the parts of recordings that can be reconstructed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grasp_nodes.perception.usable_parts import UsablePart, usable_parts


def test_more_than_twenty_frames_of_both_are_needed() -> None:
    assert usable_parts({1: range(21)}, {7: range(30)}) == [UsablePart(0, 21, (1,), 7)]
    assert usable_parts({1: range(20)}, {7: range(30)}) == []
    assert usable_parts({1: range(31)}, {7: range(10, 60)}) == [UsablePart(10, 31, (1,), 7)]
    assert usable_parts({1: range(25)}, {7: range(20, 60)}) == [], "long enough each, not together"


def test_the_manipulated_object_is_the_longest_track() -> None:
    parts = usable_parts({1: range(80)}, {3: range(30), 4: range(20, 70), 5: range(25)})
    assert parts == [UsablePart(20, 70, (1,), 4)]


def test_short_gaps_do_not_end_a_track_and_long_ones_do() -> None:
    rows = [i for i in range(90) if not 30 <= i < 35 and not 60 <= i < 75]
    parts = usable_parts({1: rows}, {7: range(90)})
    assert [(part.start, part.stop) for part in parts] == [(0, 60)]
    assert usable_parts({1: rows}, {7: range(90)}, max_missed=2)[0] == UsablePart(0, 30, (1,), 7)


def test_two_hands() -> None:
    assert usable_parts({1: range(60), 2: range(5, 15)}, {7: range(60)}) == [UsablePart(0, 60, (1,), 7)]
    both = usable_parts({"left": range(60), "right": range(60)}, {7: range(60)})
    assert both == [UsablePart(0, 60, ("left", "right"), 7)]
    assert usable_parts({1: range(30), 2: range(30, 60)}, {7: range(60)}) == [UsablePart(0, 60, (), 7)]


@pytest.mark.parametrize(("hands", "objects"), [({}, {}), ({1: range(40)}, {}), ({}, {7: range(40)})])
def test_without_hand_or_object_nothing_is_usable(hands: dict[int, range], objects: dict[int, range]) -> None:
    assert usable_parts(hands, objects) == []


@given(st.lists(st.booleans(), max_size=60), st.lists(st.booleans(), max_size=60), st.integers(0, 3), st.integers(0, 6))
def test_one_hand_and_one_object_as_counted_by_hand(
    hand: list[bool], thing: list[bool], max_missed: int, min_frames: int
) -> None:
    """Beside a frame by frame count of both bridged tracks."""

    def bridged(seen: list[bool]) -> list[bool]:
        rows = [i for i, one in enumerate(seen) if one]
        close = [(a, b) for a in rows for b in rows if 0 <= b - a <= max_missed + 1]
        return [any(a <= i <= b for a, b in close) for i in range(len(seen))]

    length = max(len(hand), len(thing))
    both = [
        a and b
        for a, b in zip(
            bridged(hand + [False] * (length - len(hand))),
            bridged(thing + [False] * (length - len(thing))),
            strict=True,
        )
    ]
    expected, start = [], None
    for frame, good in enumerate([*both, False]):
        if good and start is None:
            start = frame
        elif not good and start is not None:
            if frame - start > min_frames:
                expected.append((start, frame))
            start = None
    found = usable_parts(
        {"h": [i for i, seen in enumerate(hand) if seen]},
        {"o": [i for i, seen in enumerate(thing) if seen]},
        max_missed,
        min_frames,
    )
    assert [(part.start, part.stop) for part in found] == expected
