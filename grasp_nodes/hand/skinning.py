"""Linear blend skinning on coordinate planes, with a backward pass that allocates little.

Memory traffic decides its speed, not arithmetic: autograd's own backward of the same formula keeps and fills some ten
temporaries of (B, 3, V) instead of three and takes more than twice as long. The plain formula remains for what needs
it: ``torch.func`` transforms, ``torch.compile`` and second derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def blend_skin(turned: Tensor, offset: Tensor, shaped: Tensor, weights: Tensor) -> Tensor:
    """Blend and apply the joints' transforms: sum_j w_jv (R_j v + t_j).

    Args:
        turned: (B, J, 3, 3), R. offset: (B, J, 3), t. shaped: (B, 3, V), v. weights: (J, V), constant.

    Returns:
        (B, V, 3).
    """
    columns = torch.cat([turned, offset[..., None]], 3).permute(3, 0, 2, 1).reshape(4, -1, turned.shape[1])
    # No public name asks whether a torch.func transform is active; torch.autograd.Function itself asks this one.
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        planes = _blend(columns, shaped, weights)
    else:
        planes = _BlendSkin.apply(columns, shaped, weights)
    return planes.transpose(1, 2).contiguous()


def _blend(columns: Tensor, shaped: Tensor, weights: Tensor) -> Tensor:
    """The formula: columns (4, 3 B, J) of the transforms, shaped (B, 3, V) -> (B, 3, V)."""
    blended = (columns @ weights).view(4, *shaped.shape)
    return (blended[:3] * shaped.transpose(0, 1)[:, :, None]).sum(0) + blended[3]


class _BlendSkin(torch.autograd.Function):
    """`_blend` with its gradient written by hand; the blended transforms are made again instead of kept."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, shaped: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(columns, shaped, weights)
        planes = (columns[3] @ weights).view(shaped.shape)
        blended = torch.empty_like(planes)
        for axis in range(3):
            torch.mm(columns[axis], weights, out=blended.view(-1, weights.shape[1]))
            planes.addcmul_(blended, shaped[:, axis : axis + 1])
        return planes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        columns, shaped, weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: let autograd see the formula
            wanted = [t for t, needed in zip((columns, shaped), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(_blend(columns, shaped, weights), wanted, gradients, create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:2]), None
        grad = gradients[0].contiguous()
        grad_columns = torch.empty_like(columns) if ctx.needs_input_grad[0] else None
        grad_shaped = torch.empty_like(shaped) if ctx.needs_input_grad[1] else None
        product = torch.empty_like(grad)
        rows = product.view(-1, weights.shape[1])
        for axis in range(3):
            if grad_shaped is not None:
                torch.mm(columns[axis], weights, out=rows)
                torch.sum(product.mul_(grad), 1, out=grad_shaped[:, axis])
            if grad_columns is not None:
                torch.mul(grad, shaped[:, axis : axis + 1], out=product)
                torch.mm(rows, weights.T, out=grad_columns[axis])
        if grad_columns is not None:
            torch.mm(grad.view(-1, weights.shape[1]), weights.T, out=grad_columns[3])
        return grad_columns, grad_shaped, None
