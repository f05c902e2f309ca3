"""GeO: its derivatives, its solvers, what it does to grasps, and what it says where it can do nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from grasp_nodes.contact.computation import compute_contact_map
from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.hand_states import hand_states, stack_hands
from grasp_nodes.contact.interaction import HandObjectState, ObjectState
from grasp_nodes.contact.repulsion import RepulsiveSprings
from grasp_nodes.contact.springs import AttractiveSprings
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.geo import adam, newton
from grasp_nodes.fitting.geo.contact_terms import (
    ObManContact,
    SpringContact,
    VanillaContact,
    annotated_springs,
    half_thickness,
    repulsion_of,
)
from grasp_nodes.fitting.geo.curvature import CurvatureOfHands
from grasp_nodes.fitting.geo.energy import GraspingEnergy, GraspShift
from grasp_nodes.fitting.geo.generation import GeoGenerator
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.fitting.geo.result import ENOUGH_STEPS, NO_SPRINGS
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.fitting.geo.state_refiner import NO_CONTACT_MAP, NO_MODEL, NO_REGIONS, GeoStateRefiner
from grasp_nodes.fitting.homan.losses import contact_zones
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel(load_hand_model("right").arrays, torch.float64)


@pytest.fixture(scope="module")
def ball() -> ObjectModel:
    return load_object("sphere:0.03", num_points=600)


def hands_at(model: HandModel, places: list[tuple[float, float, float]], bend: float = 0.3) -> HandParams:
    """Hands with the middle of the palm at these places, fingers a little bent."""
    generator = torch.Generator().manual_seed(0)
    zero = HandParams.zeros(len(places), dtype=torch.float64)
    pose = 0.1 * torch.randn(len(places), 45, generator=generator, dtype=torch.float64)
    pose[:, 2:36:3] += bend
    hands = replace(zero, hand_pose=pose)
    middle = model(hands).keypoints[:, [0, 9]].mean(dim=1)
    return replace(hands, transl=torch.tensor(places, dtype=torch.float64) - middle)


def energy_of(
    model: HandModel, item: ObjectModel, hands: HandParams, settings: GeoSettings, true: HandParams | None = None
) -> GraspingEnergy:
    anchors = anchors_of(model)
    springs = annotated_springs(anchors, model(true or hands).vertices, torch.from_numpy(item.points).double())
    repulsion = RepulsiveSprings(item.points, item.normals, settings.repulsion, settings.length, settings.reach)
    return GraspingEnergy(
        model, hands, item, SpringContact(anchors, springs.collapsed(), repulsion, settings), settings
    )


def near(model: HandModel) -> HandParams:
    return hands_at(model, [(0.0, 0.042, 0.0), (0.005, 0.036, 0.004)])


def shifted(start: GraspShift, size: float = 0.02) -> GraspShift:
    generator = torch.Generator().manual_seed(1)
    return GraspShift(*(part + size * torch.randn(part.shape, generator=generator).double() for part in start))


def flat(at: GraspShift) -> np.ndarray:
    return torch.cat(list(at), dim=1).numpy()


def lifted(values: np.ndarray) -> GraspShift:
    return GraspShift(*torch.from_numpy(np.atleast_2d(values)).split([3, 3, 45, 3, 3], dim=1))


@pytest.mark.parametrize("contact", ["springs", "vanilla", "obman"])
def test_gradient_of_the_whole_energy_is_that_of_finite_differences(
    model: HandModel, ball: ObjectModel, contact: str
) -> None:
    settings = GeoSettings(move_object=True)
    energy = energy_of(model, ball, near(model), settings)
    if contact == "vanilla":
        energy.contact = VanillaContact(anchors_of(model), ball, settings)
    elif contact == "obman":
        energy.contact = ObManContact(contact_zones(model), ball, settings)
    at = flat(shifted(GraspShift.none(energy.hands)))
    leaf = torch.from_numpy(at).requires_grad_(True)
    total = energy.terms(GraspShift(*leaf.split([3, 3, 45, 3, 3], dim=1))).total
    (gradient,) = torch.autograd.grad(total.sum(), leaf)
    step = 1e-7
    for column in (*range(8), 20, 40, 50, *range(51, 57)):
        sides = []
        for sign in (1, -1):
            moved = at.copy()
            moved[:, column] += sign * step
            sides.append(energy.terms(lifted(moved)).total.numpy())
        # Springs that come into reach within a step make the plain quotient jump: most must agree, none may be far off.
        quotient = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(gradient[:, column].numpy(), quotient, rtol=0.02, atol=2.0)


def test_jacobian_of_the_hand_is_that_of_finite_differences(model: HandModel, ball: ObjectModel) -> None:
    energy = energy_of(model, ball, near(model), GeoSettings())
    at = shifted(GraspShift.none(energy.hands), 0.2)
    jacobian = CurvatureOfHands(energy).jacobian(1, at, 1)
    values = flat(at)
    for column in (0, 1, 2, 4, 6, 17, 33, 50):
        moved = [values.copy() for _ in range(2)]
        moved[0][:, column] += 1e-6
        moved[1][:, column] -= 1e-6
        ahead, behind = (energy.posed(lifted(one)).vertices[1].numpy() for one in moved)
        # Skinning weights below 2 % are left out.
        np.testing.assert_allclose(jacobian[:, :, column], (ahead - behind) / 2e-6, atol=6e-3)


def test_newton_reaches_what_scipy_reaches(model: HandModel, ball: ObjectModel) -> None:
    settings = GeoSettings(anatomy=0.0, iterations=200)
    true = near(model)
    start = hands_at(model, [(0.004, 0.05, -0.003), (0.0, 0.03, 0.0)], bend=0.5)
    energy = energy_of(model, ball, start, settings, true)
    found = newton.descend(energy, GraspShift.none(start))
    for row in range(2):
        part = energy.part(torch.tensor([row]))
        rest = flat(GraspShift.none(part.hands))

        def value(x: np.ndarray, part: GraspingEnergy = part, rest: np.ndarray = rest) -> tuple[float, np.ndarray]:
            full = rest.copy()
            full[0, :51] = x
            leaf = torch.from_numpy(full).requires_grad_(True)
            total = part.terms(GraspShift(*leaf.split([3, 3, 45, 3, 3], dim=1))).total.sum()
            (gradient,) = torch.autograd.grad(total, leaf)
            return float(total.detach()), gradient.numpy()[0, :51]

        reference = minimize(value, rest[0, :51], jac=True, method="L-BFGS-B", options={"maxiter": 400})
        assert float(found.final_total[row]) <= 1.01 * reference.fun


@pytest.mark.parametrize("move_object", [False, True])
def test_newton_never_goes_up_and_ends_below_adam(model: HandModel, ball: ObjectModel, move_object: bool) -> None:
    settings = GeoSettings(move_object=move_object, iterations=120)
    start = hands_at(model, [(0.004, 0.05, -0.003), (0.0, 0.03, 0.0)], bend=0.5)
    energy = energy_of(model, ball, start, settings, near(model))
    fast = newton.descend(energy, GraspShift.none(start))
    slow = adam.descend(energy, GraspShift.none(start))
    course = fast.course.sum(dim=-1)
    assert (course[1:] <= course[:-1] + 1e-9).all()
    assert (fast.final_total <= slow.final_total).all()
    assert (slow.final_total < 0.7 * slow.course[0].sum(dim=-1)).all()


def test_a_hand_is_refined_alike_alone_and_among_others(model: HandModel, ball: ObjectModel) -> None:
    start = hands_at(model, [(0.004, 0.05, -0.003), (0.0, 0.03, 0.0)], bend=0.5)
    refiner = GeoRefiner(model)
    both, alone = refiner.refine(start, ball), refiner.refine(start[1:], ball)
    np.testing.assert_allclose(both.hands.transl[1].numpy(), alone.hands.transl[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(both.hands.hand_pose[1].numpy(), alone.hands.hand_pose[0].numpy(), atol=1e-5)


def test_a_hand_in_the_object_comes_out(model: HandModel, ball: ObjectModel) -> None:
    start = hands_at(model, [(0.0, 0.03, 0.0)])
    result = GeoRefiner(model).refine(start, ball, GeoRefiner(model).springs_of(near(model)[:1], ball))
    before, after = (ball.signed_distance(model(hands).vertices).min() for hands in (start, result.hands))
    assert before < -0.005
    assert after > 0.5 * before
    assert result.energy_after.sum() < result.energy_before.sum()


def test_object_and_hand_move_as_one_answer(model: HandModel, ball: ObjectModel) -> None:
    """Hands in the moved object's frame, and where that is, give the hands that the energy saw."""
    start = hands_at(model, [(0.0, 0.03, 0.0)])
    refiner = GeoRefiner(model, GeoSettings(move_object=True))
    result = refiner.refine(start, ball, refiner.springs_of(near(model)[:1], ball))
    turn, shift = result.T_start_object[0, :3, :3], result.T_start_object[0, :3, 3]
    assert np.linalg.norm(shift) > 1e-5
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    at_object = model(result.hands).vertices
    contact = SpringContact(
        refiner.anchors,
        refiner.springs_of(near(model)[:1], ball).collapsed(),
        repulsion_of(ball, refiner.settings),
        refiner.settings,
    )
    # The answer has the springs' energy in the moved object's frame ...
    attraction, repulsion = (float(part) for part in contact(at_object))
    np.testing.assert_allclose([attraction, repulsion], result.energy_after[0, :2], rtol=1e-6)
    # ... and, brought back, the offsets of hand and object that were paid for.
    hand = at_object[0].numpy() @ turn.T + shift - model(start).vertices[0].numpy()
    points = ball.points.astype(np.float64)
    item = points @ turn.T + shift - points
    offset = np.square(hand).sum(axis=1).mean() + np.square(item).sum(axis=1).mean()
    weight = refiner.settings.offset / refiner.settings.length**2
    np.testing.assert_allclose(weight * offset, result.energy_after[0, 3], rtol=1e-3)


