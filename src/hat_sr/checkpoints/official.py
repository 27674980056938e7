"""The released format of HAT weights: its keys, the settings that can be read off them, and what it cannot carry.

Nothing else in the package knows these facts. Our own keys are the released ones without the two index tables.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hat_sr.checkpoints.wrappers import State, some
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.model.config import HATConfig
from hat_sr.model.window import overlap_relative_position_index, relative_position_index

UNSEEN_IN_SHAPES = ("conv_scale", "img_range", "mean")
"""Settings that change what a HAT computes but not the shape of any tensor."""

INDEX_SA, INDEX_OCA = "relative_position_index_SA", "relative_position_index_OCA"

_BLOCK = "layers.0.residual_group.blocks.0"
_OVERLAP = "layers.0.residual_group.overlap_attn"

_IN_BLOCK = re.compile(r"layers\.(\d+)\.residual_group\.blocks\.(\d+)\.", re.ASCII)

_MARKS = ("conv_first.weight", "conv_last.weight", f"{_BLOCK}.conv_block.cab.0.weight", f"{_OVERLAP}.qkv.weight")
"""Keys that HAT has and its relatives do not all have."""

_OTHER_NETWORKS = {
    f"{_BLOCK}.attn.qkv.weight": "SwinIR or a relative of it",
    "body.0.rdb1.conv1.weight": "RRDBNet (ESRGAN, Real-ESRGAN)",
    "model.1.sub.0.RDB1.conv1.0.weight": "RRDBNet (ESRGAN)",
    "body.0.body.0.body.0.weight": "RCAN",
    "body.0.weight": "SRVGGNetCompact (Real-ESRGAN compact)",
}
"""A key → the network whose files have it, tried in this order on files that are not HAT's."""


