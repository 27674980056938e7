import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hat_sr.errors import InputError
from hat_sr.lam.measures import contribution_area, diffusion_index, gini


def one_pixel(*shape):
    values = torch.zeros(shape)
    values[-1, 0] = 3.0
    return values


def test_a_uniform_map_has_index_100():
    assert diffusion_index(torch.full((5, 7), 0.25)) == 100
    assert contribution_area(torch.full((4, 5), 0.25), 0.9) == 90


def test_a_single_pixel_has_its_share_of_the_image():
    assert diffusion_index(one_pixel(4, 8)) == pytest.approx(100 / 32, rel=1e-12)
    assert contribution_area(one_pixel(4, 8), 0.99) == 100 / 32


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20).filter(lambda values: sum(values) > 1e-3))
def test_gini_is_the_mean_difference_of_all_pairs(values):
    x = torch.tensor(values, dtype=torch.float64)
    by_pairs = (x[:, None] - x[None]).abs().mean() / (2 * x.mean())
    assert gini(x) == pytest.approx(by_pairs.item(), abs=1e-9)


def test_the_index_is_a_share_of_the_image():
    small = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    large = torch.cat([small, torch.zeros(6, 6)])
    assert diffusion_index(large) == pytest.approx(diffusion_index(small) / 2, rel=1e-6)


def test_contribution_area_takes_the_largest_first():
    x = torch.tensor([[1.0, 5.0], [0.0, 4.0]])
    assert [contribution_area(x, share) for share in (0.5, 0.51, 0.9, 0.91, 1)] == [25, 50, 50, 75, 75]


@pytest.mark.parametrize(
    ("values", "said"),
    [([0.0, 0.0], "0 everywhere"), ([], "0 everywhere"), ([1.0, -1.0], "below 0"), ([1.0, float("nan")], "not finite")],
)
@pytest.mark.parametrize("measure", [diffusion_index, lambda values: contribution_area(values, 0.5)])
def test_maps_that_cannot_be_measured(measure, values, said):
    with pytest.raises(InputError, match=said):
        measure(torch.tensor(values))


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_impossible_shares(share):
    with pytest.raises(InputError, match="share"):
        contribution_area(torch.ones(2, 2), share)
