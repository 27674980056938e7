"""The same network in bands of rows, without gradients: memory for a few feature maps and one band, whatever the size.

`HAT.forward` holds a dozen maps at once where a block's inner ones are widest. Here whole maps are kept only where the
next step needs other rows of them: the input of a group, its working map, and one more. All else is made for one band
of rows at a time; the shallow features, which are needed at both ends, are made twice. What looks beyond the band gets
what it needs, so that the result is that of `forward` up to rounding:

- windows do not reach beyond their own rows; shifted ones have bands of their own, the last of which wraps round;
- overlapping windows reach into the windows above and below;
- a convolution reaches one row up and down: bands are read with as many rows more as convolutions follow each other;
- channel attention's mean is over the whole image: CAB's map is made first, and kept.

Layout in names: B batch, H W, C channels.
"""

from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from hat_sr.errors import InputError
from hat_sr.model.blocks import CAB, HAB, OCAB, RHAG, apply_channels_last
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT

RECONSTRUCTION_REACH = 4
"""Low-resolution rows that the network's end reaches up and down: three convolutions at this size, those at twice,
four and eight times it, and the last one, are less than four rows together."""

_CAB_SHARE, _OCAB_SHARE = 0.35, 0.95
"""Parts of a HAB's time that its CAB takes, and of an OCAB's and the convolution's behind it that the OCAB takes."""

Rows = tuple[int, int]
"""Of a band: the first, and the one after the last."""


Report = Callable[[float], None]
"""Called with the part of the work that is done, above 0 up to 1; what it raises ends the work."""


@torch.no_grad()
def forward_in_bands(model: HAT, x_BCHW: Tensor, *, num_rows: int, report: Report = lambda part: None) -> Tensor:
    """What `model(x_BCHW)` gives, up to rounding, made in bands of `num_rows` rows, a multiple of window_size.

    x_BCHW: as for `HAT.forward`, whose errors it raises; InputError for another number of rows. No gradients, and no
    drop path: for a network in eval mode. report: called after each band of each block and of the end, as if each
    block, and the end, took equally long.
    """
    window_size = model.config.window_size
    if num_rows < window_size or num_rows % window_size:
        raise InputError(f"num_rows {num_rows} must be a multiple of window_size {window_size}")
    model.check(x_BCHW)
    centred_BHWC = model.centred(x_BCHW).permute(0, 2, 3, 1)
    B, H, W, _ = centred_BHWC.shape
    bands = [(start, min(start + num_rows, H)) for start in range(0, H, num_rows)]
    x = model.norm.weight.new_empty(B, H, W, model.config.embed_dim)
    for band in bands:
        shallow = _convolved(model.conv_first, centred_BHWC, band, reach=1)
        x[:, slice(*band)] = model.patch_embed.norm(shallow.to(x.dtype))
    num_blocks, num_done = sum(len(cast(RHAG, layer).residual_group.blocks) + 1 for layer in model.layers), 0

    def within_block(part: float) -> None:
        nonlocal num_done
        report((num_done + part) / (num_blocks + 1))
        num_done += part == 1

    for layer in model.layers:
        _group(cast(RHAG, layer), x, model, bands, within_block)
    out = x_BCHW.new_empty(*x_BCHW.shape[:2], *(side * model.config.upscale for side in x_BCHW.shape[2:]))
    for band in _each(bands, within_block):
        _end(model, x, centred_BHWC, band, out)
    return out


