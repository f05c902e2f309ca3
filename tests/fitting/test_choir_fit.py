"""Hands out of CHOIR fields: multilateration, the solver, its derivatives, mirrors, and both stages."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch import Tensor

from grasp_nodes.contact.choir.field import ChoirField, anchor_distances
from grasp_nodes.contact.choir.gaussians import ContactSkin, encode_contacts, skin_contact
from grasp_nodes.contact.choir.space import ChoirSettings, ChoirSpace
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.choir.adam_fit import AdamChoirFit, AdamFitSettings
from grasp_nodes.fitting.choir.carried_points import (
    BETAS,
    UNKNOWNS,
    HandPlace,
    carrier_of,
    keypoints_and_anchors,
    mix_derivatives,
    mix_points,
    pose_points,
    with_flesh,
)
from grasp_nodes.fitting.choir.choir_fit import NETWORK_FIT, ChoirFit, ChoirFitSettings, FittedHands
from grasp_nodes.fitting.choir.contact_driven import ContactDrivenRefiner, ContactDrivenSettings
from grasp_nodes.fitting.choir.multilateration import Multilateration, kabsch
from grasp_nodes.fitting.choir.prior import hand_prior
from grasp_nodes.fitting.choir.solver import PointGoals, SurfaceGoals, evaluate, no_surface
from grasp_nodes.fitting.grasp_hand import SelfSpheres
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model("right")


@pytest.fixture(scope="module")
def space() -> ChoirSpace:
    return ChoirSpace()


@pytest.fixture(scope="module")
def fit(model: HandModel, space: ChoirSpace) -> ChoirFit:
    return ChoirFit(model, space)


@pytest.fixture(scope="module")
def ball() -> ObjectModel:
    return load_object("sphere:0.035")


@pytest.fixture(scope="module")
def hands(model: HandModel) -> HandParams:
    """Bent hands of other shapes, turned any way, some centimetres from the origin."""
    dofs = DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(model))
    rng = np.random.default_rng(4)
    count = 6
    share = rng.uniform(0.1, 0.7, (count, len(dofs.names)))
    values = np.clip(share * dofs.high, 0.5 * dofs.low, 1.2)
    turn = Rotation.random(count, random_state=5).as_rotvec()
    parts = (turn, dofs.pose(values), rng.normal(0, 0.8, (count, 10)), rng.normal(0, 0.03, (count, 3)), np.ones(count))
    return HandParams(*(torch.from_numpy(np.asarray(part)).float() for part in parts))


def field_of(model: HandModel, space: ChoirSpace, hands: HandParams, noise: float = 0.0) -> ChoirField:
    anchors = anchors_of(model).positions(model(hands).vertices.detach())
    frame = space.frame(0.01 * torch.ones(len(hands), 3), anchors)
    distance = anchor_distances(space, anchors, frame)
    drawn = noise * frame.factor[:, None] * torch.randn(distance.shape, generator=torch.Generator().manual_seed(1))
    distance = (distance + drawn).clamp(min=0.0)
    return ChoirField(distance, distance, frame, space.fingerprint)


def joint_errors(model: HandModel, found: HandParams, truth: HandParams) -> torch.Tensor:
    """(B,), mm."""
    with torch.no_grad():
        return 1e3 * (model(found).keypoints - model(truth).keypoints).norm(dim=-1).mean(dim=1)


@pytest.mark.parametrize("scaling", ["none", "pair"])
def test_anchors_are_exact_without_noise(model: HandModel, hands: HandParams, scaling: str) -> None:
    space = ChoirSpace(ChoirSettings(scaling=scaling))  # type: ignore[arg-type]
    found = Multilateration(space)(field_of(model, space, hands))
    true = anchors_of(model).positions(model(hands).vertices.detach())
    assert (found.positions - true).norm(dim=-1).max() < 1e-6
    assert found.mirrored is None


def test_anchors_under_noise_are_those_of_scipys_robust_least_squares(
    model: HandModel, space: ChoirSpace, hands: HandParams
) -> None:
    field = field_of(model, space, hands[:1], 0.003)
    found = Multilateration(space)(field)
    frame = field.frame
    for anchor in (0, 17):
        rows = space.assignment.points_of_anchor[anchor]
        basis = space.basis[rows] + frame.center[0].double().numpy()
        distance = field.anchor_distance[0, rows].double().numpy()

        def residual(place: np.ndarray, basis: np.ndarray = basis, distance: np.ndarray = distance) -> np.ndarray:
            return np.asarray(np.linalg.norm(place - basis, axis=1) - distance)

        best = least_squares(residual, basis.mean(axis=0), loss="cauchy", f_scale=2.385 * float(found.spread[0]))
        assert np.allclose(found.positions[0, anchor], best.x, atol=5e-5)
        # What one Gauss-Newton step says of the errors at scipy's answer.
        jacobian = best.x - basis
        jacobian /= np.linalg.norm(jacobian, axis=1, keepdims=True)
        plain = jacobian.T @ jacobian / float(found.spread[0]) ** 2
        ratio = np.trace(found.information[0, anchor].numpy()) / np.trace(plain)
        assert 0.6 < ratio <= 1.0
    assert float(found.spread[0]) == pytest.approx(0.003, rel=0.1)


def test_outliers_count_little(model: HandModel, space: ChoirSpace, hands: HandParams) -> None:
    field = field_of(model, space, hands[:1], 0.001)
    wrong = field.anchor_distance.clone()
    wrong[:, ::10] += 0.05
    true = anchors_of(model).positions(model(hands[:1]).vertices.detach())
    found = Multilateration(space)(replace(field, anchor_distance=wrong))
    assert 1e3 * (found.positions - true).norm(dim=-1).mean() < 0.6


def test_kabsch_is_scipys() -> None:
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(9, 3)), rng.uniform(0.1, 1, 9)
    turn = Rotation.random(random_state=1)
    targets = turn.apply(points) + [1.0, 2.0, 3.0] + 0.05 * rng.normal(size=points.shape)
    rotation, shift = kabsch(points, targets, weights)
    middle, goal = (np.average(part, axis=0, weights=weights) for part in (points, targets))
    best, _ = Rotation.align_vectors(targets - goal, points - middle, weights)
    assert np.allclose(rotation, best.as_matrix(), atol=1e-9)
    assert np.allclose(shift, goal - rotation @ middle)


def test_carried_points_are_the_hand_models(model: HandModel, hands: HandParams) -> None:
    carrier, mixed = keypoints_and_anchors(model)
    places = ChoirFit(model, ChoirSpace())._places(hands)
    posed = model(hands)
    true = torch.cat([posed.keypoints, anchors_of(model).positions(posed.vertices)], dim=1)
    for row, place in enumerate(places):
        found = mix_points(mixed, pose_points(carrier, place, np.zeros((0, 3, 0))))
        assert np.allclose(found, true[row], atol=2e-6)


def test_derivatives_of_carried_points_are_finite_differences(model: HandModel, hands: HandParams) -> None:
    carrier, mixed = keypoints_and_anchors(model)
    place = ChoirFit(model, ChoirSpace())._places(hands)[2]
    jacobian = np.empty((len(carrier.template), 3, UNKNOWNS))
    pose_points(carrier, place, jacobian)
    found = mix_derivatives(mixed, jacobian)
    for unknown in (0, 2, 4, 8, 30, 50, BETAS, UNKNOWNS - 1):
        ahead, behind = (
            mix_points(mixed, pose_points(carrier, moved(place, unknown, step), np.zeros((0, 3, 0))))
            for step in (1e-6, -1e-6)
        )
        assert np.allclose(found[..., unknown], (ahead - behind) / 2e-6, atol=1e-7)


def moved(place: HandPlace, unknown: int, step: float) -> HandPlace:
    """A place with one unknown changed."""
    vector = np.zeros(UNKNOWNS)
    vector[unknown] = step
    turn = Rotation.from_rotvec(vector[:3]).as_matrix()
    return HandPlace(
        turn @ place.rotation, place.wrist + vector[3:6], place.pose + vector[6:BETAS], place.betas + vector[BETAS:]
    )


@pytest.mark.parametrize("touching", [False, True])
def test_the_costs_gradient_is_finite_differences(
    model: HandModel, hands: HandParams, ball: ObjectModel, touching: bool
) -> None:
    fit = ChoirFit(model, ChoirSpace())
    carrier, mixed = keypoints_and_anchors(model)
    place, prior = fit._places(hands)[1], hand_prior(model)
    rng = np.random.default_rng(2)
    here = mix_points(mixed, pose_points(carrier, place, np.zeros((0, 3, 0))))
    goals = PointGoals(here + rng.normal(0, 0.004, here.shape), np.tile(np.eye(3) / 0.004**2, (len(here), 1, 1)))
    surface = no_surface()
    if touching:
        grid = ball.signed_distance
        # The hand is brought to the ball, so that some skin is inside.
        place = place._replace(wrist=place.wrist - here[:21].mean(axis=0))
        count = len(carrier.template)
        surface = SurfaceGoals(
            *(np.full(count, 0.5), np.ones(count), np.linspace(-0.002, 0.004, count)),
            *(grid.values.numpy(), grid.origin.double().numpy(), grid.spacing, 0.002, 0.001),
        )
    cost, gradient = evaluate(carrier, mixed, goals, surface, prior, place)
    assert cost > 0
    for unknown in (1, 3, 10, 25, 40, BETAS + 2):
        ahead, behind = (
            evaluate(carrier, mixed, goals, surface, prior, moved(place, unknown, step))[0] for step in (1e-7, -1e-7)
        )
        assert gradient[unknown] == pytest.approx((ahead - behind) / 2e-7, rel=2e-3, abs=1e-3 * np.abs(gradient).max())


def test_hands_come_back_from_their_fields(
    fit: ChoirFit, model: HandModel, space: ChoirSpace, hands: HandParams
) -> None:
    found = fit.stage1(field_of(model, space, hands))
    assert float(joint_errors(model, found.hands, hands).max()) < 0.05
    vertices = (model(found.hands).vertices - model(hands).vertices).norm(dim=-1).mean(dim=1)
    assert 1e3 * float(vertices.max()) < 0.05
    assert len(found.cost) == len(hands)


def test_one_hand_does_not_depend_on_the_others(
    fit: ChoirFit, model: HandModel, space: ChoirSpace, hands: HandParams
) -> None:
    field = field_of(model, space, hands, 0.002)
    together, alone = fit.stage1(field), fit.stage1(field[2:3])
    assert torch.allclose(together.hands.hand_pose[2:3], alone.hands.hand_pose, atol=1e-5)


def test_under_noise_ours_is_no_worse_than_adam(
    fit: ChoirFit, model: HandModel, space: ChoirSpace, hands: HandParams
) -> None:
    field = field_of(model, space, hands[:2], 0.005)
    adam = AdamChoirFit(model, space, AdamFitSettings(components=45, steps=250))
    ours, theirs = (joint_errors(model, one.stage1(field).hands, hands[:2]).mean() for one in (fit, adam))
    assert float(ours) < 2.0
    assert float(ours) <= float(theirs)


def test_adam_comes_near_a_hand(model: HandModel, space: ChoirSpace) -> None:
    truth = replace(HandParams.zeros(1), hand_pose=model.pose_from_pca(torch.tensor([[0.8, -0.5]])))
    field = field_of(model, space, truth)
    adam = AdamChoirFit(model, space, AdamFitSettings(steps=250))
    found = adam.stage1(field)
    assert float(joint_errors(model, found.hands, truth).max()) < 6.0
    assert found.steps[0] <= 250


def test_the_ordered_assignment_leaves_mirror_images_which_the_hand_tells_apart(
    model: HandModel, hands: HandParams
) -> None:
    space = ChoirSpace(ChoirSettings(assignment="ordered"))
    field = field_of(model, space, hands[:3])
    true = anchors_of(model).positions(model(hands[:3]).vertices.detach()).double()
    found = Multilateration(space)(field)
    assert found.mirrored is not None
    both = torch.stack([found.positions, found.mirrored])
    off = (both - true).norm(dim=-1)
    assert float(off.amin(dim=0).max()) < 1e-4
    assert float(off[0].max()) > 0.02  # centimetres off where the wrong one was taken
    # Both images have the field's distances.
    frame = field.frame
    for image in both:
        told = anchor_distances(space, image.float(), frame)
        assert torch.allclose(told, field.anchor_distance, atol=1e-4)
    fitted = ChoirFit(model, space).stage1(field)
    assert float(joint_errors(model, fitted.hands, hands[:3]).max()) < 0.05
    assert float((fitted.anchors - true).norm(dim=-1).max()) < 1e-4


def test_a_field_of_another_permutation_is_refused(fit: ChoirFit, model: HandModel, hands: HandParams) -> None:
    other = ChoirSpace(ChoirSettings(seed=3))
    field = field_of(model, other, hands[:1])
    for stage in (fit.stage1, AdamChoirFit(model, fit.space).stage1):
        with pytest.raises(InputError, match="anchor assignment"):
            stage(field)


def test_a_field_with_nan_is_refused(fit: ChoirFit, model: HandModel, space: ChoirSpace, hands: HandParams) -> None:
    field = field_of(model, space, hands[:1])
    with pytest.raises(InputError, match="NaN"):
        fit.stage1(replace(field, anchor_distance=field.anchor_distance * float("nan")))


def test_hands_come_back_from_keypoints(fit: ChoirFit, model: HandModel, hands: HandParams) -> None:
    posed = model(hands)
    points = torch.cat([posed.keypoints, anchors_of(model).positions(posed.vertices)], dim=1).detach()
    found = fit.from_keypoints(points, 1e-5)
    assert float(joint_errors(model, found.hands, hands).max()) < 0.05


def over_the_ball(model: HandModel, ball: ObjectModel, gap: float) -> HandParams:
    """A flat hand whose palm lies so far, m, from the ball's top."""
    hands = HandParams.zeros(1)
    palm = model(hands).vertices[0].detach()
    middle = model(hands).keypoints[0, [0, 9]].mean(dim=0).detach()
    near = palm[(palm - middle).norm(dim=1) < 0.03]
    shift = torch.stack([-middle[0], 0.035 + gap - near[:, 1].min(), -middle[2]])
    return replace(hands, transl=hands.transl + shift)


