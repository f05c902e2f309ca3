"""Fingers that close onto balls and planes, whose distances are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.fitting.grasp_closing import ALL_JOINTS, OUTER_JOINTS, FingerCloser
from grasp_nodes.fitting.grasp_hand import GraspHand, GraspPose
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS
from grasp_nodes.hand.parameters import HandParams

HAND = GraspHand(load_hand_model("right", OPEN_HAND_FILE, torch.float64))
CLOSER = FingerCloser(HAND)
NAMES = HAND.freedom.names
STEPS, SPAN, DEPTH = 41, (0.0, 2.0), 0.001
UNIT = (SPAN[1] - SPAN[0]) / (STEPS - 1)
OWNER = HAND.model.arrays.weights.argmax(axis=1)
SKIN = [
    np.flatnonzero(np.isin(OWNER, FINGER_JOINTS[name][1:] if name == "thumb" else FINGER_JOINTS[name]))
    for name in FINGERS
]
"""Vertices of each finger; the ball of the thumb is palm."""


def plane(height):
    """Everything below y = height is solid; a linear function is exact on any grid."""
    y = torch.tensor([-2.0, 2.0])
    return SignedDistanceGrid((y - height)[None, :, None].expand(2, 2, 2).contiguous(), torch.full((3,), -2.0), 4.0)


def ball(center, radius, half=0.15, nodes=151):
    axis = torch.linspace(-half, half, nodes)
    at = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    grid = (at - torch.as_tensor(center, dtype=torch.float32)).norm(dim=-1) - radius
    return SignedDistanceGrid(grid, torch.full((3,), -half), 2 * half / (nodes - 1))


def flat_hand(count=1, **degrees):
    pose = HAND.pose(HandParams.zeros(count, dtype=torch.float64))
    return pose.with_angles(pose.angles + torch.from_numpy(HAND.freedom.values(**degrees)))


def depths(angles, pose, truth):
    """(B, 5) m: how deep each finger is, positive = inside, by the exact distance `truth` and the hand model alone."""
    with torch.no_grad():
        vertices = HAND.model(HAND.params(pose.with_angles(angles))).vertices.numpy()
    signed = truth(vertices)
    return np.stack([-signed[:, rows].min(axis=1) for rows in SKIN], axis=1)


def close(pose, distance, joints=ALL_JOINTS, **changes):
    arguments = {"span": SPAN, "steps": STEPS, "depth": DEPTH} | changes
    with torch.no_grad():
        return CLOSER.close(pose, distance, CLOSER.directions(joints), **arguments)


def moved_fingers(before, after):
    changed = (after.angles != before.angles).numpy()
    return [
        {name for name in FINGERS if any(changed[row, k] and NAMES[k].startswith(name) for k in range(len(NAMES)))}
        for row in range(len(before))
    ]


BALL = (HAND.pivot.numpy() + [-0.02, -0.035, 0.0], 0.032)


@pytest.mark.parametrize("depth", [0.0, 0.001, 0.004])
@pytest.mark.parametrize("joints", [ALL_JOINTS, OUTER_JOINTS])
def test_fingers_stop_within_a_step_of_touching_and_never_deeper(joints, depth):
    center, radius = BALL
    pose = flat_hand(thumb_spread=-40, thumb_bend_0=5)

    def truth(points):
        return np.linalg.norm(points - center, axis=-1) - radius

    closed = close(pose, ball(center, radius), joints, depth=depth)
    grid_error = 2e-5  # of a ball of 3 cm between nodes 2 mm apart
    found = depths(closed.angles, pose, truth)[0]
    assert found.max() < depth + grid_error
    assert (depths(pose.angles, pose, truth)[0] < depth).all()
    step = UNIT * CLOSER.directions(joints)
    further = torch.minimum(closed.angles + step, HAND.high)
    next_step = depths(further, pose, truth)[0]
    at_end = np.array(
        [
            all(
                step[k] == 0 or closed.angles[0, k] >= min(pose.angles[0, k] + SPAN[1] * step[k] / UNIT, HAND.high[k])
                for k in range(len(NAMES))
                if NAMES[k].startswith(finger)
            )
            for finger in FINGERS
        ]
    )
    assert ((next_step > depth - grid_error) | at_end).all()
    assert (next_step > depth - grid_error).sum() >= (3 if joints == ALL_JOINTS else 2)  # the ball is in reach


def test_each_finger_stops_by_itself():
    """A slope under the fingers: those that are nearer bend less."""
    pose = flat_hand()
    direction = torch.tensor([0.0, 1.0, 0.6], dtype=torch.float32)  # z goes from the little finger to the index
    direction /= direction.norm()
    corner = torch.tensor([-2.0, 2.0])
    at = torch.stack(torch.meshgrid(corner, corner, corner, indexing="ij"), dim=-1)
    slope = SignedDistanceGrid(at @ direction + 0.035, torch.full((3,), -2.0), 4.0)

    def truth(points):
        return points @ direction.double().numpy() + 0.035

    closed = close(pose, slope, steps=81)
    bend = [closed.angles[0, NAMES.index(f"{finger}_bend_0")].item() for finger in FINGERS[1:]]
    found = depths(closed.angles, pose, truth)[0]
    assert found[1:].max() < DEPTH + 1e-6
    assert (found[1:] > DEPTH - 0.004).all()
    assert len(set(bend)) == 4
    # The same fingers alone come to the same place.
    for number, finger in enumerate(FINGERS):
        moving = torch.arange(5) == number
        alone = close(pose, slope, steps=81, moving=moving)
        columns = [k for k, name in enumerate(NAMES) if name.startswith(finger)]
        torch.testing.assert_close(alone.angles[:, columns], closed.angles[:, columns], atol=0, rtol=0)
        assert moved_fingers(pose, alone)[0] <= {finger}


def test_fingers_that_meet_nothing_go_to_the_end_or_stay():
    pose, away = flat_hand(2), plane(-1.0)
    closed = close(pose, away, span=(0.0, 0.5))
    torch.testing.assert_close(closed.angles - pose.angles, 0.5 * CLOSER.directions(ALL_JOINTS).expand(2, -1))
    stayed = close(pose, away, span=(0.0, 0.5), only_to_touch=True)
    torch.testing.assert_close(stayed.angles, pose.angles, atol=0, rtol=0)


def test_directions_bend_the_joints_that_are_named():
    for joints in (ALL_JOINTS, OUTER_JOINTS, (2,)):
        found = {name for name, rate in zip(NAMES, CLOSER.directions(joints), strict=True) if rate != 0}
        assert found == {f"{finger}_bend_{k}" for finger in FINGERS for k in joints}
    rates = CLOSER.directions(ALL_JOINTS)
    assert (rates >= 0).all()
    coupling = rates[NAMES.index("index_bend_2")] / rates[NAMES.index("index_bend_1")]
    assert coupling.item() == pytest.approx(2 / 3, abs=0.01)  # DIP = 2/3 PIP


def test_only_the_fingers_that_may_move_do():
    pose, ground = flat_hand(3), plane(-0.04)
    choice = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)
    assert moved_fingers(pose, close(pose, ground, moving=choice)) == [{"thumb", "index"}, {"little"}, set()]
    everyone = moved_fingers(pose, close(pose, ground, moving=choice[0]))
    assert everyone == [{"thumb", "index"}] * 3
    assert moved_fingers(pose, close(pose, ground)) == [set(FINGERS)] * 3


def test_limits_hold_but_do_not_pull():
    away = plane(-1.0)
    beyond = {"index_bend_1": 115, "index_spread": 30}
    pose = flat_hand(middle_bend_1=90, **beyond)
    closed = close(pose, away)
    angles = {name: np.rad2deg(value.item()) for name, value in zip(NAMES, closed.angles[0], strict=True)}
    high = np.rad2deg(HAND.freedom.high)
    assert angles["middle_bend_1"] == pytest.approx(high[NAMES.index("middle_bend_1")])
    assert angles["index_bend_0"] == pytest.approx(high[NAMES.index("index_bend_0")])
    for name, value in beyond.items():
        assert angles[name] == pytest.approx(value)
    opened = close(pose, away, span=(-3.0, -2.9))
    assert (opened.angles >= torch.minimum(HAND.low, pose.angles) - 1e-12).all()
    assert opened.angles[0, NAMES.index("middle_bend_1")].item() == pytest.approx(
        HAND.freedom.low[NAMES.index("middle_bend_1")]
    )


def test_fingers_open_out_of_what_they_are_in():
    """The ground rises into bent fingers: they open until they are out, and bend no further than they were."""
    pose = flat_hand(**{f"{finger}_bend_0": 60 for finger in FINGERS[1:]})
    ground = plane(-0.03)
    assert (depths(pose.angles, pose, lambda points: points[..., 1] + 0.03)[0, 1:] > 0.01).all()
    opened = close(pose, ground, span=(-1.0, 0.0), steps=101)
    found = depths(opened.angles, pose, lambda points: points[..., 1] + 0.03)[0, 1:]
    assert found.max() < DEPTH + 1e-6
    assert found.min() > 0


def test_fingers_too_deep_at_the_most_open_place_stay():
    pose = flat_hand(index_bend_0=5)
    drowned = close(pose, plane(1.0), span=(-0.4, 0.4))
    torch.testing.assert_close(drowned.angles, pose.angles, atol=0, rtol=0)


def test_a_finger_stops_before_what_it_would_pass_through():
    """Behind a thin wall it would be free again."""
    height = HAND.pivot.numpy()[1] - 0.03
    pose = flat_hand()

    def truth(points):  # a plate of 2 mm below the hand
        return np.abs(points[..., 1] - height) - 0.001

    class Plate:
        def __call__(self, points):
            return torch.from_numpy(truth(points.numpy()))

    moving = torch.tensor([False, True, True, True, True])
    closed = close(pose, Plate(), moving=moving, depth=0.0005, steps=81)
    with torch.no_grad():
        vertices = HAND.model(HAND.params(closed)).vertices[0].numpy()
    lowest = [vertices[rows, 1].min() for rows in SKIN[1:]]
    assert min(lowest) > height
    assert max(lowest) < height + 0.005


def test_a_hand_is_closed_the_same_in_any_company():
    center, radius = BALL
    generator = torch.Generator().manual_seed(0)
    one = flat_hand()
    many = GraspPose.joined([one] * 4)
    many = many.moved(many.angles, *(0.1 * torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)))
    together = close(many, ball(center, radius))
    for row in range(4):
        alone = close(many[row : row + 1], ball(center, radius))
        torch.testing.assert_close(alone.angles[0], together.angles[row])
