"""Colours under transparency, and what alpha may become."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hat_sr.image.alpha import Filling, fill_transparent, neighbourhood, within


def test_within_its_neighbourhood_leaves_what_lies_between() -> None:
    alpha = torch.zeros(1, 1, 4, 4)
    alpha[..., 2:] = 1
    result = torch.full((1, 1, 8, 8), 0.5)
    kept = within(result, *neighbourhood(alpha))
    assert (kept[..., :2] == 0).all()
    assert (kept[..., 2:6] == 0.5).all()
    assert (kept[..., 6:] == 1).all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_filled_colours_lie_between_those_seen(height: int, width: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    color = torch.rand(1, 3, height, width, generator=rng)
    alpha = (torch.rand(1, 1, height, width, generator=rng) < 0.3).float()
    filled = fill_transparent(color, alpha)
    seen = (alpha > 0).expand_as(color)
    assert torch.equal(filled[seen], color[seen])
    if bool(seen.any()):
        visible = color[seen].view(3, -1)
        low, high = visible.min(1).values.view(1, 3, 1, 1), visible.max(1).values.view(1, 3, 1, 1)
        assert ((filled >= low - 1e-5) & (filled <= high + 1e-5)).all()
    else:
        assert torch.equal(filled, color)


@pytest.mark.parametrize(
    ("height", "width", "share"), [(1, 1, 1.0), (33, 40, 0.01), (301, 77, 0.001), (1000, 23, 0.3), (2049, 17, 0.0002)]
)
def test_colours_filled_by_rows_are_those_filled_at_once(height: int, width: int, share: float) -> None:
    rng = torch.Generator().manual_seed(0)
    color = torch.rand(1, 3, height, width, generator=rng)
    alpha = (torch.rand(1, 1, height, width, generator=rng) < share).float()
    alpha[..., height // 2, width // 3] = 1
    whole = fill_transparent(color, alpha)
    filling = Filling(lambda start, stop: (color[..., start:stop, :], alpha[..., start:stop, :]), height)
    for start, stop in [(0, height), (0, 1), (height - 1, height), (height // 3, height // 2 + 1)]:
        assert torch.equal(filling.rows(start, stop), whole[..., start:stop, :])
