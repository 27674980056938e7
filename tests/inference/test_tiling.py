import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hat_sr.errors import ConfigError
from hat_sr.inference.tiling import blend_weights, plan_axis, plan_tiles, smallest_tile_size, tiled
from hat_sr.inference.upscale import padded
from inference.doubles import blurred, nearest, pooled, random_image, tiny_hat


@st.composite
def plans(draw):
    tile_pad, blend_size, align = (
        draw(st.integers(0, 20)),
        draw(st.integers(1, 20)),
        draw(st.sampled_from([1, 2, 8, 16])),
    )
    smallest = smallest_tile_size(tile_pad=tile_pad, blend_size=blend_size, align=align)
    settings = {"tile_pad": tile_pad, "blend_size": blend_size, "align": align}
    return draw(st.integers(1, 1500)), smallest + align * draw(st.integers(0, 12)), settings


@given(plans())
def test_plan_reads_and_uses_every_pixel_with_context(plan):
    length, tile_size, settings = plan
    tile_pad, blend_size, align = settings["tile_pad"], settings["blend_size"], settings["align"]
    spans = plan_axis(length, tile_size=tile_size, **settings)

    assert spans[0].start == spans[0].core_start == 0
    assert spans[-1].stop == spans[-1].core_stop == length
    for span in spans:
        assert span.start % align == 0
        assert span.stop - span.start <= tile_size
        assert span.start == 0 or span.core_start - span.start >= tile_pad
        assert span.stop == length or span.stop - span.core_stop >= tile_pad
    for left, right in itertools.pairwise(spans):
        assert left.start < right.start and left.stop < length
        assert left.core_stop - right.core_start == blend_size
    sizes = [span.stop - span.start for span in spans]
    assert len(set(sizes[:-1])) <= 1
    assert 0 <= sizes[0] - sizes[-1] < align


@given(plans(), st.integers(1, 4))
def test_weights_of_each_pixel_add_up_to_one(plan, scale):
    length, tile_size, settings = plan
    total = torch.zeros(length * scale, dtype=torch.float64)
    for span in plan_axis(length, tile_size=tile_size, **settings):
        weights = blend_weights(span, length, blend_size=settings["blend_size"], scale=scale)
        assert weights.min() >= 0 and weights.max() <= 1
        total[span.core_start * scale : span.core_stop * scale] += weights
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-15)


def test_plan_by_hand():
    spans = plan_axis(100, tile_size=48, tile_pad=8, blend_size=8, align=8)
    assert [(span.start, span.stop) for span in spans] == [(0, 48), (24, 72), (48, 96), (56, 100)]
    assert [(span.core_start, span.core_stop) for span in spans] == [(0, 40), (32, 64), (56, 80), (72, 100)]


def test_tiles_are_no_larger_than_their_number_asks_for():
    spans = plan_axis(110, tile_size=100, tile_pad=4, blend_size=2, align=1)
    assert [(span.start, span.stop) for span in spans] == [(0, 60), (50, 110)]


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    radius=st.integers(0, 4),
    align=st.sampled_from([1, 4]),
    scale=st.integers(1, 3),
)
def test_exact_where_context_covers_the_receptive_field(height, width, radius, align, scale):
    x = random_image(1, 2, height, width, dtype=torch.float64)
    run = tiled(blurred(scale, radius), scale=scale, tile_size=24, tile_pad=radius, blend_size=5, align=align)
    torch.testing.assert_close(run(x), blurred(scale, radius)(x), rtol=0, atol=1e-14)


def test_not_exact_with_too_little_context():
    x = random_image(1, 1, 50, 50, dtype=torch.float64)
    out = tiled(blurred(2, 4), scale=2, tile_size=24, tile_pad=0, blend_size=1)(x)
    assert (out - blurred(2, 4)(x)).abs().max() > 1e-3