def test_a_hand_that_is_far_away_stays_and_says_why(
    model: HandModel, ball: ObjectModel, caplog: pytest.LogCaptureFixture
) -> None:
    start = hands_at(model, [(0.0, 0.03, 0.0), (0.0, 0.5, 0.0)])
    result = GeoRefiner(model).refine(start, ball)
    assert result.reason[1] == NO_SPRINGS
    assert result.springs[1] == 0
    assert torch.equal(result.hands.transl[1], start.transl[1])
    assert torch.equal(result.hands.hand_pose[1], start.hand_pose[1])
    assert not torch.equal(result.hands.transl[0], start.transl[0])
    assert "1 of 2 hands have no springs" in caplog.text


def test_objects_without_usable_normals_are_refused(model: HandModel, ball: ObjectModel) -> None:
    start = near(model)
    for normals in (np.zeros_like(ball.normals), -ball.normals, ball.normals[:10]):
        with pytest.raises(InputError, match="normals"):
            GeoRefiner(model).refine(start, replace(ball, normals=normals))
        with pytest.raises(InputError, match="normals"):
            GeoRefiner(model, GeoSettings(repulsion=0.0)).refine(start, replace(ball, normals=normals))


@pytest.mark.parametrize("solver", ["newton", "adam"])
def test_either_solver_makes_as_many_steps_as_it_is_told(model: HandModel, ball: ObjectModel, solver: str) -> None:
    start = hands_at(model, [(0.0, 0.03, 0.0)])
    refiner = GeoRefiner(model, GeoSettings(iterations=4), "adam" if solver == "adam" else "newton")
    found = refiner.refine(start, ball, refiner.springs_of(near(model)[:1], ball))
    assert len(found.course) == 5
    assert found.steps.tolist() == [4]
    assert found.reason == [ENOUGH_STEPS]


