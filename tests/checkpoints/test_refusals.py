"""Files that are not the weights of a HAT: each is refused with a sentence that says what it is."""

import dataclasses
import json
import pickle
import struct
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cli.running import run
from hat_sr.checkpoints import official
from hat_sr.checkpoints.checkpoint import build_model, read_checkpoint, save_model
from hat_sr.errors import WeightsError
from hat_sr.inference.open import open_network
from model.tiny import tiny_model


def _official_state(model):
    return official.with_indices(model.state_dict(), model.config)


def _save_pth(path, content):
    torch.save(content, path)
    return path


class _Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "a JPEG image"),
        (b"<!DOCTYPE html><html>Google Drive can't scan</html>", "a web page"),
        (b"\n  <html></html>", "a web page"),
        (b'<?xml version="1.0"?><net name="hat">', "an XML file, such as OpenVINO's"),
        (b'{"library_name": "hat-sr"}', "a JSON file"),
        (b"\x1f\x8b\x08" + bytes(50), "a gzip archive: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"hello, this is only a text", "of an unknown kind"),
        (b"\x00", "of an unknown kind"),
        (struct.pack("<Q", 1000) + b'{"a":', "safetensors file cut short or damaged"),
        (b"\x80\x02}q\x00(X\x06\x00\x00\x00param", "cut short or damaged"),
        (pickle.dumps({"params": _Bomb()}, protocol=2), "would run code when opened"),
        (b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", r"more than tensors \(a bytearray\)"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_wrong_files(tmp_path, content, says):
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=says) as caught:
        read_checkpoint(tmp_path / "net.pth")
    assert str(tmp_path / "net.pth") in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(WeightsError, match="there is no such file"):
        read_checkpoint(tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="it is a folder"):
        read_checkpoint(tmp_path)


def test_pickle_that_runs_code(tmp_path):
    path = _save_pth(tmp_path / "net.pth", {"params_ema": {**tiny_model().state_dict(), "more": _Bomb()}})
    with pytest.raises(WeightsError, match=r"would run code when opened.*exec"):
        read_checkpoint(path)


@pytest.fixture(params=[partial(pickle.dump, protocol=2), torch.save])
def payload(request, tmp_path):
    """Weights that make a file when they are unpickled, as plain pickle and `weights_only=False` are shown to do."""
    made = tmp_path / "made"
    weights = tmp_path / "net.pth"
    content = {"params_ema": tiny_model().state_dict(), "more": _Toucher(made)}
    with weights.open("wb") as file:
        request.param(content, file)
    if request.param is torch.save:
        torch.load(weights, weights_only=False)
    else:
        pickle.loads(weights.read_bytes())
    assert made.exists()
    made.unlink()
    return weights, made


class _Toucher:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_payload_makes_no_file(payload):
    weights, made = payload
    for read in (read_checkpoint, open_network):
        with pytest.raises(WeightsError, match="would run code when opened"):
            read(str(weights))
    assert not made.exists()


@pytest.mark.parametrize("command", [("info",), ("upscale", "a.png", "-m")])
def test_a_payload_makes_no_file_from_the_command_line(payload, monkeypatch, capsys, command):
    weights, made = payload
    assert run(monkeypatch, *command, weights) == 2
    assert "would run code when opened" in capsys.readouterr().err
    assert not made.exists()


def _safetensors(path, header, data=bytes(64), length=None):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def _tensor(start, end, shape=(16,), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({"a": _tensor(0, 64)}, 2**63),  # longer than any memory
        ({"a": _tensor(0, 64)}, 10**9),  # longer than the file
        ({"a": _tensor(0, 64)}, 3),  # shorter than it is
        ({"a": _tensor(0, 2**40)}, None),  # data that is not there
        ({"a": _tensor(0, 64, (2**40,))}, None),  # more values than data
        ({"a": _tensor(0, 64, (2**33, 2**33))}, None),  # a number of values beyond 64 bits
        ({"a": _tensor(64, 0)}, None),  # an end before its start
        ({"a": _tensor(-64, 0)}, None),  # data before the file's
        ({"a": _tensor(0, 64), "b": _tensor(0, 64)}, None),  # two tensors on one piece of data
        ({"a": _tensor(0, 32, (8,))}, None),  # data that is no tensor's
        ({"a": _tensor(0, 64, dtype="F999")}, None),
        ({"a": 3}, None),
    ],
)
def test_safetensors_whose_header_lies(tmp_path, header, length):
    with pytest.raises(WeightsError, match="safetensors file cut short or damaged"):
        read_checkpoint(_safetensors(tmp_path / "net.safetensors", header, length=length))


