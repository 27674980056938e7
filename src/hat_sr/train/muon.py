"""Muon: steps along the momentum made orthogonal, for the matrices of a network's body; Adam for everything else.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). A convolution's weight is taken
as the matrix of its output channels by everything else. torch's own `Muon` takes matrices only, one at a time; here
those of one shape go together, which is several times as fast for many small ones.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam

MOMENTUM = 0.95
STEP_RMS = 0.07
"""Root mean square that a matrix's step has, in units of the learning rate, before the iteration's rounding: for the
rate at which Adam does well (tried: 0.2, which others use, is too much for so small a network)."""
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NUM_ITERATIONS = 5


def is_of_the_body(name: str, weight: Tensor) -> bool:
    """Whether a HAT's weight is a matrix between features, neither at the picture nor a table nor a vector."""
    return weight.ndim >= 2 and name.startswith(("layers.", "conv_after_body.")) and not name.endswith("_table")


class Muon(Adam):
    """Adam over `others` and Muon over `matrices`, at one learning rate; its state has both."""

    def __init__(
        self, others: Iterable[Parameter], matrices: Iterable[Parameter], *, lr: float, betas: tuple[float, float]
    ) -> None:
        super().__init__(
            [{"params": list(others)}, {"params": list(matrices)}], lr=lr, betas=betas, weight_decay=0.0, fused=True
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient."""
        group = self.param_groups[1]
        gradients = {weight: weight.grad for weight in group["params"] if weight.grad is not None}
        for weight in gradients:
            weight.grad = None  # so that Adam passes it by
        super().step()
        alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for weight in gradients:
            alike[weight.flatten(1).shape].append(weight)
        for shape, weights in alike.items():
            steps = torch.stack([self._momentum(weight, gradients[weight]).flatten(1) for weight in weights])
            size = STEP_RMS * max(shape) ** 0.5 * group["lr"]
            for weight, step in zip(weights, orthogonal(steps), strict=True):
                weight.sub_(step.view_as(weight), alpha=size)
        for weight, gradient in gradients.items():
            weight.grad = gradient

    def _momentum(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Nesterov's: the gradient with that of the steps before, which is updated."""
        state: dict[str, Tensor] = self.state[weight]
        state.setdefault("step", torch.zeros(())).add_(1)  # Adam looks for it when a state is loaded
        momentum = state.setdefault("momentum", torch.zeros_like(weight))
        momentum.mul_(MOMENTUM).add_(gradient)
        return gradient + MOMENTUM * momentum


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices of (B, M, N), roughly: singular values of about 0.7 to 1.2, float32.

    By a polynomial of odd degree five times over, in bfloat16, which is enough for a direction.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = (matrices.mT if tall else matrices).bfloat16()
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_NUM_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).float()