def test_what_cannot_be_refined_is_refused(model: HandModel, ball: ObjectModel) -> None:
    start = near(model)
    with pytest.raises(InputError, match="NaN"):
        GeoRefiner(model).refine(replace(start, transl=start.transl * np.nan), ball)
    with pytest.raises(InputError, match="at least one hand"):
        GeoRefiner(model).refine(start[:0], ball)
    with pytest.raises(InputError, match="left"):
        GeoRefiner(model).refine(replace(start, side="left"), ball)
    springs = GeoRefiner(model).springs_of(start[:1], ball)
    with pytest.raises(InputError, match="2 hands"):
        GeoRefiner(model).refine(start, ball, AttractiveSprings(springs.anchor, springs.point, springs.elasticity))
    with pytest.raises(InputError, match="solver"):
        GeoRefiner(model, solver="sgd")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="length"):
        GeoSettings(length=0.0)


def test_half_thickness_of_a_plate_and_of_a_ball() -> None:
    plate = load_object("box:0.08,0.08,0.012", num_points=500, resolution=96)
    top = (np.abs(plate.normals[:, 2]) > 0.9) & (np.abs(plate.points[:, :2]).max(axis=1) < 0.03)
    np.testing.assert_allclose(half_thickness(plate, 0.02)[top], 0.006, atol=1e-3)
    np.testing.assert_allclose(half_thickness(load_object("sphere:0.04"), 0.02), 0.02, atol=1e-3)


