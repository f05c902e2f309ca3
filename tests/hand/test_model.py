"""The hand model against smplx, finite differences and the mathematics of skinning."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.hand.arrays import HandArrays
from grasp_nodes.hand.files import load_hand_arrays, mano_entries
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.hand.skinning import _blend, blend_skin

SIDES: tuple[Side, ...] = ("right", "left")


def with_correctives(arrays: HandArrays) -> HandArrays:
    """The same hand with random pose correctives of a few mm, as MANO has and the open hand has not."""
    random = np.random.default_rng(0).standard_normal(arrays.posedirs.shape)
    return replace(arrays, posedirs=random * 1e-3)


def some_params(side: Side, batch: int = 4, dtype: torch.dtype = torch.float32, scaled: bool = True) -> HandParams:
    generator = torch.Generator().manual_seed(batch)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    scale = 0.8 + 0.1 * torch.arange(batch).to(dtype) if scaled else torch.ones(batch, dtype=dtype)
    return HandParams(
        2 * normal(batch, 3), 0.5 * normal(batch, 45), normal(batch, 10), 0.5 * normal(batch, 3), scale, side
    )


def smplx_mano(arrays: HandArrays, **options: Any) -> Any:
    smplx = pytest.importorskip("smplx", reason="smplx is not installed: pip install 'grasp_nodes[smplx]'")
    structure = pytest.importorskip("smplx.utils").Struct(**mano_entries(arrays))
    return smplx.MANO(model_path="", data_struct=structure, is_rhand=arrays.side == "right", **options)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("correctives", [False, True])
def test_equals_smplx_with_full_pose(side: Side, correctives: bool) -> None:
    arrays = load_hand_arrays(side)
    arrays = with_correctives(arrays) if correctives else arrays
    params = some_params(side, scaled=False)
    output = HandModel(arrays)(params)
    with torch.no_grad():
        expected = smplx_mano(arrays, use_pca=False, flat_hand_mean=True)(
            global_orient=params.global_orient, hand_pose=params.hand_pose, betas=params.betas, transl=params.transl
        )
    assert (output.vertices - expected.vertices).abs().max() < 1e-5
    assert (output.joints - expected.joints[:, :16]).abs().max() < 1e-5


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("count", [1, 6, 15])
def test_equals_smplx_with_pca(side: Side, count: int) -> None:
    arrays = load_hand_arrays(side)
    model = HandModel(arrays)
    coefficients = torch.randn(3, count, generator=torch.Generator().manual_seed(1))
    params = replace(some_params(side, 3, scaled=False), hand_pose=model.pose_from_pca(coefficients))
    with torch.no_grad():
        expected = smplx_mano(arrays, num_pca_comps=count, flat_hand_mean=False)(
            global_orient=params.global_orient, hand_pose=coefficients, betas=params.betas, transl=params.transl
        )
    assert (model(params).vertices - expected.vertices).abs().max() < 1e-5


def test_smplx_reads_the_written_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    smplx = pytest.importorskip("smplx", reason="smplx is not installed: pip install 'grasp_nodes[smplx]'")
    from grasp_nodes.hand.files import write_mano_files

    root = tmp_path_factory.mktemp("models")
    write_mano_files(root / "mano")
    for side, ext in itertools.product(SIDES, ("pkl", "npz")):
        theirs = smplx.create(root, "mano", is_rhand=side == "right", use_pca=False, flat_hand_mean=True, ext=ext)
        ours = HandModel(load_hand_arrays(side))
        vertices = ours(HandParams.zeros(1, side)).vertices
        assert (theirs().vertices - vertices).abs().max() < 1e-5
        np.testing.assert_array_equal(theirs.faces.astype(int), ours.faces.numpy())


@pytest.mark.parametrize("correctives", [False, True])
@pytest.mark.parametrize("at_zero", [False, True])
def test_gradients_against_finite_differences(correctives: bool, at_zero: bool) -> None:
    arrays = load_hand_arrays()
    arrays = with_correctives(arrays) if correctives else arrays
    model = HandModel(arrays, torch.float64).vertex_subset([100, 500])
    params = HandParams.zeros(1, dtype=torch.float64) if at_zero else some_params("right", 1, torch.float64)
    names = ("global_orient", "hand_pose", "betas", "transl", "scale")

    def outputs(orient: Tensor, pose: Tensor, betas: Tensor, transl: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        output = model(HandParams(orient, pose, betas, transl, scale))
        return output.vertices, output.joints, output.keypoints, output.joint_frames

    values = tuple(getattr(params, name).clone().requires_grad_() for name in names)
    assert torch.autograd.gradcheck(outputs, values, eps=1e-6, atol=1e-6)


def test_gradients_of_the_full_hand_equal_a_directional_difference() -> None:
    model = HandModel(with_correctives(load_hand_arrays()), torch.float64)
    params = some_params("right", 3, torch.float64)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(3, 778, 3, generator=generator, dtype=torch.float64)
    pose = params.hand_pose.clone().requires_grad_()
    (model(replace(params, hand_pose=pose)).vertices * weight).sum().backward()
    assert pose.grad is not None
    direction = torch.randn(3, 45, generator=generator, dtype=torch.float64)
    step = 1e-5
    ahead, behind = (
        (model(replace(params, hand_pose=params.hand_pose + s * direction)).vertices * weight).sum()
        for s in (step, -step)
    )
    assert math.isclose((pose.grad * direction).sum().item(), (ahead - behind).item() / (2 * step), rel_tol=1e-6)


def test_skinning_has_second_derivatives_and_works_under_func_transforms() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    turned, offset, shaped = (
        torch.randn(2, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((3, 3, 3), (3, 3), (3, 4))
    )
    assert torch.autograd.gradgradcheck(lambda t, o, s: blend_skin(t, o, s, weights), (turned, offset, shaped))
    assert torch.autograd.gradgradcheck(lambda t: blend_skin(t, offset.detach(), shaped.detach(), weights), (turned,))

    model = HandModel(load_hand_arrays(), torch.float64).vertex_subset([1, 2])
    params = some_params("right", 1, torch.float64)

    def vertices(pose: Tensor) -> Tensor:
        return model(replace(params, hand_pose=pose)).vertices

    forward = torch.func.jacfwd(vertices)(params.hand_pose)
    reverse = torch.autograd.functional.jacobian(vertices, params.hand_pose)
    assert isinstance(reverse, Tensor)
    assert (forward - reverse).abs().max() < 1e-12


def test_hand_written_skinning_equals_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    turned, offset = torch.randn(3, 16, 3, 3, generator=generator), torch.randn(3, 16, 3, generator=generator)
    shaped, weights = torch.randn(3, 3, 7, generator=generator), torch.rand(16, 7, generator=generator)
    expected = torch.einsum("jv,bjik,bkv->bvi", weights, turned, shaped) + torch.einsum("jv,bji->bvi", weights, offset)
    assert (blend_skin(turned, offset, shaped, weights) - expected).abs().max() < 1e-5
    columns = torch.cat([turned, offset[..., None]], 3).permute(3, 0, 2, 1).reshape(4, -1, 16)
    assert (_blend(columns, shaped, weights).transpose(1, 2) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("side", SIDES)
def test_scale_orientation_and_translation_move_the_whole_hand(side: Side) -> None:
    model = HandModel(load_hand_arrays(side), torch.float64)
    params = some_params(side, 2, torch.float64)
    zero = torch.zeros(2, 3, dtype=torch.float64)
    plain = replace(params, global_orient=zero, transl=zero, scale=torch.ones(2, dtype=torch.float64))
    rest, moved = model(plain), model(params)
    turn = torch.linalg.matrix_exp(torch.stack([_cross_matrix(v) for v in params.global_orient]))
    wrist = rest.joints[:, :1]
    expected = (wrist + (rest.vertices - wrist) @ turn.transpose(1, 2)) * params.scale[:, None, None]
    assert (moved.vertices - expected - params.transl[:, None]).abs().max() < 1e-12
    assert (moved.joint_frames[:, 0, :3, :3] - turn).abs().max() < 1e-12


def _cross_matrix(v: Tensor) -> Tensor:
    return torch.linalg.cross(torch.eye(3, dtype=v.dtype), v.expand(3, 3), dim=1)


def test_joint_frames_carry_their_bones() -> None:
    """A joint's frame maps what hangs on it rigidly: the rest offset to its child lands on the posed child."""
    model = HandModel(load_hand_arrays(), torch.float64)
    params = some_params("right", 3, torch.float64)
    still = replace(
        params, global_orient=torch.zeros_like(params.global_orient), hand_pose=torch.zeros_like(params.hand_pose)
    )
    rest, posed = model(still), model(params)
    frames = posed.joint_frames
    assert (frames[..., :3, 3] - posed.joints).abs().max() < 1e-14
    assert (frames[..., 3, :] - torch.tensor([0.0, 0, 0, 1])).abs().max() == 0
    identity = torch.eye(3, dtype=torch.float64)
    assert (frames[..., :3, :3] @ frames[..., :3, :3].transpose(-1, -2) - identity).abs().max() < 1e-12
    assert (rest.joint_frames[..., :3, :3] - identity).abs().max() < 1e-14
    for child, parent in enumerate(model.parents.tolist()):
        if parent >= 0:
            offset = rest.joints[:, child] - rest.joints[:, parent]
            carried = posed.joints[:, parent] + (frames[:, parent, :3, :3] @ offset[..., None])[..., 0]
            assert (carried - posed.joints[:, child]).abs().max() < 1e-12


