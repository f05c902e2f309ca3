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
def test_any_order_of_arrival_pairs_only_what_belongs_together(order, data):
    pairing, dropped = make()
    groups = []
    for topic, index in order:
        jitter = data.draw(st.integers(-4, 4)) * MS if topic != "color" else 0
        pairing.add(topic, 1000 * MS + 33 * MS * index + jitter, (topic, index))
        groups += pairing.take(["info", "depth"])
    assert all(group[topic] == (topic, group["color"][1]) for group in groups for topic in ("info", "depth"))
    stamps = [group["stamp"] for group in groups]
    assert stamps == sorted(set(stamps))
    assert len(groups) + sum(dropped.values()) + pairing.waiting("color") == 5, "every image is accounted for"


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


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_recording_that_starts_again_pairs_every_frame_of_both_passes(data):
    """Each topic keeps its own order and restarts; the topics interleave as they like."""
    pairing, _ = make()
    stamps = [1000 * MS + 33 * MS * index for index in range(4)] + [900 * MS + 33 * MS * index for index in range(4)]
    queues = {topic: [(place, stamp) for place, stamp in enumerate(stamps)] for topic in ("info", "depth", "color")}
    last, groups = None, []
    while any(queues.values()):
        # The leader comes last of its frame, as cameras send it; the others may run ahead by any number.
        ready = [topic for topic in ("info", "depth") if queues[topic]]
        leading = queues["color"] and all(
            not queues[topic] or queues[topic][0][0] > queues["color"][0][0] for topic in ("info", "depth")
        )
        topic = data.draw(st.sampled_from(ready + (["color"] if leading else [])))
        place, stamp = queues[topic].pop(0)
        if topic == "color":
            if last is not None and stamp < last:
                pairing.rewind(stamp)
            last = stamp
        pairing.add(topic, stamp, place)
        groups += pairing.take(["info", "depth"])
    assert [(group["color"], group["info"], group["depth"]) for group in groups] == [(place,) * 3 for place in range(8)]


def test_one_stray_stamp_does_not_stop_the_pairing():
    pairing, _ = make()
    pairing.add("info", 10**18, "from the future")
    groups = []
    for index in range(1, 4):
        pairing.add("info", index * 100 * MS, index)
        pairing.add("color", index * 100 * MS, index)
        groups += pairing.take(["info"])
    assert [(group["color"], group["info"]) for group in groups] == [(1, 1), (2, 2), (3, 3)]