def test_the_far_side_of_a_thin_wall_does_not_draw_a_hand_in() -> None:
    plate = load_object("box:0.08,0.08,0.004", num_points=2000, resolution=96)
    above = np.array([[[0.0, 0.0, 0.006]]])
    push = {
        depth is None: RepulsiveSprings(plate.points, plate.normals, depth=depth).derivatives(above).gradient[0, 0, 2]
        for depth in (None, half_thickness(plate, 0.02))
    }
    assert push[False] < 0 < push[True]  # out of the plate; the paper's springs: into it


def test_states_are_refined_at_the_object_that_is_touched_most(ball: ObjectModel) -> None:
    model = load_hand_model("right")
    double = HandModel(model.arrays, torch.float64)
    hands = hands_at(double, [(0.0, 0.03, 0.0)]).to(dtype=torch.float32)
    other = replace(ball, object_id="other")
    vertices = model(hands).vertices[0].numpy().astype(np.float64)
    faces = closed_faces(model.faces.numpy())
    far = np.array([0.0, -0.25, 0.0])
    hand = replace(hand_states(hands, model)[0], track_id=3, score=0.7)
    objects = [ObjectState("sphere", np.eye(4)), ObjectState("other", np.eye(4))]
    objects[1].T_camera_object[:3, 3] = far
    maps = [
        compute_contact_map(vertices - place, faces, item, hand_track_id=3, anchors=anchors_of(model))
        for item, place in ((ball, np.zeros(3)), (other, far))
    ]
    state = HandObjectState(1, "camera", (hand,), tuple(objects), tuple(maps))
    empty = replace(state, contact_maps=())
    named = {ball.object_id: ball, "other": other}
    refined, untouched = GeoStateRefiner({"right": model}, named).refine([state, empty])
    assert untouched is empty
    assert refined.hands[0].track_id == 3
    assert refined.hands[0].score == 0.7
    new = model(refined.hands[0].params).vertices[0]
    assert not torch.allclose(new, model(hands).vertices[0], atol=1e-4)
    assert float(ball.signed_distance(new).min()) > float(ball.signed_distance(model(hands).vertices[0]).min())
    np.testing.assert_allclose(
        refined.contact_maps[0].hand_signed_distance, ball.signed_distance(new).numpy(), atol=1e-4
    )


