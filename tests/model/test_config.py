"""Published sizes, defaults, and what is refused."""

import dataclasses

import pytest
import torch

from hat_sr.errors import ConfigError
from hat_sr.model.config import PRESETS, RGB_MEAN, HATConfig
from hat_sr.model.cost import num_parameters
from hat_sr.model.hat import HAT
from model.tiny import TINY

PUBLISHED_PARAMETERS = {
    "HAT-S-x2": 9_473_471,
    "HAT-S-x3": 9_658_111,
    "HAT-S-x4": 9_621_183,
    "HAT-x2": 20_624_795,
    "HAT-x3": 20_809_435,
    "HAT-x4": 20_772_507,
    "HAT-L-x2": 40_698_863,
    "HAT-L-x3": 40_883_503,
    "HAT-L-x4": 40_846_575,
}


def test_published_parameter_counts():
    counts = {}
    for name, config in PRESETS.items():
        with torch.device("meta"):
            model = HAT(config)
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    assert counts == PUBLISHED_PARAMETERS
    assert {name: num_parameters(config) for name, config in PRESETS.items()} == PUBLISHED_PARAMETERS


def test_defaults_are_hat_x4():
    assert HATConfig() == PRESETS["HAT-x4"]
    config = HATConfig()
    assert (config.window_size, config.overlap, config.overlap_window_size) == (16, 8, 24)
    assert (config.conv_scale, config.drop_path_rate, config.img_range, config.num_feat) == (0.01, 0.1, 1.0, 64)


@pytest.mark.parametrize(("in_chans", "mean"), [(3, RGB_MEAN), (1, (0.0,)), (2, (0.0, 0.0)), (4, (0.0, 0.0, 0.0, 0.0))])
def test_default_mean(in_chans, mean):
    assert HATConfig(in_chans=in_chans).mean == mean


def test_lists_become_tuples():
    config = HATConfig(depths=[2, 1], num_heads=[6, 3], mean=[0.5, 0.5, 0.5])
    assert (config.depths, config.num_heads, config.mean) == ((2, 1), (6, 3), (0.5, 0.5, 0.5))
    assert hash(config) == hash(dataclasses.replace(config))


def test_settings_are_named_and_fixed():
    with pytest.raises(TypeError):
        HATConfig(4)
    with pytest.raises(TypeError, match="upscail"):
        HATConfig(upscail=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        HATConfig().upscale = 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"upscale": 5}, ["upscale 5", "1, 2, 3, 4, 8"]),
        ({"upscale": 0}, ["upscale 0"]),
        ({"in_chans": 0}, ["in_chans 0"]),
        ({"embed_dim": 0}, ["embed_dim 0"]),
        ({"num_feat": 0}, ["num_feat 0"]),
        ({"compress_ratio": 0}, ["compress_ratio 0"]),
        ({"squeeze_factor": 0}, ["squeeze_factor 0"]),
        ({"compress_ratio": 13}, ["compress_ratio 13", "12"]),
        ({"squeeze_factor": 13}, ["squeeze_factor 13", "12"]),
        ({"mlp_ratio": 0.05}, ["mlp_ratio 0.05", "12"]),
        ({"mlp_ratio": float("nan")}, ["mlp_ratio nan"]),
        ({"mean": (0.5,)}, ["1 values", "3 channels"]),
        ({"img_range": 0.0}, ["img_range 0.0"]),
        ({"img_range": float("inf")}, ["img_range inf"]),
        ({"conv_scale": float("nan")}, ["conv_scale nan"]),
        ({"depths": ()}, ["depths ()"]),
        ({"depths": (2, 0), "num_heads": (2, 2)}, ["depths (2, 0)"]),
        ({"depths": (2, 2)}, ["num_heads (2,)", "depths (2, 2)"]),
        ({"num_heads": (5,)}, ["num_heads 5", "embed_dim 12"]),
        ({"num_heads": (0,)}, ["num_heads 0"]),
        ({"window_size": 1}, ["window_size 1"]),
        ({"window_size": 66}, ["window_size 66", "to 64"]),
        ({"overlap_ratio": 32.0}, ["overlap_ratio 32", "no larger than 128"]),
        ({"depths": (501, 500), "num_heads": (2, 2)}, ["more than 1,000 blocks"]),
        ({"depths": 2}, ["depths 2 must be a list"]),
        ({"mlp_ratio": 1e5}, ["mlp_ratio 100000.0 of embed_dim 12", "65,536 channels"]),
        ({"overlap_ratio": 0.25}, ["overlap_ratio 0.25", "window_size 4", "1 pixels"]),
        ({"overlap_ratio": -0.5}, ["overlap_ratio -0.5"]),
        ({"overlap_ratio": float("inf")}, ["overlap_ratio inf"]),
        ({"drop_path_rate": 1.0}, ["drop_path_rate 1.0"]),
        ({"drop_path_rate": -0.1}, ["drop_path_rate -0.1"]),
    ],
    ids=str,
)
def test_refuses_what_cannot_be(changes, says):
    with pytest.raises(ConfigError) as caught:
        HATConfig(**{**TINY, **changes})
    for part in says:
        assert part in str(caught.value)


def test_limits_of_parts_that_are_left_out_do_not_count():
    without_cab = HATConfig(**{**TINY, "use_cab": False, "compress_ratio": 99, "squeeze_factor": 99})
    assert (without_cab.compress_ratio, without_cab.squeeze_factor) == (99, 99)
    assert HATConfig(**{**TINY, "use_channel_attention": False, "squeeze_factor": 99}).squeeze_factor == 99
