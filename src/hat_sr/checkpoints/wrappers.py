"""The weights in a loaded file, out of whatever the program that wrote it has wrapped around them."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from hat_sr.checkpoints.storage import read_file
from hat_sr.errors import WeightsError

State = dict[str, Tensor]

WRAPPERS = (
    *("params_ema", "params-ema", "model_ema", "ema_model", "state_dict_ema", "generator_ema", "g_ema", "ema"),
    "params",  # BasicSR's plain weights, beside its params_ema
    *("module", "_forward_module"),  # DataParallel, DistributedDataParallel, AveragedModel, DeepSpeed; Fabric
    *("model_state_dict", "state_dict", "generator", "netG", "net_g", "G", "online_model"),
    *("model", "network", "net", "weights"),
)
"""What programs keep a network under, best first: averaged weights before plain ones.

Each may be the key of a dictionary that holds the state dict, or stand before the names of the weights with a dot.
"""

_INSIDE = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpointing put in, before any part of a name."""

_DEPTH = 8
"""How many wrappers may be around each other."""

_FIRST = "conv_first.weight"
"""A parameter of HAT and its relatives, by which it shows which names are the network's."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def read_state(path: Path) -> tuple[State, dict[str, str]]:
    """The weights in a file, on the CPU, under the network's own names, and the file's metadata (see `read_file`).

    Each is a plain tensor of finite numbers, and all together are no larger than the file.
    Raises WeightsError, without the path, for anything else.
    """
    content, metadata = read_file(path)
    state = unwrap(content)
    _check(state, num_bytes=path.stat().st_size)
    return state, metadata


def unwrap(loaded: object) -> State:
    """The state dict in what was loaded, without WRAPPERS. Raises WeightsError if there is none."""
    if not isinstance(loaded, dict):
        raise WeightsError(f"it holds a {type(loaded).__name__}, not a state dict: save the network's state_dict()")
    if {"network", "averaged", "optimizer"} <= loaded.keys():
        raise WeightsError(
            "it is a training state, not weights: use weights.safetensors (or stopped.safetensors) beside it"
        )
    content = loaded
    for _ in range(_DEPTH):
        inner = next(
            (content[name] for name in WRAPPERS if isinstance(content.get(name), dict) and content[name]), None
        )
        if inner is None:
            break
        content = inner
    if content is loaded and "optimizers" in loaded:
        raise WeightsError("it is a training state, not weights: use the file of the network (net_g_….pth) beside it")
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(
            f"it holds {some(map(str, content))}, not a state dict: the tensors must be under "
            "params_ema, params, state_dict or another usual name, or at the top"
        )
    return _without_prefixes({str(name): value for name, value in content.items()})


def _without_prefixes(wrapped: State) -> State:
    state = {_INSIDE.sub("", name): value for name, value in wrapped.items()}
    if len(state) < len(wrapped):
        raise WeightsError("it holds some weights twice, with and without _orig_mod: save the network's state_dict()")
    for _ in range(_DEPTH):
        if _FIRST in state:
            break
        prefix = next((f"{name}." for name in WRAPPERS if _stands_before(f"{name}.", state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return state


def _stands_before(prefix: str, state: State) -> bool:
    """Whether a prefix is before the network's names: a known one among them, or all, which are not numbers then.

    An nn.Sequential of that name has numbers: ESRGAN's is called model.
    """
    inside = [name[len(prefix) :] for name in state if name.startswith(prefix)]
    return any(name.endswith(_FIRST) for name in inside) or (
        0 < len(inside) == len(state) and not any(name[:1].isdigit() for name in inside)
    )


def _check(state: State, *, num_bytes: int) -> None:
    """Raise WeightsError unless all are plain tensors of finite numbers, and together of `num_bytes` at most."""
    for name, value in state.items():
        if (kind := _unusual(value)) is not None:
            raise WeightsError(f"its {shown(name)} is {kind}: weights are plain tensors of floating-point numbers")
    total = sum(value.numel() * value.element_size() for value in state.values())
    if total > num_bytes:
        raise WeightsError(
            f"its tensors claim {total:,} bytes of numbers, which a file of {num_bytes:,} bytes does not hold: they "
            "are expanded or damaged. Save contiguous copies of them"
        )
    for name, value in state.items():
        if value.is_floating_point() and not value.float().isfinite().all():
            raise WeightsError(
                f"its {shown(name)} holds NaN, infinity or numbers beyond float32: the training that wrote it had "
                "failed, or the file is damaged. Use an earlier file"
            )


def _unusual(value: Tensor) -> str | None:
    """What kind of tensor it is, in words; None for a plain one."""
    if type(value) not in (Tensor, nn.Parameter):
        return f"a {type(value).__name__}"
    if value.is_nested:
        return "a nested tensor"
    if value.layout != torch.strided:
        return "a sparse tensor"
    if value.is_meta or value.device.type != "cpu":
        return f"without numbers (device {value.device.type})"
    if value.is_quantized or value.dtype not in (*_FLOATS, *_INTEGERS):
        return f"of {value.dtype}"
    return None


def some(names: Iterable[object]) -> str:
    """The first names of many, in quotes."""
    listed = sorted(map(str, names))
    return (
        ", ".join(repr(name[:60]) for name in listed[:3]) + (", …" if len(listed) > 3 else "") if listed else "nothing"
    )


def shown(text: str, *, width: int = 80) -> str:
    """A text of a file as it may be printed: of so many characters at most, none of which controls a terminal."""
    line = "".join(char if char.isprintable() else " " for char in text[:width])
    return line if len(text) <= width else f"{line}…"