def test_generated_grasps_begin_about_the_box_and_end_at_the_object() -> None:
    model = load_hand_model("right")
    item = load_object("box:0.05,0.06,0.12", num_points=800)
    generator = GeoGenerator(model, GeoSettings(offset=0.0, iterations=150))
    start = model(generator.placed(item, 12, 3))
    palm = start.keypoints[:, [0, 9]].mean(dim=1)
    assert float(item.signed_distance(palm).min()) > 0.008
    found = generator.generate(item, 12, 3)
    scores = [grasp.score for grasp in found.grasps]
    assert scores == sorted(scores, reverse=True)
    hands = stack_hands(found.grasps)
    distance = item.signed_distance(model(hands).vertices)
    assert float((distance.amin(dim=1) < 0.003).float().mean()) > 0.8
    assert float(distance.amin(dim=1).median()) > -0.006
    again = stack_hands(generator.generate(item, 12, 3).grasps)
    assert torch.equal(hands.transl, again.transl)


def on_the_ball(gap: float) -> tuple[HandModel, HandParams]:
    """A hand whose skin is `gap` (m) above a ball of 30 mm, palm first."""
    model = HandModel(load_hand_model("right").arrays, torch.float64)
    item = load_object("sphere:0.03", num_points=600)
    hands = hands_at(model, [(0.0, 0.06, 0.0)])
    for _ in range(4):
        height = float(item.signed_distance(model(hands).vertices).min()) - gap
        hands = replace(hands, transl=hands.transl - height * torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))
    return model, hands


def computed_map(model: HandModel, hands: HandParams, item: ObjectModel, anchored: bool = True) -> ContactMap:
    vertices = model(hands).vertices[0].numpy().astype(np.float64)
    anchors = anchors_of(model) if anchored else None
    return compute_contact_map(vertices, closed_faces(model.faces.numpy()), item, anchors=anchors)


def test_springs_of_a_computed_map_are_those_of_the_pose(ball: ObjectModel) -> None:
    """Each as stiff as the distance of its own anchor says, none longer than 20 mm, and as CPF annotates them."""
    model, hands = on_the_ball(0.001)
    anchors = anchors_of(model)
    contact = computed_map(model, hands, ball)
    springs = GeoRefiner(model).springs_of_contact([contact], hands)
    positions = anchors.positions(model(hands).vertices)
    there = springs.elasticity[0] > 0
    ends, points = positions[0, springs.anchor[0, there]].numpy(), springs.point[0, there].numpy()
    length = np.linalg.norm(ends - points, axis=1)
    assert length.max() < 0.02
    expected = 0.5 + 0.5 * np.cos(np.pi * length / 0.02)
    np.testing.assert_allclose(springs.elasticity[0, there].numpy(), expected, atol=1e-6)
    annotated = GeoRefiner(model).springs_of(hands, ball)

    def as_set(found: AttractiveSprings) -> set[tuple[int, float, float, float]]:
        rows = zip(found.anchor[0].tolist(), found.point[0].float().tolist(), found.elasticity[0].tolist(), strict=True)
        return {(anchor, *point) for anchor, point, elasticity in rows if elasticity > 0}

    # Where the nearest skin and the nearest anchor name the same region, both ways give the same springs.
    nearest = torch.cdist(torch.from_numpy(contact.points).double(), positions[0]).argmin(dim=1).numpy()
    alike = contact.region == np.asarray(anchors.region)[nearest]
    assert alike.mean() > 0.5
    same = {tuple(point) for point in contact.points[alike].tolist()}
    mine, theirs = ({one for one in as_set(found) if one[1:] in same} for found in (springs, annotated))
    assert mine == theirs
    assert len(mine) > 50
    with pytest.raises(InputError, match="one for each of 2 hands"):
        GeoRefiner(model).springs_of_contact([contact], hands_at(model, [(0, 0, 0), (0, 0, 0)]))