def test_not_exact_with_global_pooling():
    x = random_image(1, 1, 50, 50, dtype=torch.float64)
    network = pooled(blurred(2, 1))
    out = tiled(network, scale=2, tile_size=24, tile_pad=4, blend_size=4)(x)
    assert (out - network(x)).abs().max() > 1e-4


def test_exact_for_hat_without_pooling():
    # Reach: the shifted block reads windows 6 pixels beyond, OCAB a window and its overlap more, and 3×3 convolutions.
    model = tiny_hat(use_channel_attention=False).double()
    x = random_image(1, 3, 21, 83, dtype=torch.float64)
    whole = padded(model, multiple=4, scale=2)
    with torch.no_grad():
        expected = whole(x)
        aligned = tiled(whole, scale=2, tile_size=64, tile_pad=24, blend_size=4, align=4)(x)
        unaligned = tiled(whole, scale=2, tile_size=63, tile_pad=24, blend_size=4, align=1)(x)
    torch.testing.assert_close(aligned, expected, rtol=0, atol=1e-12)
    assert (unaligned - expected).abs().max() > 1e-6


def test_neighbours_fade_into_each_other():
    def numbered(x, count=iter(range(2))):  # noqa: B008
        return torch.full_like(x, float(next(count)))

    out = tiled(numbered, scale=1, tile_size=10, tile_pad=2, blend_size=4)(torch.zeros(1, 1, 1, 12))[0, 0, 0]
    assert torch.equal(out, torch.tensor([0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]))


def test_tiles_have_the_size_asked_for_and_keep_dtype():
    sizes = set()

    def run(x):
        sizes.add(tuple(x.shape))
        return nearest(2)(x)

    x = random_image(2, 3, 64, 100, dtype=torch.float64)
    out = tiled(run, scale=2, tile_size=40, tile_pad=8, blend_size=8, align=8)(x)
    assert sizes == {(2, 3, 40, 40), (2, 3, 40, 36)}
    assert out.dtype == torch.float64
    torch.testing.assert_close(out, nearest(2)(x))


@pytest.mark.parametrize(
    "settings",
    [
        {"tile_size": 31, "tile_pad": 8, "blend_size": 8, "align": 8},
        {"tile_size": 36, "tile_pad": 8, "blend_size": 8, "align": 8},
        {"tile_size": 16, "tile_pad": 8, "blend_size": 1, "align": 1},
        {"tile_size": 64, "tile_pad": -1, "blend_size": 8, "align": 8},
        {"tile_size": 64, "tile_pad": 8, "blend_size": 0, "align": 8},
        {"tile_size": 64, "tile_pad": 8, "blend_size": 8, "align": 0},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="tile_pad"):
        tiled(nearest(2), scale=2, **settings)


@pytest.mark.parametrize("size", [(100, 61), (61, 100), (24, 90), (90, 24), (10, 10)])
def test_rows_of_tiles_one_by_one_are_all_tiles_at_once(size):
    settings = {"scale": 2, "tile_size": 32, "tile_pad": 8, "blend_size": 4, "align": 4}
    x, upscale = random_image(1, 3, *size), pooled(blurred(2, 3))
    tiling = plan_tiles(*size, **settings)
    above, parts = None, []
    for number in range(len(tiling.rows)):
        first, last = tiling.finished(number)
        assert first == (0 if number == 0 else tiling.finished(number - 1)[1])

        def run(row, column):
            return upscale(x[..., row.start : row.stop, column.start : column.stop])

        blocks = list(tiling.run_row(number, run, above))
        assert [left for left, _ in blocks] == [2 * column.core_start for column in tiling.columns]
        strip = torch.cat([block for _, block in blocks], dim=-1)
        parts.append(strip[..., : 2 * (last - first), :])
        above = strip[..., 2 * (last - first) :, :]
    assert above.numel() == 0
    assert torch.equal(torch.cat(parts, dim=-2), tiled(upscale, **settings)(x))
