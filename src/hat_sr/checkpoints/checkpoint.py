"""Networks from files and to files: reads and writes the released format and our own, strict to the last tensor."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hat_sr.checkpoints import official, storage
from hat_sr.checkpoints.wrappers import read_state, shown, some
from hat_sr.errors import ConfigError, InputError, WeightsError
from hat_sr.model.config import HATConfig
from hat_sr.model.cost import num_parameters
from hat_sr.model.hat import HAT

Format = Literal["safetensors", "official"]

SUFFIXES: dict[Format, str] = {"safetensors": ".safetensors", "official": ".pth"}
"""How files are named: other programs go by it."""

METADATA_KEY = "hat_sr"
"""The one key of our files' metadata, under which a `description` stands."""

NETWORK_KEY = "hat_sr_network"
"""The key instead where `hat_sr.train` wrote another network: JSON with `entry`, `arguments` and `provenance`."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a file of weights holds, finite numbers. Whether they fit the config exactly is checked by `build_model`."""

    path: Path
    format: Format
    """"safetensors" if the file states its own config; "official" if the config was inferred."""
    config: HATConfig
    state: Mapping[str, Tensor] = field(repr=False)
    """The parameters on the CPU, in the dtype they are stored in."""
    provenance: Mapping[str, str]
    """Where the weights come from, as the file says: data, steps, licence. Empty in the official format."""

    @property
    def num_parameters(self) -> int:
        """How many numbers were learnt."""
        return sum(value.numel() for value in self.state.values())


def read_checkpoint(
    path: str | PathLike[str],
    *,
    conv_scale: float | None = None,
    img_range: float | None = None,
    mean: Sequence[float] | None = None,
) -> Checkpoint:
    """Read a file of weights, official (`.pth`, or its keys in safetensors) or ours (safetensors with the config).

    The official format tells neither conv_scale nor img_range nor the mean: None takes the published value. Some forks
    train with a mean of (0.5, 0.5, 0.5), which a file does not show. Never runs code from the file.

    Raises WeightsError if the file is not a HAT's or is damaged, ConfigError if an argument contradicts what our own
    file states.
    """
    path = Path(path)
    given = {"conv_scale": conv_scale, "img_range": img_range, "mean": None if mean is None else tuple(mean)}
    try:
        state, metadata = read_state(path)
        if NETWORK_KEY in metadata:
            raise WeightsError(
                "it holds weights of a recipe's [network], which hat-sr trains and validates; those of spandrel "
                "(RCAN, SwinIR and others) run where that is installed"
            )
        if METADATA_KEY in metadata:
            file_format: Format = "safetensors"
            config, provenance = read_description(metadata[METADATA_KEY])
        else:
            file_format, provenance = "official", {}
            config = official.infer_config(state, conv_scale=conv_scale, img_range=img_range, mean=mean)
            state = official.without_indices(state, config)
        _check_size(config, state)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    for name, value in given.items():
        if value is not None and value != getattr(config, name):
            raise ConfigError(
                f"{path} states {name} {getattr(config, name)}, but {value} was asked for: leave the argument out"
            )
    return Checkpoint(path=path, format=file_format, config=config, state=state, provenance=provenance)


def build_model(
    checkpoint: Checkpoint, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> HAT:
    """The network of a checkpoint, in eval mode, with its weights converted to `dtype` and moved to `device`.

    Raises WeightsError if the checkpoint holds anything but exactly the tensors of its config.
    """
    # The initial values are overwritten: leave the caller's generator alone, and his device, which may be "meta".
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        model = HAT(checkpoint.config).to(dtype)
    if faults := _faults(checkpoint.state, model.state_dict()):
        more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsError(
            f"{checkpoint.path}: its tensors are not those of a HAT as published ({'; '.join(faults[:3])}{more}): it "
            "is of a variant, or incomplete"
        )
    model.load_state_dict(dict(checkpoint.state))
    return model.to(device).eval()


def save_model(
    model: HAT,
    path: str | PathLike[str],
    *,
    format: Format = "safetensors",  # noqa: A002 (the word users look for)
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Write a network's weights, in their dtype. The file appears whole or not at all.

    "safetensors" (`.safetensors`) states the config and the provenance in its metadata. "official" (`.pth`) is the
    released format, which spandrel, chaiNNer and the official code read.

    Raises ConfigError if the official format cannot carry the network's config, InputError if the name's ending is not
    the format's, or if provenance is given with the official format, which has no place for it.
    """
    path = Path(path)
    if format not in SUFFIXES:
        raise InputError(f"format {format!r} is not one of {', '.join(SUFFIXES)}")
    if path.suffix.lower() != SUFFIXES[format]:
        raise InputError(f"{path}: the name of a file in the {format} format ends in {SUFFIXES[format]}")
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if format == "safetensors":
        storage.write_safetensors(path, state, {METADATA_KEY: description(model.config, provenance or {})})
        return
    if obstacles := official.obstacles(model.config):
        raise ConfigError(f"the official format cannot carry this network: {'; '.join(obstacles)}. Save as safetensors")
    if provenance:
        raise InputError("the official format has no place for provenance: leave it out, or save as safetensors")
    storage.write_pickle(path, {"params_ema": official.with_indices(state, model.config)})


def config_from(settings: Mapping[str, object]) -> HATConfig:
    """The config of settings by name, as JSON gives them.

    Raises WeightsError for an unknown name, ConfigError or TypeError for a value that cannot be.
    """
    known = {setting.name for setting in dataclasses.fields(HATConfig)}
    if unknown := settings.keys() - known:
        raise WeightsError(f"its config has settings this version does not know ({some(unknown)}): upgrade")
    return HATConfig(**dict(settings))  # type: ignore[arg-type]


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over the names, kinds, shapes and values of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}:".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def description(config: HATConfig, provenance: Mapping[str, str]) -> str:
    """What a file says of its network: JSON with `config` and `provenance`."""
    return json.dumps({"config": dataclasses.asdict(config), "provenance": dict(provenance)}, ensure_ascii=False)


def read_description(text: str) -> tuple[HATConfig, dict[str, str]]:
    """The config and the provenance of a `description`. Raises WeightsError, without the file's name, for another."""
    try:
        content = json.loads(text)
        config, provenance = config_from(dict(content["config"])), dict(content["provenance"])
        return config, {str(name): str(value) for name, value in provenance.items()}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"its metadata, under {METADATA_KEY!r}, is not as hat-sr writes it: {error}") from error


def _check_size(config: HATConfig, state: Mapping[str, Tensor]) -> None:
    """Raise WeightsError if the network of that config has more than twice the numbers that are there.

    So no file can ask for more memory than a multiple of its own size.
    """
    wanted, there = num_parameters(config), sum(value.numel() for value in state.values())
    if wanted > 2 * there:
        raise WeightsError(
            f"its tensors are not those of a HAT as published: they hold {there:,} numbers, and a network of its "
            f"config has {wanted:,}. It is incomplete or damaged"
        )


def _faults(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Each tensor that is missing, too many, or of another shape or kind than expected."""
    faults = [f"no {name}" for name in expected if name not in state]
    faults += [f"{shown(name)}, which HAT does not have" for name in state if name not in expected]
    for name, value in state.items():
        if name in expected and value.shape != expected[name].shape:
            faults.append(f"{name} of shape {tuple(value.shape)} instead of {tuple(expected[name].shape)}")
        elif not value.is_floating_point():
            faults.append(f"{name} of {value.dtype} instead of floating-point numbers")
    return faults