@pytest.mark.parametrize("kind", ["ours", "adam"])
def test_stage_2_pushes_skin_out_and_draws_what_ought_to_touch(
    fit: ChoirFit, model: HandModel, space: ChoirSpace, ball: ObjectModel, kind: str
) -> None:
    touching = over_the_ball(model, ball, -0.001)
    skin = ContactSkin.of_model(model)
    vertices = model(touching).vertices.detach()
    gaussians = encode_contacts(skin, vertices, skin_contact(ball.signed_distance(vertices)))
    assert gaussians.active.any()
    solver = fit if kind == "ours" else AdamChoirFit(model, space, AdamFitSettings(surface_steps=150))
    deep = fit.stage1(field_of(model, space, over_the_ball(model, ball, -0.006)))
    out = solver.stage2(deep, gaussians, ball).hands

    def depth(hand: HandParams) -> float:
        return float((-ball.signed_distance(model(hand).vertices)).clamp(min=0).sum())

    assert depth(out) < 0.7 * depth(deep.hands)
    if kind == "ours":
        away = fit.stage1(field_of(model, space, over_the_ball(model, ball, 0.004)))
        drawn = fit.stage2(away, gaussians, ball).hands

        def gap(hand: HandParams) -> float:
            return float(ball.signed_distance(model(hand).vertices).min())

        assert abs(gap(drawn)) < 0.5 * gap(away.hands)
        assert torch.equal(fit.stage2(away, None, ball, 0).hands.betas, away.hands.betas)


