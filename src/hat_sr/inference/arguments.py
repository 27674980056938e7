"""What people give to `Upscaler`, as it takes it, or a sentence on what to give."""

import os
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from hat_sr.checkpoints.named import load_model
from hat_sr.errors import InputError
from hat_sr.inference.device import Precision
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.runtime.session import Session, open_session, runtime_of

_LEAST, _GREATEST = -0.5, 2.0
"""Values beyond these are no picture in [0, 1], even one that a network or a filter made brighter."""

_WRAPPED_IN = ("module", "_orig_mod")
"""Where torch's wrappers keep a network: DataParallel and DistributedDataParallel, torch.compile."""


def as_network(model: object, *, precision: Precision) -> HAT | Session:
    """The network that is meant: itself, what torch's wrappers hold, or by its name or file.

    Raises InputError for anything else, and as `load_model` and `open_session`.
    """
    if isinstance(model, str | os.PathLike):
        if runtime_of(Path(model)) is not None:
            return open_session(model, precision=precision)
        return load_model(model)
    network = model
    while isinstance(network, torch.nn.Module) and not _is_hat(network):
        network = next((getattr(network, name) for name in _WRAPPED_IN if hasattr(network, name)), None)
    if _is_hat(network) and any(weight.is_meta for weight in network.parameters()):
        raise InputError("the network is on the device meta, without values: make it on cpu, or load its weights")
    if isinstance(network, Session) or _is_hat(network):
        return network
    raise InputError(
        f"Upscaler of {_kind(model)}: a HAT (load_model or HAT(config)), its name or file, or an exported one "
        "(open_session) is accepted; pictures are given to what it makes: Upscaler('hat-xs-x4')(x)"
    )


def check_images(x: object, *, in_chans: int) -> Tensor:
    """`x` if it is a batch of images, (B, in_chans, H, W) float in [0, 1]; what is a little beyond is let pass.

    Raises InputError if it is not.
    """
    wanted = f"(B, {in_chans}, H, W)"
    if isinstance(x, str | os.PathLike):
        raise InputError(
            f"the input is {str(x)!r}: a tensor {wanted} of floats in [0, 1] is accepted; for files there is "
            "hat_sr.enlarge_file"
        )
    if not isinstance(x, Tensor):
        raise InputError(
            f"the input is {_kind(x)}: a tensor {wanted} of floats in [0, 1] is accepted: of RGB in 8 bits, "
            "torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)[None] / 255"
        )
    if x.dim() != 4 or x.shape[1] != in_chans or x.numel() == 0:
        raise InputError(f"the input has the shape {tuple(x.shape)}: {wanted} with at least one pixel is taken")
    if not x.is_floating_point():
        raise InputError(f"the input is {x.dtype}: convert it to float in [0, 1] first")
    if x.is_meta:
        raise InputError("the input is on the device meta, without values: make it on cpu or where the network is")
    least, greatest = (float(value) for value in x.detach().aminmax())
    if not (least >= _LEAST and greatest <= _GREATEST):  # NaN, too
        raise InputError(
            f"the input's values are {least:g} to {greatest:g}: [0, 1] is accepted, black to white: divide values of "
            "8 bits by 255"
        )
    return x


def _is_hat(network: object) -> TypeGuard[HAT]:
    """True for a module with a HATConfig as `config`: a HAT, also one that torch.compile returned."""
    return isinstance(network, torch.nn.Module) and isinstance(getattr(network, "config", None), HATConfig)


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