def infer_config(
    state: Mapping[str, Tensor],
    *,
    conv_scale: float | None = None,
    img_range: float | None = None,
    mean: Sequence[float] | None = None,
) -> HATConfig:
    """The settings of a released state dict, from its shapes.

    The arguments are what shapes do not tell; None takes the published value. Of the compress_ratio and squeeze_factor
    that lead to the same number of channels, the largest is taken. Raises WeightsError if it is not HAT's, ConfigError
    if an argument cannot be.
    """
    _check_is_hat(state)
    embed_dim, in_chans = _shape(state, "conv_first.weight", 4)[:2]
    num_feat = _shape(state, "conv_last.weight", 4)[1]
    depths = _depths(state)
    groups = range(len(depths))
    tables = [f"layers.{group}.residual_group.blocks.0.attn.relative_position_bias_table" for group in groups]
    window_size = (math.isqrt(_shape(state, tables[0], 2)[0]) + 1) // 2
    overlap = math.isqrt(_shape(state, f"{_OVERLAP}.relative_position_bias_table", 2)[0]) + 1 - 2 * window_size
    steps = [_shape(state, f"upsample.{2 * step}.weight", 4)[0] for step in range(_count(state, "upsample"))]
    try:
        config = HATConfig(
            upscale=math.prod(math.isqrt(channels // num_feat) for channels in steps),
            in_chans=in_chans,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=tuple(_shape(state, table, 2)[1] for table in tables),
            window_size=window_size,
            overlap_ratio=_ratio(overlap, window_size),
            compress_ratio=embed_dim // _shape(state, f"{_BLOCK}.conv_block.cab.0.weight", 4)[0],
            squeeze_factor=embed_dim // _shape(state, f"{_BLOCK}.conv_block.cab.3.attention.1.weight", 4)[0],
            mlp_ratio=_ratio(_shape(state, f"{_BLOCK}.mlp.fc1.weight", 2)[0], embed_dim),
            num_feat=num_feat,
        )
    except (ConfigError, ZeroDivisionError) as error:
        raise WeightsError(f"its tensors do not make a HAT: {error}") from error
    return dataclasses.replace(
        config,
        conv_scale=config.conv_scale if conv_scale is None else conv_scale,
        img_range=config.img_range if img_range is None else img_range,
        mean=config.mean if mean is None else tuple(mean),
    )


def without_indices(state: Mapping[str, Tensor], config: HATConfig) -> State:
    """The parameters alone. The index tables of a released file, if there, are compared with the config's and dropped.

    Raises WeightsError where they differ: the window or the overlap is another than the shapes say. They are compared
    modulo the bias table, since some are written as negative numbers that count from its end.
    """
    num_queries, num_keys = config.window_size**2, config.overlap_window_size**2
    shapes = {INDEX_SA: (num_queries, num_queries), INDEX_OCA: (num_queries, num_keys)}
    for name in shapes.keys() & state.keys():
        if state[name].shape != shapes[name] or not _same_places(state[name], _indices(config)[name]):
            raise WeightsError(
                f"its {name} is not that of window_size {config.window_size} and overlap_ratio "
                f"{config.overlap_ratio:g}, which its other tensors say: a variant of HAT that hat-sr does not run"
            )
    return {name: value for name, value in state.items() if name not in (INDEX_SA, INDEX_OCA)}


def with_indices(state: Mapping[str, Tensor], config: HATConfig) -> State:
    """The parameters with the index tables of the released format, by which other programs tell HAT and its window."""
    indices = _indices(config)
    overlap_index = indices[INDEX_OCA]
    side = config.window_size + config.overlap_window_size - 1
    # Released files count the upper part of the table from its end; indices up to M·(side + 1) are written plainly.
    wrapped = overlap_index > config.window_size * (side + 1)
    indices[INDEX_OCA] = torch.where(wrapped, overlap_index - side**2, overlap_index)
    return {**indices, **state}


def obstacles(config: HATConfig) -> list[str]:
    """Why the released format cannot carry this network; empty if it can."""
    plain = HATConfig(in_chans=config.in_chans)
    reasons = [
        f"{name} is {getattr(config, name)}: the format has no place for it, other programs assume "
        f"{getattr(plain, name)}"
        for name in UNSEEN_IN_SHAPES
        if getattr(config, name) != getattr(plain, name)
    ]
    reasons += [
        f"{name} is False: other programs expect that part"
        for name in ("use_cab", "use_channel_attention", "use_ocab")
        if not getattr(config, name)
    ]
    if config.window_size >= 64:
        reasons.append(
            f"window_size is {config.window_size}: other programs leave out the shift of windows of 64 and more"
        )
    return reasons


def _indices(config: HATConfig) -> State:
    return {
        INDEX_SA: relative_position_index(config.window_size),
        INDEX_OCA: overlap_relative_position_index(config.window_size, config.overlap_window_size),
    }


def _same_places(index: Tensor, expected: Tensor) -> bool:
    """Whether two index tables lead to the same places in a bias table."""
    return not index.is_floating_point() and torch.equal(index.long() % (int(expected.max()) + 1), expected)


def _check_is_hat(state: Mapping[str, Tensor]) -> None:
    missing = [name for name in _MARKS if name not in state]
    if not missing:
        return
    for name, network in _OTHER_NETWORKS.items():
        if name in state:
            raise WeightsError(f"it holds weights of {network}, not of HAT")
    raise WeightsError(f"it holds weights of another network than HAT: keys such as {some(state)}, and no {missing[0]}")


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state:
        raise WeightsError(f"it holds weights of another network than HAT, or only a part: no {name}")
    shape = tuple(state[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise WeightsError(f"its {name} has the shape {shape}; HAT has {dimensions} dimensions there, none of them 0")
    return shape


def _depths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """How many blocks each group has."""
    blocks: dict[str, set[str]] = {}
    for name in state:
        if (found := _IN_BLOCK.match(name)) is not None:
            blocks.setdefault(found[1], set()).add(found[2])
    return tuple(len(blocks.get(str(group), ())) for group in range(len(blocks)))


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered modules with parameters there are below `prefix`."""
    return len({name[len(prefix) + 1 :].partition(".")[0] for name in state if name.startswith(f"{prefix}.")})


def _ratio(part: int, whole: int) -> float:
    """A ratio r for which int(whole · r) is `part`; rounding can put the quotient just below."""
    ratio = part / whole
    return ratio if int(whole * ratio) == part else math.nextafter(ratio, math.inf)