def test_stage_2_draws_posture_to_the_usual_one_and_keeps_the_shape(
    model: HandModel, space: ChoirSpace, ball: ObjectModel
) -> None:
    touching = over_the_ball(model, ball, -0.001)
    vertices = model(touching).vertices.detach()
    gaussians = encode_contacts(ContactSkin.of_model(model), vertices, skin_contact(ball.signed_distance(vertices)))
    odd = 0.3 * torch.randn(1, 45, generator=torch.Generator().manual_seed(2))
    betas = torch.linspace(-2.0, 2.0, 10)[None]
    start = replace(over_the_ball(model, ball, 0.004), hand_pose=odd, betas=betas)
    fitted = FittedHands(start, np.zeros(1), np.zeros(1, np.int64), torch.zeros(1, 32, 3, dtype=torch.float64))
    prior = hand_prior(model)

    def after(usual: float) -> tuple[float, float]:
        settings = replace(NETWORK_FIT, usual=usual)
        found = ChoirFit(model, space, settings).stage2(fitted, gaussians, ball).hands
        away = found.hand_pose[0].double().numpy() - prior.mean[:45]
        return float(away @ prior.precision[:45, :45] @ away), float((found.betas - betas).abs().max())

    (free, _), (drawn, kept) = after(0.0), after(3.0)
    assert drawn < 0.3 * free
    assert 0 < kept < 0.2