def overlap_reach(config: HATConfig) -> int:
    """Rows, in whole windows, that an OCAB reads above a band and below it."""
    return -(-(config.overlap // 2) // config.window_size) * config.window_size


def _each(bands: list[Rows], report: Report, since: float = 0, until: float = 1) -> Iterator[Rows]:
    """The bands one after the other; tells after each what is done, which is from `since` to `until` of a block."""
    for number, band in enumerate(bands, 1):
        yield band
        report(until if number == len(bands) else since + (until - since) * number / len(bands))


def _group(layer: RHAG, x_BHWC: Tensor, model: HAT, bands: list[Rows], report: Report) -> None:
    """An RHAG; its result takes the place of its input. Its OCAB and its convolution count as one block."""
    inner = x_BHWC.clone()
    for block in layer.residual_group.blocks:
        inner = _hybrid_block(cast(HAB, block), inner, model, bands, report)
    ocab = layer.residual_group.overlap_attn
    if ocab is not None:
        inner = _overlapping_block(ocab, inner, model, bands, report)
    for band in _each(bands, report, 0 if ocab is None else _OCAB_SHARE, 1):
        x_BHWC[:, slice(*band)] += _convolved(layer.conv, inner, band, reach=1)


def _hybrid_block(block: HAB, x_BHWC: Tensor, model: HAT, bands: list[Rows], report: Report) -> Tensor:
    """A HAB; its result takes the place of its input. Of a single band it is a new map, and no norm is made twice."""
    if len(bands) == 1 and not block.training:  # in which there may be drop path
        out: Tensor = block(x_BHWC, model.relative_position_index_SA, model.shift_masks)
        report(1)
        return out
    cab = None if block.conv_block is None else _cab(block, block.conv_block, x_BHWC, bands, report)
    shift, height = block.attn.shift_size, x_BHWC.shape[1]
    _, right, _ = model.shift_masks
    for start, stop in _each(bands, report, 0 if cab is None else _CAB_SHARE, 1):
        wraps = shift and stop == height
        masks = model.shift_masks if wraps else torch.stack([torch.zeros_like(right), right, right])
        rows = _take(x_BHWC, start + shift, stop + shift)
        norm = block.norm1(rows)
        shifted = norm.roll(-shift, 2) if shift else norm
        attended = block.attn.in_windows(shifted, model.relative_position_index_SA, masks)
        rows = rows + (attended.roll(shift, 2) if shift else attended)
        if cab is not None:
            rows = torch.add(rows, _take(cab, start + shift, stop + shift), alpha=block.conv_scale)
        rows = rows + block.mlp(block.norm2(rows))
        _put(x_BHWC, start + shift, rows)
    return x_BHWC


def _cab(block: HAB, cab: CAB, x_BHWC: Tensor, bands: list[Rows], report: Report) -> Tensor:
    """CAB's map, whole: its channels' weights need the mean of all rows."""
    out = torch.empty_like(x_BHWC)
    for band in _each(bands, report, 0, _CAB_SHARE):
        out[:, slice(*band)] = _convolved(cab.convolutions, x_BHWC, band, reach=2, before=block.norm1)
    if cab.attention is not None:
        sums = [out[:, slice(*band)].sum((1, 2), dtype=torch.promote_types(out.dtype, torch.float32)) for band in bands]
        mean_BC = torch.stack(sums).sum(0) / (out.shape[1] * out.shape[2])
        weight_BC = cab.attention.weights(mean_BC.to(out.dtype))
        for band in bands:
            out[:, slice(*band)] *= weight_BC[:, None, None]
    return out


def _overlapping_block(block: OCAB, x_BHWC: Tensor, model: HAT, bands: list[Rows], report: Report) -> Tensor:
    """An OCAB; its result is a new map, since the rows above are read again by the next band."""
    out, reach = torch.empty_like(x_BHWC), overlap_reach(model.config)
    for start, stop in _each(bands, report, 0, _OCAB_SHARE):
        above, below = min(reach, start), min(reach, x_BHWC.shape[1] - stop)
        out[:, start:stop] = block.rows(
            x_BHWC[:, start - above : stop + below], model.relative_position_index_OCA, above=above, below=below
        )
    return out


def _end(model: HAT, x_BHWC: Tensor, centred_BHWC: Tensor, band: Rows, out_BCHW: Tensor) -> None:
    """From the body's map and the image to the band's rows of the result."""
    start, stop = band
    top, bottom = max(start - RECONSTRUCTION_REACH, 0), min(stop + RECONSTRUCTION_REACH, x_BHWC.shape[1])
    deep = apply_channels_last(model.conv_after_body, model.norm(x_BHWC[:, top:bottom]))
    shallow = _convolved(model.conv_first, centred_BHWC, (top, bottom), reach=1)
    rows = model.reconstruct((shallow + deep.to(shallow.dtype)).permute(0, 3, 1, 2), out_BCHW.dtype)
    scale = model.config.upscale
    out_BCHW[:, :, start * scale : stop * scale] = rows[:, :, (start - top) * scale : (stop - top) * scale]


def _convolved(
    module: nn.Module,
    x_BHWC: Tensor,
    band: Rows,
    *,
    reach: int,
    before: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """The band's rows of module(before(x)): a BCHW module of convolutions that reach so many rows up and down."""
    start, stop = band
    top, bottom = max(start - reach, 0), min(stop + reach, x_BHWC.shape[1])
    out = apply_channels_last(module, before(x_BHWC[:, top:bottom]))
    return out[:, start - top : stop - top]


def _take(x_BHWC: Tensor, start: int, stop: int) -> Tensor:
    """Rows [start, stop); those beyond the last are the first ones again."""
    height = x_BHWC.shape[1]
    if stop <= height:
        return x_BHWC[:, start:stop]
    return torch.cat([x_BHWC[:, start:], x_BHWC[:, : stop - height]], dim=1)


def _put(x_BHWC: Tensor, start: int, rows_BHWC: Tensor) -> None:
    """Put rows where `_take` took them."""
    num_before = min(x_BHWC.shape[1] - start, rows_BHWC.shape[1])
    x_BHWC[:, start : start + num_before] = rows_BHWC[:, :num_before]
    x_BHWC[:, : rows_BHWC.shape[1] - num_before] = rows_BHWC[:, num_before:]
