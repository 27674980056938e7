"""Reading and writing weights: what must come back, and how files are written. (test_refusals.py has the rest.)"""

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from goldens.formula import image
from hat_sr.checkpoints import official
from hat_sr.checkpoints.checkpoint import build_model, read_checkpoint, save_model, weights_digest
from hat_sr.errors import ConfigError, InputError, WeightsError
from hat_sr.model.config import PRESETS, HATConfig
from hat_sr.model.hat import HAT
from model.tiny import TINY, tiny_model


def _official_state(model):
    return official.with_indices(model.state_dict(), model.config)


def _save_pth(path, content):
    torch.save(content, path)
    return path


def _load(path, **arguments):
    return build_model(read_checkpoint(path, **arguments))


def _assert_same_network(one, other):
    assert one.config == other.config
    assert not other.training
    x = image((1, one.config.in_chans, one.config.window_size, 2 * one.config.window_size))
    with torch.no_grad():
        assert torch.equal(one(x), other(x))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upscale": 1},
        {"upscale": 3},
        {"upscale": 4},
        {"upscale": 8},
        {"in_chans": 1},
        {"in_chans": 6},
        {"embed_dim": 24, "num_heads": (3,)},
        {"depths": (1, 3), "num_heads": (1, 4)},
        {"window_size": 8},
        {"overlap_ratio": 0.0},
        {"window_size": 8, "overlap_ratio": 0.25},
        {"compress_ratio": 12},
        {"squeeze_factor": 2},
        {"mlp_ratio": 1.25},
        {"num_feat": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("file_format", ["official", "safetensors"])
def test_config_and_weights_come_back(tmp_path, changes, file_format):
    model = tiny_model(**changes)
    path = tmp_path / {"official": "net.pth", "safetensors": "net.safetensors"}[file_format]
    save_model(model, path, format=file_format)
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == file_format
    assert checkpoint.num_parameters == sum(value.numel() for value in model.parameters())
    _assert_same_network(model, build_model(checkpoint))


@pytest.mark.parametrize(
    "changes",
    [
        {"conv_scale": 0.5},
        {"img_range": 255.0},
        {"mean": (0.5, 0.5, 0.5)},
        {"drop_path_rate": 0.0},
        {"use_cab": False},
        {"use_channel_attention": False},
        {"use_ocab": False},
    ],
    ids=str,
)
def test_own_format_carries_what_shapes_do_not_tell(tmp_path, changes):
    model = tiny_model(**changes)
    save_model(model, tmp_path / "net.safetensors")
    _assert_same_network(model, _load(tmp_path / "net.safetensors"))


@pytest.mark.parametrize("preset", PRESETS)
def test_published_sizes_are_inferred(preset):
    config = PRESETS[preset]
    shallow = dataclasses.replace(config, depths=(1,) * len(config.depths))  # the same shapes, built faster
    assert official.infer_config(_official_state(HAT(shallow))) == shallow


@given(st.integers(2, 63), st.integers(0, 40), st.integers(1, 8).map(lambda number: 12 * number), st.integers(1, 900))
@settings(max_examples=300, deadline=None)
def test_ratios_lead_back_to_the_sizes(window_size, half_overlap, embed_dim, hidden):
    assert int(window_size * official._ratio(2 * half_overlap, window_size)) == 2 * half_overlap
    assert int(embed_dim * official._ratio(hidden, embed_dim)) == hidden


@pytest.mark.parametrize("container", ["params_ema", "params", None])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("indices", [True, False])
def test_official_variants(tmp_path, container, prefix, indices):
    model = tiny_model()
    state = _official_state(model) if indices else model.state_dict()
    state = {prefix + name: value for name, value in state.items()}
    path = _save_pth(tmp_path / "net.pth", state if container is None else {container: state})
    _assert_same_network(model, _load(path))


def test_moving_average_is_preferred(tmp_path):
    model, other = tiny_model(), tiny_model()
    torch.nn.init.zeros_(other.conv_last.weight)
    path = _save_pth(tmp_path / "net.pth", {"params": other.state_dict(), "params_ema": model.state_dict()})
    _assert_same_network(model, _load(path))


def test_legacy_torch_file(tmp_path):
    model = tiny_model()
    torch.save({"params": model.state_dict()}, tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    _assert_same_network(model, _load(tmp_path / "net.pth"))


def test_name_of_the_file_does_not_matter(tmp_path):
    model = tiny_model()
    save_model(model, tmp_path / "net.safetensors")
    _assert_same_network(model, _load((tmp_path / "net.safetensors").rename(tmp_path / "net.pth")))


def test_official_keys_in_safetensors(tmp_path):
    model = tiny_model()
    save_file(_official_state(model), tmp_path / "net.safetensors")
    assert read_checkpoint(tmp_path / "net.safetensors").format == "official"
    _assert_same_network(model, _load(tmp_path / "net.safetensors"))


def test_arguments_fill_in_what_the_official_format_does_not_tell(tmp_path):
    model = tiny_model(conv_scale=0.5, img_range=255.0, mean=(0.5, 0.5, 0.5))
    path = _save_pth(tmp_path / "net.pth", model.state_dict())
    assert _load(path).config == HATConfig(**TINY)
    _assert_same_network(model, _load(path, conv_scale=0.5, img_range=255.0, mean=[0.5, 0.5, 0.5]))


def test_argument_that_cannot_be(tmp_path):
    path = _save_pth(tmp_path / "net.pth", tiny_model().state_dict())
    with pytest.raises(ConfigError, match="mean has 2 values for 3 channels"):
        read_checkpoint(path, mean=[0.5, 0.5])


def test_argument_against_the_own_format(tmp_path):
    save_model(tiny_model(), tmp_path / "net.safetensors")
    assert read_checkpoint(tmp_path / "net.safetensors", conv_scale=0.01).config.conv_scale == 0.01
    with pytest.raises(ConfigError, match=r"states conv_scale 0\.01, but 0\.5 was asked for"):
        read_checkpoint(tmp_path / "net.safetensors", conv_scale=0.5)


def test_provenance_comes_back(tmp_path):
    provenance = {"data": "T91 “small”", "steps": "9996"}
    save_model(tiny_model(), tmp_path / "net.safetensors", provenance=provenance)
    assert read_checkpoint(tmp_path / "net.safetensors").provenance == provenance


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(tmp_path, stored):
    save_model(tiny_model().to(stored), tmp_path / "net.safetensors")
    checkpoint = read_checkpoint(tmp_path / "net.safetensors")
    assert {value.dtype for value in checkpoint.state.values()} == {stored}
    model = build_model(checkpoint)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    if stored == torch.float64:
        exact = build_model(checkpoint, dtype=torch.float64)
        assert all(torch.equal(value, checkpoint.state[name]) for name, value in exact.state_dict().items())


def test_loading_leaves_the_random_generator_alone(tmp_path):
    save_model(tiny_model(), tmp_path / "net.safetensors")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    _load(tmp_path / "net.safetensors")
    assert torch.equal(torch.rand(3), expected)


def test_safetensors_are_the_same_bytes_each_time(tmp_path):
    for name in ("one", "two"):
        save_model(tiny_model(), tmp_path / f"{name}.safetensors", provenance={"b": "1", "a": "2"})
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_official_file_has_the_released_index_tables(tmp_path):
    save_model(tiny_model(window_size=16), tmp_path / "net.pth", format="official")
    state = torch.load(tmp_path / "net.pth", weights_only=True)["params_ema"]
    assert state["relative_position_index_SA"].shape == (256, 256)
    index = state["relative_position_index_OCA"]
    assert (index.shape, index.dtype) == ((256, 576), torch.int64)
    assert (index.min().item(), index.max().item()) == (-880, 640)
    # Query (0, 0), key (0, 0): offsets of 16 − 24 + 1 in rows of 39; the neighbouring keys are 1 and 39 further on.
    assert index[0, [0, 1, 24]].tolist() == [-7 * 39 - 7, -7 * 39 - 6, -6 * 39 - 7]


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    save_model(tiny_model(), tmp_path / "net.pth", format="official")
    before = (tmp_path / "net.pth").read_bytes()

    def fail_half_way(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail_half_way)
    with pytest.raises(OSError, match="disk full"):
        save_model(tiny_model(), tmp_path / "net.pth", format="official")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
    assert (tmp_path / "net.pth").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conv_scale": 0.02}, r"conv_scale is 0\.02"),
        ({"img_range": 255.0}, r"img_range is 255\.0"),
        ({"mean": (0.5, 0.5, 0.5)}, r"mean is \(0\.5"),
        ({"in_chans": 1, "mean": (0.5,)}, r"mean is \(0\.5,\).*assume \(0\.0,\)"),
        ({"use_cab": False}, "use_cab is False"),
        ({"use_channel_attention": False}, "use_channel_attention is False"),
        ({"use_ocab": False}, "use_ocab is False"),
    ],
)
def test_official_format_refuses_what_it_cannot_carry(tmp_path, changes, reason):
    with pytest.raises(ConfigError, match=reason):
        save_model(tiny_model(**changes), tmp_path / "net.pth", format="official")
    assert not list(tmp_path.iterdir())