def test_centres_in_the_flesh_are_those_between_the_keypoints(model: HandModel, hands: HandParams) -> None:
    carrier, radius = with_flesh(carrier_of(model, [7, 300]), model)
    flat = model(HandParams.zeros(1))
    spheres = SelfSpheres.of_hand(flat.keypoints[0].detach(), flat.vertices[0].detach())
    expected = spheres.centres(model(hands).keypoints.detach())
    fit = ChoirFit(model, ChoirSpace())
    for row, place in enumerate(fit._places(hands)):
        points = pose_points(carrier, place, np.zeros((0, 3, 0)))
        np.testing.assert_allclose(points[:2], model(hands).vertices[row, [7, 300]].detach().numpy(), atol=2e-6)
        # Tips are vertices, which bend a little with the joint before.
        off = np.linalg.norm(points[2:] - expected[row].numpy(), axis=1)
        assert off.max() < 1.5e-3
        assert np.median(off) < 1e-5
    np.testing.assert_allclose(radius, spheres.radius.numpy(), atol=1e-7)


def test_stage_2_takes_fingers_out_of_a_thin_wall(model: HandModel, space: ChoirSpace) -> None:
    wall = load_object("box:0.2,0.004,0.2")
    start = HandParams.zeros(1)
    flat = model(start).keypoints[0].detach()
    # The wall's middle lies in the fingers, a little nearer to their backs: most of their skin is outside of it.
    start = replace(start, transl=(-flat[9] + torch.tensor([0.0, 0.001, 0.0]))[None])
    spheres = SelfSpheres.of_hand(flat, model(HandParams.zeros(1)).vertices[0].detach())

    def in_flesh(hand: HandParams) -> Tensor:
        return (spheres.radius - wall.signed_distance(spheres.centres(model(hand).keypoints))).clamp(min=0).sum()

    fitted = FittedHands(start, np.zeros(1), np.zeros(1, np.int64), torch.zeros(1, 32, 3, dtype=torch.float64))
    blind, feeling = (
        ChoirFit(model, space, replace(NETWORK_FIT, flesh=flesh)).stage2(fitted, None, wall).hands
        for flesh in (math.inf, NETWORK_FIT.flesh)
    )
    assert float(in_flesh(feeling)) < 0.5 * float(in_flesh(start))
    assert float(in_flesh(feeling)) < 0.7 * float(in_flesh(blind))


def test_settings_for_networks_hold_hands_more(model: HandModel, space: ChoirSpace, hands: HandParams) -> None:
    field = field_of(model, space, hands[:1], 0.004)
    stiff = ChoirFit(model, space, ChoirFitSettings(floor=0.02)).stage1(field).hands
    loose = ChoirFit(model, space).stage1(field).hands
    mean = torch.from_numpy(hand_prior(model).mean[:45]).float()
    assert (stiff.hand_pose - mean).norm() < (loose.hand_pose - mean).norm()


def test_the_contact_driven_baseline_brings_a_hand_to_the_object(model: HandModel, ball: ObjectModel) -> None:
    far = over_the_ball(model, ball, 0.05)
    found = ContactDrivenRefiner(model, ContactDrivenSettings(steps=80))(far, ball)
    before, after = (float(ball.signed_distance(model(one).vertices).min()) for one in (far, found))
    assert before > 0.04
    assert abs(after) < 0.5 * before
