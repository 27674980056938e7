"""What a network costs: operations, and numbers to be kept."""

from hat_sr.model.config import HATConfig


def multiply_adds(config: HATConfig, height: int = 64, width: int = 64) -> int:
    """Multiplications with an addition for one image of height × width input pixels, multiples of window_size.

    Counted are convolutions, linear layers and both matrix products of attention (Q·Kᵀ and weights·V), not norms,
    pooling, activations, softmax or additions. By this SwinIR ×4 takes 53.6 G at 64×64, as published; HAT-S ×4 takes
    54.6 G (published: 54.9 G) and HAT ×4 103.9 G (published: 102.4 G).
    """
    return height * width * _of_each_pixel(config) + sum(config.depths) * _of_channel_attention(config)


def num_parameters(config: HATConfig) -> int:
    """How many numbers the network of a config has learnt: weights, biases and tables of positions."""
    channels, num_feat, M = config.embed_dim, config.num_feat, config.window_size
    hidden, inner, squeezed = (
        int(channels * config.mlp_ratio),
        channels // config.compress_ratio,
        channels // config.squeeze_factor,
    )
    # Two norms, Q, K and V, the projection, the MLP: the same in HAB and OCAB.
    transformer = 4 * channels + 4 * (channels**2 + channels) + 2 * channels * hidden + hidden + channels
    hab = transformer
    if config.use_cab:
        hab += 2 * 9 * channels * inner + inner + channels
        if config.use_channel_attention:
            hab += 2 * channels * squeezed + squeezed + channels
    square = 9 * channels**2 + channels
    groups = 0
    for depth, num_heads in zip(config.depths, config.num_heads, strict=True):
        groups += depth * (hab + (2 * M - 1) ** 2 * num_heads) + square
        if config.use_ocab:
            groups += transformer + (M + config.overlap_window_size - 1) ** 2 * num_heads
    ends = 9 * config.in_chans * channels + channels + 4 * channels + square + 9 * channels * num_feat + num_feat
    steps = sum(step**2 * (9 * num_feat**2 + num_feat) for step in config.upsampling_steps)
    return groups + ends + steps + 9 * num_feat * config.in_chans + config.in_chans


def _of_each_pixel(config: HATConfig) -> int:
    channels, num_feat = config.embed_dim, config.num_feat
    hidden = int(channels * config.mlp_ratio)
    # Q, K, V and the output projection, then the MLP: the same linear layers in HAB and OCAB.
    linear = 4 * channels**2 + 2 * channels * hidden
    hab = linear + 2 * config.window_size**2 * channels
    if config.use_cab:
        hab += 2 * 9 * channels * (channels // config.compress_ratio)
    ocab = linear + 2 * config.overlap_window_size**2 * channels if config.use_ocab else 0
    groups = sum(depth * hab + ocab + 9 * channels**2 for depth in config.depths)
    ends = 9 * config.in_chans * channels + 9 * channels**2 + 9 * channels * num_feat
    return groups + ends + _of_upsampling(config)


def _of_upsampling(config: HATConfig) -> int:
    """The convolutions of ×2, ×3 steps, each at its own size, and the last one at the output's size."""
    total, area = 0, 1
    for step in config.upsampling_steps:
        area *= step**2
        total += area * 9 * config.num_feat**2
    return total + area * 9 * config.num_feat * config.in_chans


def _of_channel_attention(config: HATConfig) -> int:
    """Its two 1×1 convolutions, once an image."""
    if not (config.use_cab and config.use_channel_attention):
        return 0
    return 2 * config.embed_dim * (config.embed_dim // config.squeeze_factor)
