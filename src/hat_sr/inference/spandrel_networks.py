"""Networks other than HAT, opened by spandrel, from the extra `baselines`.

spandrel asks for torchvision, so it is best kept in an environment of its own.
"""

import inspect
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hat_sr.checkpoints.checkpoint import NETWORK_KEY
from hat_sr.checkpoints.named import label, local_file
from hat_sr.checkpoints.wrappers import read_state
from hat_sr.errors import MissingExtraError, WeightsError, require
from hat_sr.inference.engine import Network


def load_by_spandrel(name: str, error: WeightsError) -> Network:
    """What spandrel makes of a file that, as `error` says, is not HAT's.

    Raises WeightsError: `error` itself for a file that holds no weights at all.
    """
    try:
        state, metadata = read_state(local_file(name))
    except WeightsError:
        raise error from None  # no weights at all
    stated = None
    if NETWORK_KEY in metadata:
        stated = _read_stated(name, metadata[NETWORK_KEY])
        error = WeightsError(f"{name}: it holds weights of {stated.entry}, not of HAT")
    try:
        spandrel = require("spandrel", extra="baselines")
    except MissingExtraError as missing:
        raise WeightsError(f"{error}; to run other networks: pip install 'hat-sr[baselines]'") from missing
    try:
        found = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except Exception as reason:  # it raises what comes
        raise WeightsError(f"{error}; nor does spandrel know it ({type(reason).__name__}: {reason})") from reason
    kind = found.architecture.name
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.purpose != "SR":
        raise WeightsError(f"{name}: spandrel opens it as {kind}, which is not for super-resolution")
    if found.input_channels != found.output_channels:
        raise WeightsError(f"{name}: {kind} makes {found.output_channels} channels of {found.input_channels}")
    if stated is not None:
        _make_as_stated(found.model, stated, state, name)
    supported = {torch.float32: True, torch.bfloat16: found.supports_bfloat16, torch.float16: found.supports_half}
    # Its call pads, which is wanted, and forbids gradients, which maps of attributions need: that wrapper is left out.
    call = inspect.unwrap(type(found).__call__)
    found.eval()

    def run(x: Tensor) -> Tensor:
        out: Tensor = call(found, x.clone())  # a copy: RCAN for one changes its input in place
        return out

    return Network(
        name=label(name),
        title=kind,
        upscale=run,
        scale=found.scale,
        in_chans=found.input_channels,
        size_multiple=found.size_requirements.multiple_of,
        module=found.model,
        dtypes=tuple(dtype for dtype, can in supported.items() if can),
    )


_MOST_NUMBERS = 2**24
"""What a network may hold besides its weights, such as tables and masks."""


class _Limit(TorchDispatchMode):
    """Raises ValueError in its block once more numbers were made than this: sizes are a file's word.

    Not the device meta, on which some networks cannot be made (RCAN, SwinIR).
    """

    def __init__(self, num_left: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._num_left = num_left

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See TorchDispatchMode. Memory is taken when it is filled, which is after it was counted."""
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and not any(isinstance(arg, Tensor) for arg in args):
            self._num_left -= out.numel()
            if self._num_left < 0:
                raise ValueError("it would be much larger than the file")
        return out


class _Stated(NamedTuple):
    """What the file of a recipe's [network] says of it."""

    entry: str
    """Module and class, as module:name."""
    arguments: dict[str, object]


def _read_stated(name: str, text: str) -> _Stated:
    try:
        content = json.loads(text)
        return _Stated(entry=str(content["entry"]), arguments=dict(content["arguments"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(
            f"{name}: its metadata, under {NETWORK_KEY!r}, is not as hat-sr writes it: {error}"
        ) from error


def _make_as_stated(module: nn.Module, stated: _Stated, state: Mapping[str, Tensor], name: str) -> None:
    """Make spandrel's network again by the file's own arguments: it guesses those that no shape tells (RCAN's range).

    Nothing is imported that a file names: its class must be the one that spandrel took by itself.
    """
    module_name, _, class_name = stated.entry.partition(":")
    kind = type(module)
    if kind.__name__ != class_name or not f"{kind.__module__}.".startswith(f"{module_name}."):
        raise WeightsError(
            f"{name}: it holds weights of {stated.entry}, which hat-sr trains and validates but does not run; spandrel "
            f"takes it for its own {kind.__name__}"
        )
    try:
        with _Limit(_MOST_NUMBERS + 4 * sum(value.numel() for value in state.values())):
            module.__init__(**stated.arguments)  # type: ignore[misc]
        made = {key: value.shape for key, value in module.state_dict().items()}
        if made != {key: value.shape for key, value in state.items()}:
            raise ValueError("its tensors have other names or shapes")
        module.load_state_dict(dict(state))
    except Exception as reason:  # a network's constructor raises what comes
        raise WeightsError(
            f"{name}: {stated.entry} cannot be made by the arguments that the file states ({type(reason).__name__}: "
            f"{reason})"
        ) from reason