def test_official_format_refuses_windows_that_others_do_not_shift():
    assert official.obstacles(HATConfig(window_size=60)) == []
    assert "window_size is 64" in official.obstacles(HATConfig(window_size=64))[0]


def test_save_refuses_other_mistakes(tmp_path):
    model = tiny_model()
    with pytest.raises(InputError, match=r"ends in \.pth"):
        save_model(model, tmp_path / "net.safetensors", format="official")
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        save_model(model, tmp_path / "net.pth")
    with pytest.raises(InputError, match="'onnx' is not one of safetensors, official"):
        save_model(model, tmp_path / "net.onnx", format="onnx")
    with pytest.raises(InputError, match="no place for provenance"):
        save_model(model, tmp_path / "net.pth", format="official", provenance={"data": "DF2K"})
    with pytest.raises(WeightsError, match="does not exist: create it first"):
        save_model(model, tmp_path / "none" / "net.safetensors")


def test_metadata_can_be_read_by_others(tmp_path):
    save_model(tiny_model(), tmp_path / "net.safetensors", provenance={"data": "DF2K"})
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        content = json.loads(file.metadata()["hat_sr"])
    assert content["config"]["embed_dim"] == 12
    assert content["provenance"] == {"data": "DF2K"}


def test_weights_have_a_digest():
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    assert weights_digest(one) != weights_digest(other)
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other) != weights_digest(one.to(torch.bfloat16))
