import pytest
import torch

from hat_sr.errors import ConfigError
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.train.config import OptimConfig
from hat_sr.train.optim import STEP_RMS, Muon, is_of_the_body, make_optimizer, orthogonal

TINY = HATConfig(upscale=2, embed_dim=12, depths=(2,), num_heads=(2,), window_size=4, squeeze_factor=4, num_feat=8)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 20), (2, 20, 5)])
def test_singular_values_become_about_1(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_the_direction_is_that_of_the_nearest_orthogonal_matrix():
    matrix = torch.diag(torch.tensor([3.0, -2.0]))
    step = orthogonal(matrix[None])[0]
    assert step.sign().equal(torch.diag(torch.tensor([1.0, -1.0])))


def test_which_weights_of_a_hat_are_matrices_of_the_body():
    named = dict(HAT(TINY).named_parameters())
    taken = {name for name, weight in named.items() if is_of_the_body(name, weight)}
    assert "layers.0.residual_group.blocks.0.attn.qkv.weight" in taken
    assert "layers.0.residual_group.blocks.0.conv_block.cab.0.weight" in taken
    assert "conv_after_body.weight" in taken
    assert not {name for name in taken if name.endswith(("bias", "bias_table", "norm1.weight"))}
    assert not {name for name in taken if name.startswith(("conv_first", "upsample", "conv_before", "conv_last"))}


def test_the_rest_is_stepped_as_by_adam():
    weights = [torch.nn.Parameter(torch.ones(4)) for _ in range(2)]
    matrix = torch.nn.Parameter(torch.eye(4))
    muon = Muon([weights[0]], [matrix], lr=0.1, betas=(0.9, 0.99))
    adam = torch.optim.Adam([weights[1]], lr=0.1, betas=(0.9, 0.99), fused=True)
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.tensor([1.0, -2.0, 3.0, 0.5])
        matrix.grad = torch.eye(4)
        muon.step()
        adam.step()
    assert weights[0].equal(weights[1])


def test_a_matrix_moves_against_its_gradient_by_a_step_that_does_not_depend_on_the_gradients_size():
    moved = []
    for size in (1e-6, 1e3):
        matrix = torch.nn.Parameter(torch.zeros(6, 3, 3, 3))
        matrix.grad = size * torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(1))
        Muon([torch.nn.Parameter(torch.zeros(1))], [matrix], lr=0.5, betas=(0.9, 0.99)).step()
        assert (matrix * matrix.grad).sum() < 0
        moved.append(matrix.detach())
    assert torch.allclose(*moved, atol=0.1 * moved[1].abs().max().item())
    root_mean_square = moved[1].square().mean().sqrt().item()
    assert root_mean_square == pytest.approx(0.5 * STEP_RMS, rel=0.3)


def test_gradients_are_left_as_they_were():
    model = HAT(TINY)
    optimizer = make_optimizer(OptimConfig(total_steps=1, optimizer="muon"), model)
    model(torch.rand(1, 3, 8, 8)).mean().backward()
    before = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    optimizer.step()
    assert all(weight.grad.equal(before[name]) for name, weight in model.named_parameters())


def test_muon_has_no_weight_decay():
    with pytest.raises(ConfigError, match="muon takes 0"):
        OptimConfig(total_steps=1, optimizer="muon", weight_decay=0.1)
