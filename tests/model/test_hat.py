"""The whole network: shapes, dtypes, refusals, memory in training, parts left out. (test_parity.py has the numbers.)"""

import copy

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from goldens.formula import image
from hat_sr.errors import InputError
from hat_sr.model.blocks import LayerNorm, drop_path
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.model.initialise import initialise_as_interpolator
from hat_sr.model.window import shift_masks
from model.tiny import TINY, tiny_model


@torch.no_grad()
@pytest.mark.parametrize("upscale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(4, 4), (4, 12), (12, 4), (8, 8)])
def test_sides_are_enlarged(upscale, size):
    out = tiny_model(upscale=upscale)(image((2, 3, *size)))
    assert out.shape == (2, 3, size[0] * upscale, size[1] * upscale)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(4, 4), (4, 12), (8, 8)])
def test_dtypes(dtype, size):
    model = tiny_model()
    x = image((1, 3, *size))
    exact = model.double()(x.double())
    out = model.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    close = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.4}[dtype]
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=close * exact.abs().max().item())


@torch.no_grad()
def test_images_of_a_batch_do_not_mix():
    model = tiny_model().double()
    x = image((3, 3, 8, 8)).double()
    torch.testing.assert_close(model(x), torch.cat([model(one[None]) for one in x]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((3, 8, 8), r"\(3, 8, 8\).*\(B, 3, H, W\)"),
        ((1, 1, 8, 8), r"\(1, 1, 8, 8\).*\(B, 3, H, W\)"),
        ((1, 3, 9, 8), "height 9 and width 8 must be multiples of window_size 4"),
        ((1, 3, 8, 2), "height 8 and width 2 must be multiples of window_size 4"),
        ((1, 3, 0, 8), "height 0 and width 8"),
    ],
)
def test_refuses_other_shapes(shape, says):
    with pytest.raises(InputError, match=says):
        tiny_model()(torch.zeros(shape))


def _trainable(**changes):
    return tiny_model(**{"depths": (2, 2), "num_heads": (2, 2), **changes}).train()


def _step(model):
    """Output and gradients of one training step, and how many bytes were kept for the backward pass."""
    kept = 0

    def keep(x):
        nonlocal kept
        kept += x.numel() * x.element_size()
        return x

    torch.manual_seed(5)
    with saved_tensors_hooks(keep, lambda x: x):
        out = model(image((2, 3, 16, 16)))
    (out - 0.3).abs().mean().backward()
    return out.detach(), {name: value.grad for name, value in model.named_parameters()}, kept


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_activation_checkpointing_changes_memory_alone(rate):
    out, gradients, kept = _step(_trainable(drop_path_rate=rate))
    model = _trainable(drop_path_rate=rate)
    model.activation_checkpointing = True
    other_out, other_gradients, other_kept = _step(model)
    assert torch.equal(out, other_out)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, other_gradients[name]), name
    assert other_kept < kept / 4


def test_gradient_reaches_every_parameter():
    _, gradients, _ = _step(_trainable(drop_path_rate=0.0))
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"use_cab": False}, "conv_block"),
        ({"use_channel_attention": False}, ".cab.3."),
        ({"use_ocab": False}, "overlap"),
    ],
    ids=str,
)
def test_parts_left_out_leave_no_parameters(changes, part):
    whole, less = (set(HAT(HATConfig(**{**TINY, **more})).state_dict()) for more in ({}, changes))
    left_out = {key for key in whole if part in key}
    assert left_out
    assert less == whole - left_out


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    out = drop_path(torch.ones(20_000, 2, 3), 0.3, training=True)
    assert (out == out[:, :1, :1]).all()
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (out[:, 0, 0] == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)


def test_drop_path_is_nothing_in_eval_or_at_rate_0():
    x = torch.ones(2, 3)
    assert drop_path(x, 0.9, training=False) is x
    assert drop_path(x, 0.0, training=True) is x


@torch.no_grad()
def test_training_and_eval_agree_without_drop_path():
    model = tiny_model(drop_path_rate=0.0)
    x = image((1, 3, 8, 8))
    assert torch.equal(model(x), model.train()(x))


@torch.no_grad()
def test_drop_path_acts_in_training_alone():
    model = tiny_model(drop_path_rate=0.5)
    x = image((1, 3, 8, 8)).expand(16, -1, -1, -1)
    torch.manual_seed(0)
    assert len(model.train()(x).unique(dim=0)) > 1
    torch.testing.assert_close(model.eval()(x), model(x[:1]).expand(16, -1, -1, -1))


@torch.no_grad()
def test_forward_leaves_nothing_behind():
    """Nothing that depends on the size alone is kept: no cache grows, and no buffer is made anew."""
    model = tiny_model()

    def what_it_holds():
        tensors = {name: value.data_ptr() for name, value in [*model.named_parameters(), *model.named_buffers()]}
        attributes = {(name, key) for name, module in model.named_modules() for key in vars(module)}
        return tensors, attributes

    before = what_it_holds()
    for size in ((4, 4), (8, 12), (20, 4), (16, 16)):
        model(image((1, 3, *size)))
    assert what_it_holds() == before


def test_masks_do_not_grow_with_the_image():
    model = tiny_model(window_size=8)
    assert model.shift_masks.shape == (3, 64, 64)
    assert torch.equal(model.shift_masks, shift_masks(8, 4))
    seen = []
    model.layers[0].residual_group.blocks[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    with torch.no_grad():
        model(image((1, 3, 40, 24)))
    assert seen[0] is model.shift_masks


def test_norms_have_an_exact_gradient_in_bfloat16():
    """torch's own is off by half of its size for gradients with a small mean, since it is summed in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(8192, 64, generator=generator), torch.randn(8192, 64, generator=generator) + 0.02
    gradients = {}
    for dtype in (torch.float64, torch.bfloat16):
        norm = LayerNorm(64).to(dtype)
        (norm(x.to(dtype)) * weight.to(dtype)).sum().backward()
        gradients[dtype] = [parameter.grad.double() for parameter in norm.parameters()]
    for low, exact in zip(gradients[torch.bfloat16], gradients[torch.float64], strict=True):
        assert (low - exact).norm() < 0.02 * exact.norm()


def test_whole_numbers_are_refused():
    with pytest.raises(InputError, match=r"torch.uint8: convert it to float in \[0, 1\]"):
        tiny_model()(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_an_image_finer_than_the_weights_keeps_its_colours(low):
    """The mean goes out and in at the image's own precision: in bfloat16 it would be off by a tenth of a level."""
    model = tiny_model().to(low)
    model.conv_last.weight.data.zero_()
    model.conv_last.bias.data.zero_()
    x = image((1, 3, 8, 4)).float()
    with torch.no_grad():
        fine, coarse = model(x), model(x.to(low))
    assert (fine.dtype, coarse.dtype) == (torch.float32, low)
    assert fine.unique(sorted=False).sort().values.tolist() == pytest.approx(sorted(model.config.mean), rel=1e-7)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_a_low_precision_of_the_body_alone_is_nearer(low):
    x, model = image((1, 3, 16, 16)), tiny_model()
    initialise_as_interpolator(model)
    with torch.no_grad():
        exact = model(x)
        whole = copy.deepcopy(model).to(low)(x)
        body = copy.deepcopy(model).cast_body(low)
        out = body(x)
    assert {body.conv_first.weight.dtype, body.conv_last.weight.dtype} == {torch.float32}
    assert {weight.dtype for weight in body.layers.parameters()} == {low}
    assert (out - exact).abs().max() < (whole - exact).abs().max() / 2
