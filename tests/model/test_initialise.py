"""The start as an interpolator."""

import pytest
import torch

from hat_sr.errors import ConfigError
from hat_sr.image.resize import resize
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.model.initialise import initialise_as_interpolator
from model.tiny import TINY

CHANGES = [{"upscale": upscale} for upscale in (1, 2, 3, 4, 8)] + [{"in_chans": 1}, {"img_range": 255.0}]


def _fresh(**changes):
    torch.manual_seed(0)
    return HAT(HATConfig(**{**TINY, "embed_dim": 24, **changes})).eval()


def _interpolator(**changes):
    model = _fresh(**changes)
    initialise_as_interpolator(model)
    return model


def _waves(channels, side=24):
    """A smooth image, (1, channels, side, side) in [0, 1]."""
    at = torch.linspace(0, 6, side)
    return torch.stack([torch.sin(at[:, None] + c) * torch.cos(at[None, :]) for c in range(channels)])[None] * 0.4 + 0.5


def _inside(x, upscale):
    """Without the border, where convolutions read zeros."""
    cut = 3 * upscale
    return x[..., cut:-cut, cut:-cut]


def _off_bicubic(model):
    lr = _waves(model.config.in_chans)
    upscale = model.config.upscale
    bicubic = resize(lr, (lr.shape[2] * upscale, lr.shape[3] * upscale))
    return _inside(model(lr) - bicubic, upscale).abs()


@torch.no_grad()
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_starts_as_bicubic_but_for_its_cut_taps(changes):
    assert _off_bicubic(_interpolator(**changes)).max() < 0.01
    assert _off_bicubic(_fresh(**changes)).max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_keeps_a_constant_image(changes):
    model = _interpolator(**changes)
    colour = torch.tensor([0.2, 0.5, 0.9])[: model.config.in_chans].view(1, -1, 1, 1)
    hr = _inside(model(colour.expand(-1, -1, 24, 24)), model.config.upscale)
    torch.testing.assert_close(hr, colour.expand_as(hr), rtol=0, atol=1e-5)


@torch.no_grad()
def test_white_stays_bright_up_to_the_corner():
    assert _interpolator()(torch.ones(1, 3, 24, 24)).min() > 0.75


def test_everything_but_the_outer_convolutions_keeps_its_start():
    fresh, started = _fresh().state_dict(), _interpolator().state_dict()
    changed = {key.partition(".")[0] for key in fresh if not torch.equal(fresh[key], started[key])}
    assert changed == {"conv_first", "conv_after_body", "conv_before_upsample", "upsample", "conv_last"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"in_chans": 9, "num_feat": 16}, "in_chans 9.*num_feat 16"),
        ({"in_chans": 25, "num_feat": 64}, "in_chans 25, embed_dim 24"),
    ],
    ids=str,
)
def test_refuses_networks_that_cannot_pass_the_image_on(changes, says):
    with pytest.raises(ConfigError, match=says):
        initialise_as_interpolator(_fresh(**changes))
