"""What programs wrap around weights: each way comes off, and what is not the network's is left."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hat_sr.checkpoints.checkpoint import build_model, read_checkpoint
from hat_sr.checkpoints.wrappers import unwrap
from hat_sr.errors import WeightsError
from model.tiny import tiny_model


def _named(prefix):
    return {f"{prefix}{name}": value for name, value in tiny_model().state_dict().items()}


OTHER = {"conv0.weight": torch.zeros(1)}

WRAPPED = {
    "torch.compile": _named("_orig_mod."),
    "DistributedDataParallel of it": _named("module._orig_mod."),
    "it of DistributedDataParallel": _named("_orig_mod.module."),
    "compiled blocks": {
        name.replace("residual_group.", "_orig_mod.residual_group._fsdp_wrapped_module."): value
        for name, value in _named("").items()
    },
    "a container in the names": _named("params_ema."),
    "two of them, the average is taken": {
        **{name: value * 0 for name, value in _named("params.").items()},
        **_named("params_ema."),
    },
    "Lightning": {"epoch": 3, "state_dict": _named("model."), "optimizer_states": [{"state": {}}]},
    "a GAN in Lightning": {
        "state_dict": {**_named("generator."), **{f"discriminator.{name}": value for name, value in OTHER.items()}}
    },
    "AveragedModel": {"n_averaged": torch.tensor(5), **_named("module.")},
    "ema_pytorch": {
        "initted": torch.tensor(True),
        **_named("ema_model."),
        **{name: value * 0 for name, value in _named("online_model.").items()},
    },
    "model": {"model": _named(""), "epoch": 4},
    "nested": {"model": {"params": {}, "params_ema": _named("module.model.")}},
    "generator": {"generator": _named(""), "discriminator": OTHER},
    "params-ema": {"params-ema": _named("net_g."), "params": OTHER},
    "parameters": {"state_dict": {name: nn.Parameter(value) for name, value in _named("").items()}},
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_every_wrapper_comes_off(tmp_path, how, name):
    """Whatever the file is called: a pickle named .safetensors is intact, too."""
    torch.save(WRAPPED[how], tmp_path / name)
    model = build_model(read_checkpoint(tmp_path / name))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in tiny_model().state_dict().items())


def test_prefixes_in_safetensors(tmp_path):
    save_file(_named("module._orig_mod."), tmp_path / "net.safetensors")
    assert build_model(read_checkpoint(tmp_path / "net.safetensors")).config == tiny_model().config


def test_names_of_another_network_stay():
    """ESRGAN's are `model.` and a number; RCAN's have no word in common."""
    esrgan = {"model.0.weight": torch.zeros(1), "model.1.sub.0.RDB1.conv1.0.weight": torch.zeros(1)}
    assert unwrap({"state_dict": esrgan}) == esrgan
    assert unwrap(OTHER | {"net.0.weight": torch.zeros(1)}).keys() == {"conv0.weight", "net.0.weight"}


def test_weights_there_twice_are_refused():
    with pytest.raises(WeightsError, match="twice, with and without _orig_mod"):
        unwrap({"conv_first.weight": torch.zeros(1), "_orig_mod.conv_first.weight": torch.zeros(1)})


def test_wrappers_without_end():
    name = "module." * 100_000 + "conv_first.weight"
    assert len(unwrap({name: torch.zeros(1)})) == 1
    deep = {}
    for _ in range(200):
        deep = {"model": deep, "epoch": 1}
    with pytest.raises(WeightsError, match="not a state dict"):
        unwrap(deep)