def test_safetensors_whose_header_does_not_lie(tmp_path):
    with pytest.raises(WeightsError, match="another network"):
        read_checkpoint(_safetensors(tmp_path / "net.safetensors", {"a": _tensor(0, 64)}))


def test_whole_network_pickled(tmp_path):
    with pytest.raises(WeightsError, match=r"hat_sr\.model\.hat\.HAT.*state_dict\(\) alone"):
        read_checkpoint(_save_pth(tmp_path / "net.pth", tiny_model()))


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("part", [0.01, 0.3, 0.9, 0.999])
def test_truncated(tmp_path, name, part):
    path = tmp_path / name
    save_model(tiny_model(), path, format="official" if name.endswith("pth") else "safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(WeightsError, match="cut short"):
        read_checkpoint(path)


def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        archive.writestr("net/readme.txt", "hello")
    with pytest.raises(WeightsError, match="a ZIP archive, but not of torch"):
        read_checkpoint(tmp_path / "net.zip")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", "")
        archive.writestr("script/constants.pkl", "")
    with pytest.raises(WeightsError, match="a TorchScript program"):
        read_checkpoint(tmp_path / "script.pt")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ([1, 2], "holds a list"),
        ({}, "another network"),
        ({"epoch": 3, "params": 4}, "holds 'epoch', 'params', not a state dict"),
        ({"epoch": 3, "iter": 5, "optimizers": [], "schedulers": []}, r"training state.*net_g"),
        ({"a.weight": torch.zeros(1)}, "another network than HAT: keys such as 'a.weight'"),
        ({"body.0.rdb1.conv1.weight": torch.zeros(1)}, "RRDBNet"),
        ({"params": {"body.0.weight": torch.zeros(1)}}, "SRVGGNetCompact"),
    ],
)
def test_other_contents(tmp_path, content, says):
    with pytest.raises(WeightsError, match=says):
        read_checkpoint(_save_pth(tmp_path / "net.pth", content))


def test_swinir_is_named(tmp_path):
    state = {name: value for name, value in tiny_model().state_dict().items() if "conv_block" not in name}
    state = {name: value for name, value in state.items() if "overlap_attn" not in name}
    with pytest.raises(WeightsError, match="holds weights of SwinIR or a relative of it, not of HAT"):
        read_checkpoint(_save_pth(tmp_path / "net.pth", state))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"norm.bias": None}, r"\(no norm\.bias\)"),
        ({"absolute_pos_embed": torch.zeros(1, 4, 12)}, "absolute_pos_embed, which HAT does not have"),
        ({"norm.bias": torch.zeros(13)}, r"norm\.bias of shape \(13,\) instead of \(12,\)"),
        ({"norm.bias": torch.zeros(12, dtype=torch.int8)}, r"norm\.bias of torch\.int8"),
        (dict.fromkeys(("norm.bias", "norm.weight", "conv_last.bias", "upsample.0.bias")), "and 1 more"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_tensors_must_be_exactly_the_configs(tmp_path, change, says, own):
    model = tiny_model()
    state = {name: value for name, value in {**model.state_dict(), **change}.items() if value is not None}
    if own:
        metadata = {"hat_sr": json.dumps({"config": dataclasses.asdict(model.config), "provenance": {}})}
        save_file(state, tmp_path / "net", metadata=metadata)
    else:
        _save_pth(tmp_path / "net", {"params": state})
    with pytest.raises(WeightsError, match=says):
        build_model(read_checkpoint(tmp_path / "net"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"conv_first.weight": torch.zeros(12)}, r"conv_first\.weight has the shape \(12,\)"),
        ({"conv_last.weight": torch.zeros(3, 0, 3, 3)}, "none of them 0"),
        ({"conv_first.weight": torch.zeros(13, 3, 3, 3)}, "do not make a HAT: .*num_heads 2"),
        ({"conv_last.weight": torch.zeros(3, 99, 3, 3)}, "do not make a HAT: upscale 0"),
    ],
)
def test_shapes_that_cannot_be(tmp_path, change, says):
    with pytest.raises(WeightsError, match=says):
        read_checkpoint(_save_pth(tmp_path / "net.pth", {**tiny_model().state_dict(), **change}))


