"""Multiply-adds against a count of what torch really runs, and against published figures."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hat_sr.model import hat
from hat_sr.model.config import PRESETS, HATConfig
from hat_sr.model.cost import multiply_adds, num_parameters
from hat_sr.model.hat import HAT
from model.tiny import TINY


@pytest.mark.parametrize(
    "changes",
    [
        {"upscale": 1},
        {"upscale": 2, "in_chans": 1},
        {"upscale": 3, "mlp_ratio": 1.5},
        {"upscale": 4, "num_feat": 16},
        {"upscale": 8},
        {"depths": (1, 3), "num_heads": (1, 3)},
        {"window_size": 8, "overlap_ratio": 0.25},
        {"use_cab": False},
        {"use_channel_attention": False},
        {"use_ocab": False},
    ],
    ids=str,
)
def test_equals_what_torch_counts(changes, monkeypatch):
    monkeypatch.setattr(hat, "enlarge", lambda layers, x: nn.Sequential(*layers)(x))  # it takes less than published
    config = HATConfig(**{**TINY, **changes})
    model = HAT(config).eval().double()  # in float32 oneDNN's linear layers are not counted
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, config.in_chans, 16, 24, dtype=torch.float64))
    assert 2 * multiply_adds(config, 16, 24) == counter.get_total_flops()
    assert num_parameters(config) == sum(value.numel() for value in model.parameters())


def test_beside_published_figures():
    """The paper's 54.9 G and 102.4 G are within 2 % of this definition."""
    assert multiply_adds(PRESETS["HAT-S-x4"]) == pytest.approx(54.9e9, rel=0.02)
    assert multiply_adds(PRESETS["HAT-x4"]) == pytest.approx(102.4e9, rel=0.02)
    assert multiply_adds(PRESETS["HAT-x4"]) == 103_880_323_008
