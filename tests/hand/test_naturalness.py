"""Unnaturalness of hands made up to be impossible, one rule at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.naturalness import NAMES, TERMS, Rules, is_natural, unnaturalness, violations

FREEDOM = DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(load_hand_model("right", OPEN_HAND_FILE)))
FINGERS = ("index", "middle", "ring", "little")


def hand(**degrees):
    return torch.from_numpy(FREEDOM.values(**degrees))[None]


def all_fingers(bends, **more):
    return hand(**{f"{finger}_bend_{k}": bends[k] for finger in FINGERS for k in range(3)}, **more)


BAD = {
    "claw": all_fingers((-5, 95, 60)),
    "tip_hooked": all_fingers((20, 0, 50)),
    "tip_straight": all_fingers((60, 95, 0)),
    "hyperextended": all_fingers((0, -30, -30)),
    "apart": hand(middle_bend_0=80),
    "crossing": hand(index_spread=13, middle_spread=-13),
    "splayed": hand(index_spread=-14, middle_spread=14),
    "spread": all_fingers((85, 60, 40), index_spread=14, middle_spread=14, ring_spread=14, little_spread=14),
    "twist": hand(thumb_twist=-45, thumb_bend_0=-5, thumb_spread=17),
    "limits": hand(thumb_bend_1=90),
}


def test_names_and_limits_are_those_of_the_degrees_of_freedom():
    assert FREEDOM.names == NAMES
    beyond = violations(torch.from_numpy(np.stack([FREEDOM.low, FREEDOM.high])))["limits"]
    assert beyond.max() < 1e-12
    beyond = violations(torch.from_numpy(np.stack([FREEDOM.low, FREEDOM.high]) + [[-0.1], [0.2]]))["limits"]
    np.testing.assert_allclose(beyond, [[0.1] * 21, [0.2] * 21], atol=1e-12)


@pytest.mark.parametrize("term", TERMS)
def test_made_up_hands_break_the_rule_they_are_made_for(term):
    found = {name: value.max().item() for name, value in violations(BAD[term]).items()}
    assert found[term] > np.deg2rad(5)
    assert unnaturalness(BAD[term]).item() > 0.6
    assert not is_natural(BAD[term]).any()
    without = unnaturalness(BAD[term], rules=Rules(weights={term: 0.0}))
    assert without < unnaturalness(BAD[term])


def test_natural_hands_cost_nothing():
    hands = torch.cat(
        [
            hand(),
            all_fingers((30, 45, 30)),
            all_fingers((80, 95, 63), thumb_bend_0=25, thumb_spread=-40, thumb_twist=-25),
            all_fingers((60, 10, 5)),
            hand(index_spread=-8, middle_spread=0, ring_spread=5, little_spread=12),
        ]
    )
    assert unnaturalness(hands).max() == 0
    assert is_natural(hands, tolerance=0.0).all()


def test_one_violation_of_ten_degrees_counts_one():
    tip = 12 + 10
    assert unnaturalness(hand(index_bend_2=tip)).item() == pytest.approx(1.0)
    doubled = Rules(weights={"tip_hooked": 2.0})
    assert unnaturalness(hand(index_bend_2=tip), rules=doubled).item() == pytest.approx(2.0)


def test_fingers_that_hold_may_differ_from_those_that_rest():
    pinch = hand(index_bend_0=70, middle_bend_0=10)
    listed = unnaturalness(pinch.repeat(3, 1), ["pinch", None, "tripod"])
    assert listed[0] == 0
    assert listed[1] > 5
    assert listed[1] == listed[2]
    torch.testing.assert_close(unnaturalness(pinch, "lateral"), listed[:1])
    assert unnaturalness(hand(index_bend_0=70, middle_bend_0=70), "tripod").item() == 0


def test_derivatives_are_finite_differences():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 21, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: unnaturalness(q, ["power", "pinch", None]), values)


def test_nan_is_not_natural():
    assert not is_natural(torch.full((1, 21), torch.nan)).any()


def test_bad_input_is_refused():
    with pytest.raises(InputError, match=r"\(B, 21\)"):
        unnaturalness(torch.zeros(2, 20))
    with pytest.raises(InputError, match="expected 2 kinds"):
        unnaturalness(torch.zeros(2, 21), ["power"])
    with pytest.raises(InputError, match="no kind hook"):
        unnaturalness(torch.zeros(2, 21), "hook")
    with pytest.raises(InputError, match="no rules claws"):
        unnaturalness(torch.zeros(2, 21), rules=Rules(weights={"claws": 1.0}))
