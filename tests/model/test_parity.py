"""Ours against the slow HAT of tests/reference, and the places where HAT networks are most often got wrong."""

import pytest
import torch

from goldens.formula import image
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from model.tiny import TINY, tiny_model
from reference.slow_hat import Settings, slow_hat


def _model(**changes):
    return tiny_model(**changes).double()


def _image(*shape):
    return image(shape).double()


def _slow(model, x, **changes):
    config = model.config
    settings = Settings(
        **{
            "window_size": config.window_size,
            "overlap": config.overlap,
            "conv_scale": config.conv_scale,
            "img_range": config.img_range,
            **changes,
        }
    )
    return slow_hat(model.state_dict(), x, settings)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"upscale": 1}, (1, 3, 8, 8)),
        ({"upscale": 2}, (2, 3, 8, 12)),
        ({"upscale": 3}, (1, 3, 12, 8)),
        ({"upscale": 4}, (1, 3, 4, 8)),
        ({"upscale": 8}, (1, 3, 8, 4)),
        ({}, (1, 3, 4, 4)),
        ({"in_chans": 1}, (1, 1, 8, 12)),
        ({"in_chans": 5}, (1, 5, 8, 8)),
        ({"depths": (1,)}, (1, 3, 8, 8)),
        ({"depths": (3, 1, 2), "num_heads": (1, 3, 4)}, (1, 3, 8, 12)),
        ({"overlap_ratio": 0.0}, (1, 3, 8, 12)),
        ({"window_size": 8, "overlap_ratio": 0.25}, (1, 3, 16, 8)),
        ({"window_size": 8, "overlap_ratio": 0.5}, (1, 3, 16, 16)),
        ({"window_size": 8, "overlap_ratio": 0.75}, (1, 3, 8, 16)),
        ({"overlap_ratio": 1.5}, (1, 3, 8, 8)),
        ({"window_size": 5, "overlap_ratio": 0.4}, (1, 3, 10, 15)),
        ({"window_size": 2, "overlap_ratio": 1.0}, (1, 3, 6, 4)),
        ({"conv_scale": 0.5, "img_range": 255.0}, (1, 3, 8, 8)),
        ({"mlp_ratio": 1.5, "compress_ratio": 5, "squeeze_factor": 7}, (1, 3, 8, 8)),
        ({"use_cab": False}, (1, 3, 8, 8)),
        ({"use_channel_attention": False}, (1, 3, 8, 8)),
        ({"use_ocab": False}, (1, 3, 8, 8)),
    ],
    ids=str,
)
def test_equals_the_equations(changes, shape):
    model = _model(**changes)
    x = _image(*shape)
    with torch.no_grad():
        torch.testing.assert_close(model(x), _slow(model, x), rtol=0, atol=1e-10)


def test_another_mean_equals_the_equations():
    mean = (0.5, 0.25, 0.125)
    model = _model(mean=mean)
    x = _image(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(x), _slow(model, x, mean=mean), rtol=0, atol=1e-10)
        assert (model(x) - _slow(model, x)).abs().max() > 1e-3


def test_mean_is_zero_unless_rgb():
    assert _model(in_chans=3).config.mean == (0.4488, 0.4371, 0.4040)
    assert _model(in_chans=1).config.mean == (0.0,)
    assert _model(in_chans=4).config.mean == (0.0,) * 4


def test_window_bias_is_looked_up_by_query_minus_key():
    """A table that rewards `key one row above` makes each token copy the one above, within its window."""
    attention = _model().layers[0].residual_group.blocks[0].attn
    size = attention.window_size
    table = torch.full_like(attention.relative_position_bias_table, -1e4)
    table[(1 + size - 1) * (2 * size - 1) + size - 1] = 0  # query − key = (1, 0)
    values = _copied(attention, table, size)
    assert torch.equal(values[1:size], torch.arange(size * size).view(size, size)[: size - 1].double())


def _copied(attention, table, size):
    """Which token each token of one window takes its value from, as numbers in reading order."""
    channels = attention.qkv.in_features
    with torch.no_grad():
        attention.relative_position_bias_table.copy_(table)
        attention.qkv.weight.zero_()
        attention.qkv.bias.zero_()
        attention.qkv.weight[2 * channels :] = torch.eye(channels)
        attention.proj.weight.copy_(torch.eye(channels))
        attention.proj.bias.zero_()
        numbers = torch.arange(size * size).double().view(1, size, size, 1).expand(-1, -1, -1, channels)
        model = _model()
        return attention(numbers, model.relative_position_index_SA, model.shift_masks)[0, :, :, 0].round()