@pytest.mark.parametrize("correctives", [False, True])
def test_a_subset_computes_the_same_vertices(correctives: bool) -> None:
    arrays = load_hand_arrays()
    model = HandModel(with_correctives(arrays) if correctives else arrays)
    params = some_params("right")
    ids = [744, 3, 3, *range(500, 560), 0]
    full, part = model(params), model.vertex_subset(ids)(params)
    assert (part.vertices - full.vertices[:, ids]).abs().max() < 1e-6
    assert (part.keypoints - full.keypoints).abs().max() < 1e-6
    assert (part.joint_frames - full.joint_frames).abs().max() == 0
    faces = model.vertex_subset(ids).faces
    corners = torch.tensor(ids)[faces].tolist()
    inside = [f for f in model.faces.tolist() if set(f) <= set(ids)]
    assert corners == inside
    assert len(inside) > 20


def test_keypoints_and_joints_alone() -> None:
    model = HandModel(load_hand_arrays())
    params = some_params("right")
    full = model(params)
    bare = model.vertex_subset([])(params)
    assert bare.vertices.shape == (4, 0, 3)
    assert (bare.keypoints - full.keypoints).abs().max() < 1e-6
    joints, frames = model.joints(params)
    assert torch.equal(joints, full.joints)
    assert torch.equal(frames, full.joint_frames)
    order = [0, 13, 14, 15, 1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9]
    rows = [0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19]
    assert torch.equal(full.keypoints[:, rows], full.joints[:, order])
    assert torch.equal(full.keypoints[:, [4, 8, 12, 16, 20]], full.vertices[:, [744, 320, 443, 554, 671]])
    assert [model.keypoint_names[i] for i in rows] == [model.joint_names[i] for i in order]
    with pytest.raises(InputError, match="sub-set already"):
        model.vertex_subset([1]).vertex_subset([0])
    with pytest.raises(InputError, match="778"):
        model.vertex_subset([778])


