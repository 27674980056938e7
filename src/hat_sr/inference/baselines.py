"""Networks by name, HAT's and others', and bicubic interpolation: what is measured against each other."""

from torch import Tensor

from hat_sr.checkpoints.named import DEFAULT_SCALE, label, load_model
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.image.resize import resize
from hat_sr.inference.network import Network
from hat_sr.inference.pad import padded
from hat_sr.inference.spandrel_networks import load_by_spandrel

BICUBIC = "bicubic"
"""The name of bicubic interpolation, by any whole factor."""


def load_upscale(name: str, *, scale: int = DEFAULT_SCALE) -> Network:
    """The network of that name: `bicubic`, what `load_model` takes, or such a file of another network.

    scale: bicubic's factor; a network has its own. Bicubic is the float form of MATLAB's (`hat_sr.image.resize`).
    Raises as `load_model`, WeightsError if spandrel cannot open the file, either; ConfigError for a scale below 1.
    """
    if name == BICUBIC:
        return _bicubic(scale)
    try:
        model = load_model(name)
    except WeightsError as error:
        return load_by_spandrel(name, error)
    multiple, factor = model.config.window_size, model.config.upscale
    return Network(
        name=label(name),
        title="HAT",
        upscale=padded(model, multiple=multiple, scale=factor),
        scale=factor,
        in_chans=model.config.in_chans,
        size_multiple=multiple,
        module=model,
    )


def _bicubic(scale: int) -> Network:
    if scale < 1:
        raise ConfigError(f"scale {scale}: bicubic interpolation enlarges by 1 or more")

    def run(x: Tensor) -> Tensor:
        return resize(x, (scale * x.shape[-2], scale * x.shape[-1]))

    return Network(name=BICUBIC, title=BICUBIC, upscale=run, scale=scale, in_chans=3, size_multiple=1)