def test_overlap_bias_is_looked_up_by_key_minus_query_modulo_the_table():
    """Written out with the released offset, M − Mo + 1, the indices run from −880 to 640 on 1521 rows."""
    model = _model(window_size=16, overlap_ratio=0.5)
    released = torch.tensor(
        [
            (key_row - row - 7) * 39 + (key_column - column - 7)
            for row in range(16)
            for column in range(16)
            for key_row in range(24)
            for key_column in range(24)
        ]
    ).view(256, 576)
    assert (released.min().item(), released.max().item()) == (-880, 640)
    assert torch.equal(model.relative_position_index_OCA % 1521, released % 1521)
    relative = torch.arange(-15, 24)
    codes = ((relative[:, None] - 7) * 39 + relative[None, :] - 7) % 1521
    assert codes.unique().numel() == 1521  # one-to-one: no two relative positions share a row


def test_keys_outside_the_image_are_zero_vectors_in_the_softmax():
    """With all logits equal, attention near the border counts the padding: values are diluted, not renormalised."""
    block = _model(overlap_ratio=0.5).layers[0].residual_group.overlap_attn
    channels = block.qkv.in_features
    with torch.no_grad():
        for parameter in (block.qkv.weight, block.qkv.bias, block.relative_position_bias_table, block.proj.bias):
            parameter.zero_()
        block.qkv.bias[2 * channels :] = 1  # every value inside the image is 1, whatever the input
        block.proj.weight.copy_(torch.eye(channels))
        block.mlp.fc2.weight.zero_()
        block.mlp.fc2.bias.zero_()
        x = torch.zeros(1, 8, 8, channels, dtype=torch.float64)
        out = block(x, _model().relative_position_index_OCA)
    # Every window of an 8×8 image, cut 6×6 with a border of one, has 5×5 of its 36 keys inside the image.
    torch.testing.assert_close(out, torch.full_like(out, 25 / 36))


def test_conv_branch_reads_the_normed_unshifted_map():
    block = _model().layers[0].residual_group.blocks[1]
    assert block.attn.shift_size == 2
    seen = []
    block.conv_block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model = _model()
    x = torch.rand(1, 8, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        block(x, model.relative_position_index_SA, model.shift_masks)
        torch.testing.assert_close(seen[0], block.norm1(x))


def test_drop_path_spares_the_conv_branch():
    """At a rate near 1, training drops attention and MLP of every sample, and leaves x + α·CAB(LN(x))."""
    model = _model(drop_path_rate=0.999999, conv_scale=1.0)
    block = model.layers[0].residual_group.blocks[1].train()
    x = torch.rand(2, 8, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = block(x, model.relative_position_index_SA, model.shift_masks)
        torch.testing.assert_close(out, x + block.conv_block(block.norm1(x)))


def test_drop_path_rises_linearly_over_all_blocks():
    model = _model(depths=(2, 3), num_heads=(2, 2))
    rates = [block.drop_path_rate for layer in model.layers for block in layer.residual_group.blocks]
    assert rates == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])


def test_pixels_brought_together_by_the_shift_still_leak():
    """−100 and not −∞: a bias that outweighs 100 opens the mask.

    In the shifted layer (M = 4, shift 2) of an 8×8 image the last row of windows holds the image's rows 6, 7, 0, 1.
    The bias makes the window's last row, image row 1, look at its first, image row 6.
    """
    model = _model()
    block = model.layers[0].residual_group.blocks[1]
    x = torch.zeros(1, 8, 8, 12, dtype=torch.float64)
    changed = x.clone()
    changed[:, 6, :, 1] = 1
    moved = []
    for bias in (0.0, 200.0):
        with torch.no_grad():
            block.attn.relative_position_bias_table.zero_()
            block.attn.relative_position_bias_table[(3 + 3) * 7 + 3] = bias  # query − key = (3, 0)
            attended, before = (
                block.attn(image, model.relative_position_index_SA, model.shift_masks) for image in (changed, x)
            )
        moved.append((attended - before)[0, 1].abs().max().item())
    assert moved[0] < 1e-30
    assert moved[1] > 1e-3


def test_small_constants():
    model = _model()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}
    assert len(norms) == 2 + 2 * 2 + 2  # the top two, two in each HAB, two in OCAB
    assert model.conv_before_upsample[1].negative_slope == 0.01
    assert model.layers[0].residual_group.blocks[0].attn.qkv.bias is not None
    assert model.layers[0].residual_group.overlap_attn.qkv.bias is not None
    assert not any(key.startswith(("mean", "relative_position_index")) for key in model.state_dict())


def test_initial_weights_follow_the_released_network():
    """Linear weights and bias tables: normal, σ 0.02. Biases of linear layers 0. Convolutions: torch's own."""
    torch.manual_seed(0)
    model = HAT(HATConfig(**{**TINY, "embed_dim": 48, "window_size": 8}))
    block = model.layers[0].residual_group.blocks[0]
    for weight in (block.attn.qkv.weight, block.mlp.fc1.weight, block.attn.relative_position_bias_table):
        assert weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert not block.attn.qkv.bias.any()
    limit = (model.conv_first.weight[0].numel()) ** -0.5
    assert limit * 0.9 < model.conv_first.weight.abs().max().item() <= limit
