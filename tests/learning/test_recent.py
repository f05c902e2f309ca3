"""What is kept, and what goes first."""

from grasp_nodes.learning.recent import Recent


def test_what_was_not_asked_for_since_longest_goes():
    made = []

    def asked(key):
        return kept.of(key, lambda: made.append(key) or key.upper())

    kept: Recent[str, str] = Recent(2)
    assert [asked(key) for key in "aab"] == ["A", "A", "B"]
    assert asked("a") == "A"  # from now on b waits longest
    assert asked("c") == "C"
    assert "".join(made) == "abc"
    assert kept.get("b") is None
    assert kept.get("a") == "A"  # and now c
    kept.put("d", "D")
    assert (kept.get("c"), kept.get("a"), kept.get("d")) == (None, "A", "D")


def test_room_is_made_before():
    """Of two things that are too large together the old one is gone while the new one is made."""
    kept: Recent[int, int] = Recent(1)
    kept.put(0, 10)
    assert kept.of(1, lambda: 11 if kept.get(0) is None else -1) == 11
    kept.put(1, 12)
    assert kept.of(1, lambda: -1) == 12