@pytest.mark.parametrize(("gap", "moves"), [(0.006, True), (0.05, False)])
def test_a_hand_above_an_object_is_drawn_to_it_as_far_as_springs_reach(
    ball: ObjectModel, gap: float, moves: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """6 mm away, where the soft contact is a third, springs pull; 50 mm away none do, and the hand is told."""
    model, hands = on_the_ball(gap)
    contact = computed_map(model, hands, ball)
    assert contact.contact.max() < 0.8
    state = HandObjectState(
        1, "camera", (hand_states(hands, model)[0],), (ObjectState("sphere", np.eye(4)),), (contact,)
    )
    (refined,) = GeoStateRefiner({"right": model}, {ball.object_id: ball}).refine([state])
    before, after = (ball.signed_distance(model(one.hands[0].params.to(dtype=torch.float64)).vertices).min()
                     for one in (state, refined))  # fmt: skip
    assert bool(after < before - 0.001) == moves
    assert (NO_SPRINGS in caplog.text) != moves


def test_why_hands_of_states_stay_is_said(ball: ObjectModel, caplog: pytest.LogCaptureFixture) -> None:
    model, hands = on_the_ball(0.001)
    bare = computed_map(model, hands, ball, anchored=False)
    state = HandObjectState(1, "camera", (hand_states(hands, model)[0],), (ObjectState("sphere", np.eye(4)),), (bare,))
    refiner = GeoStateRefiner({"right": model}, {ball.object_id: ball})
    assert refiner.refine([state])[0] is state
    assert NO_REGIONS in caplog.text
    refiner.refine([replace(state, contact_maps=())])
    assert NO_CONTACT_MAP in caplog.text
    GeoStateRefiner({}, {ball.object_id: ball}).refine([state])
    assert NO_MODEL in caplog.text


def test_generation_refuses_no_grasps_goes_on_in_batches_and_heeds_thin_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_hand_model("right")
    plate = load_object("box:0.08,0.08,0.004", num_points=800, resolution=96)
    settings = GeoSettings(offset=0.0, iterations=10)
    with pytest.raises(InputError, match="at least 1"):
        GeoGenerator(model, settings).generate(plate, 0, 1)
    whole = stack_hands(GeoGenerator(model, settings).generate(plate, 5, 1).grasps)
    monkeypatch.setattr("grasp_nodes.fitting.geo.generation.HANDS_AT_ONCE", 2)
    parts = stack_hands(GeoGenerator(model, settings).generate(plate, 5, 1).grasps)
    torch.testing.assert_close(parts.transl, whole.transl, atol=1e-5, rtol=0)
    paper = stack_hands(GeoGenerator(model, replace(settings, thin_walls=False)).generate(plate, 5, 1).grasps)
    assert not torch.allclose(paper.transl, whole.transl, atol=1e-4)


def test_a_posture_of_principal_components_stays_one(model: HandModel, ball: ObjectModel) -> None:
    """Table 6: Adam moves 15 numbers; what they cannot say is lost at once."""
    settings = GeoSettings(components=15, iterations=30)
    refiner = GeoRefiner(model, settings, "adam")
    hands = near(model)
    result = refiner.refine(hands, ball)
    assert (result.energy_after.sum(axis=1) < result.energy_before.sum(axis=1)).all()
    away = result.hands.hand_pose - model.hands_mean
    inside = torch.linalg.lstsq(model.hands_components[:15].T, away.T).solution
    torch.testing.assert_close(model.hands_components[:15].T @ inside, away.T, atol=1e-9, rtol=0)
    assert (result.hands.hand_pose - hands.hand_pose).abs().max() > 0.01
    with pytest.raises(InputError, match="adam alone"):
        GeoRefiner(model, settings)
    with pytest.raises(InputError, match="components must be 1 to 45"):
        GeoSettings(components=0)
