"""Messages are put together by stamp, whatever the order in which they come."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.nodes.frame_pairing import KEPT, StampPairing

MS = 1_000_000


def make(slop=10 * MS):
    dropped = Counter()
    return StampPairing("color", slop, lambda cause: dropped.update([cause])), dropped


@settings(max_examples=60, deadline=None)
@given(st.permutations([(topic, index) for index in range(5) for topic in ("color", "info", "depth")]), st.data())
def test_any_order_of_arrival_pairs_what_belongs_together(order, data):
    pairing, dropped = make()
    groups = []
    for topic, index in order:
        jitter = data.draw(st.integers(-4, 4)) * MS if topic != "color" else 0
        pairing.add(topic, 1000 * MS + 33 * MS * index + jitter, (topic, index))
        groups += pairing.take(["info", "depth"])
    assert all(group[topic] == (topic, group["color"][1]) for group in groups for topic in ("info", "depth"))
    stamps = [group["stamp"] for group in groups]
    assert stamps == sorted(set(stamps))
    assert len(groups) + sum(dropped.values()) == 5


def test_partner_beyond_the_slop_is_no_partner():
    pairing, _ = make(slop=10 * MS)
    pairing.add("color", 100 * MS, "image")
    pairing.add("info", 111 * MS, "late info")
    assert pairing.take(["info"]) == []
    pairing.add("info", 109 * MS, "info")
    assert [group["info"] for group in pairing.take(["info"])] == ["info"]


def test_leader_alone_needs_nobody():
    pairing, _ = make()
    pairing.add("color", 5, "image")
    assert pairing.take([]) == [{"stamp": 5, "color": "image"}]


def test_what_never_finds_a_partner_is_counted_and_forgotten():
    pairing, dropped = make()
    for index in range(KEPT + 3):
        pairing.add("color", index + 1, index)
    assert pairing.waiting("color") == KEPT
    assert dropped["unpaired color"] == 3


def test_older_than_the_last_answer_is_late():
    pairing, dropped = make()
    pairing.add("color", 50, "image")
    pairing.take([])
    pairing.add("color", 40, "older")
    assert pairing.take([]) == []
    assert dropped["late color"] == 1
    pairing.reset()
    pairing.add("color", 40, "older")
    assert len(pairing.take([])) == 1