@pytest.mark.parametrize("name", ["relative_position_index_SA", "relative_position_index_OCA"])
def test_index_tables_must_be_the_configs(tmp_path, name):
    state = _official_state(tiny_model())
    table = state[name].clone()
    state[name] = table.roll(1)
    with pytest.raises(WeightsError, match=f"{name} is not that of window_size 4 and overlap_ratio 0.5"):
        read_checkpoint(_save_pth(tmp_path / "net.pth", state))
    state[name] = table[:-1]
    with pytest.raises(WeightsError, match=name):
        read_checkpoint(_save_pth(tmp_path / "net.pth", state))


def test_index_tables_are_compared_modulo_the_bias_table(tmp_path):
    state = _official_state(tiny_model())
    assert state["relative_position_index_OCA"].min() < 0
    state["relative_position_index_OCA"] %= (4 + 6 - 1) ** 2
    assert build_model(read_checkpoint(_save_pth(tmp_path / "net.pth", state))).config == tiny_model().config


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ("not json", "not as hat-sr writes it"),
        ("{}", "not as hat-sr writes it"),
        ('{"config": 3, "provenance": {}}', "not as hat-sr writes it"),
        ('{"config": {"upscale": 5}, "provenance": {}}', "upscale 5 is not one of"),
        ('{"config": {"depths": 3}, "provenance": {}}', "not as hat-sr writes it"),
        ('{"config": {"sparkle": 5}, "provenance": {}}', r"does not know \('sparkle'\): upgrade"),
        ("[" * 100_000, "not as hat-sr writes it"),
        ('{"config": {}, "provenance": ' + '{"a":' * 50_000 + "1" + "}" * 50_001, "not as hat-sr writes it"),
        ("9" * 5000, "not as hat-sr writes it"),
    ],
)
def test_metadata_that_cannot_be(tmp_path, metadata, says):
    save_file(tiny_model().state_dict(), tmp_path / "net.safetensors", metadata={"hat_sr": metadata})
    with pytest.raises(WeightsError, match=says):
        read_checkpoint(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"norm.bias": torch.tensor([float("nan")] * 12)}, r"its norm\.bias holds NaN, infinity or numbers beyond"),
        ({"norm.bias": torch.full((12,), float("inf"), dtype=torch.float16)}, r"norm\.bias holds NaN, infinity"),
        ({"norm.bias": torch.full((12,), 1e308, dtype=torch.float64)}, "numbers beyond float32"),
        ({"norm.bias": torch.zeros(12, dtype=torch.complex64)}, r"norm\.bias is of torch\.complex64"),
        ({"norm.bias": torch.zeros(12).to(torch.float8_e4m3fn)}, "float8_e4m3fn"),
        ({"norm.bias": torch.zeros(12, device="meta")}, r"without numbers \(device meta\)"),
        ({"norm.bias": torch.eye(12).to_sparse()}, "a sparse tensor"),
        ({"norm.bias": torch.zeros(1).expand(10**12)}, "claim .* bytes of numbers, which a file of .* does not hold"),
        ({"relative_position_index_SA": torch.zeros(16, 16)}, "relative_position_index_SA is not that of window_size"),
        ({"a\x1b[31mb": torch.zeros(3)}, r"\(a \[31mb, which HAT does not have\)"),
        ({f"layers.{number}.residual_group.blocks.0.x": torch.zeros(1) for number in range(1, 3000)}, "no layers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tensors_that_are_no_plain_numbers(tmp_path, change, says):
    path = _save_pth(tmp_path / "net.pth", {"params": {**tiny_model().state_dict(), **change}})
    with pytest.raises(WeightsError, match=says):
        build_model(read_checkpoint(path))


def test_a_part_of_an_archive_that_is_shorter_than_its_pickle_says(tmp_path):
    torch.save({"params": tiny_model().state_dict()}, tmp_path / "long.pth")
    with zipfile.ZipFile(tmp_path / "long.pth") as whole, zipfile.ZipFile(tmp_path / "net.pth", "w") as short:
        for entry in whole.infolist():
            data = whole.read(entry)
            short.writestr(entry.filename, data[:4] if entry.filename.endswith("data/0") else data)
    with pytest.raises(WeightsError, match="cut short or damaged"):
        read_checkpoint(tmp_path / "net.pth")


def test_an_archive_that_grows_when_it_is_unpacked(tmp_path):
    torch.save({"params": {"a": torch.zeros(10**6)}}, tmp_path / "long.pth")
    with (
        zipfile.ZipFile(tmp_path / "long.pth") as whole,
        zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    with pytest.raises(WeightsError, match="its parts are compressed"):
        read_checkpoint(tmp_path / "net.pth")


@pytest.mark.parametrize(
    "setting",
    [
        {"embed_dim": 12_000},
        {"embed_dim": 12.0},
        {"embed_dim": "12"},
        {"embed_dim": True},
        {"embed_dim": 10**30},
        {"in_chans": 10**9},
        {"in_chans": 60_000},
        {"depths": [20_000]},
        {"depths": [2] * 500_000},
        {"depths": "22"},
        {"depths": [[2]]},
        {"depths": {"2": 2}},
        {"num_heads": [None]},
        {"window_size": 4096},
        {"overlap_ratio": 1e6, "use_ocab": False},
        {"mlp_ratio": 1e308},
        {"mlp_ratio": 5000},
        {"mlp_ratio": "2"},
        {"img_range": 1e308},
        {"conv_scale": 10**400},
        {"drop_path_rate": None},
        {"mean": ["a", "b", "c"]},
        {"mean": 1e308},
        {"use_cab": "no"},
        {"num_feat": 65_000},
        {"compress_ratio": float("nan")},
        {"x" * 100_000: 1},
    ],
    ids=lambda setting: str(setting)[:40],
)
def test_a_config_that_is_not_believed(tmp_path, monkeypatch, capsys, setting):
    """Refused before a network of that size is made, by `hat-sr info` too, in a line."""
    config = dataclasses.asdict(tiny_model().config) | setting
    metadata = {"hat_sr": json.dumps({"config": config, "provenance": {}})}
    save_file(tiny_model().state_dict(), tmp_path / "net.safetensors", metadata=metadata)
    monkeypatch.setattr("hat_sr.checkpoints.checkpoint.HAT", None)
    with pytest.raises(WeightsError, match=r"net\.safetensors: its (metadata|tensors|config)"):
        read_checkpoint(tmp_path / "net.safetensors")
    assert run(monkeypatch, "info", tmp_path / "net.safetensors") == 2
    said = capsys.readouterr().err
    assert said.startswith("hat-sr: ") and said.count("\n") == 1 and len(said) < 1000


def test_text_of_a_file_controls_no_terminal(tmp_path, monkeypatch, capsys):
    save_model(tiny_model(), tmp_path / "net.safetensors", provenance={"da\x1bta": "\x1b[31mred\n" + "x" * 5000})
    assert run(monkeypatch, "info", tmp_path / "net.safetensors") == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and " [31mred " in printed and "x" * 1000 not in printed


@pytest.mark.filterwarnings("ignore")  # torch says of all three that they are beta, or on their way out
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: torch.eye(12).to_sparse_csr(), "a sparse tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(12), 0.1, 0, torch.qint8), r"of torch\.qint8"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "a nested tensor|cannot be|damaged"),
    ],
)
def test_rare_tensors(tmp_path, make, says):
    path = _save_pth(tmp_path / "net.pth", {"params": {**tiny_model().state_dict(), "norm.bias": make()}})
    with pytest.raises(WeightsError, match=says):
        read_checkpoint(path)