def test_pca_of_all_components_reaches_any_pose() -> None:
    model = HandModel(load_hand_arrays(), torch.float64)
    pose = torch.randn(2, 45, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficients = (pose - model.hands_mean) @ model.hands_components.T
    assert (model.pose_from_pca(coefficients) - pose).abs().max() < 1e-6  # components are float32 in the file
    assert torch.equal(model.pose_from_pca(torch.zeros(1, 0, dtype=torch.float64))[0], model.hands_mean)
    with pytest.raises(InputError, match="45"):
        model.pose_from_pca(torch.zeros(1, 46))


def test_moves_between_dtypes() -> None:
    model = HandModel(load_hand_arrays()).to(torch.float64)
    assert model.dtype == torch.float64
    assert model.faces.dtype == torch.int64
    assert model.vertex_subset([5])(some_params("right", dtype=torch.float64)).vertices.dtype == torch.float64
    exact = HandModel(load_hand_arrays(), torch.float64)(some_params("right", dtype=torch.float64)).vertices
    single = HandModel(load_hand_arrays())(some_params("right")).vertices
    assert (single - exact).abs().max() < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_moves_to_the_gpu() -> None:
    model = HandModel(load_hand_arrays())
    expected = model(some_params("right")).vertices
    on_gpu = model.to("cuda")(some_params("right").to("cuda")).vertices.cpu()
    assert (on_gpu - expected).abs().max() < 1e-5


def test_parameters_of_another_hand_are_refused() -> None:
    model = HandModel(load_hand_arrays())
    with pytest.raises(InputError, match="right hand model"):
        model(HandParams.zeros(1, "left"))
    with pytest.raises(InputError, match="float64"):
        model(HandParams.zeros(1, dtype=torch.float64))
