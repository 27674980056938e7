import sys

import numpy as np
import pytest

from cli.running import run, write_noise
from hat_sr import save_model
from hat_sr.image.io import read_image


@pytest.fixture
def call(exported, tmp_path, monkeypatch):
    """`hat-sr WORDS` in a folder with the tiny network's weights, which torch need not export again."""
    exported.instead_of_torch(monkeypatch)
    monkeypatch.chdir(tmp_path)
    save_model(exported.model, tmp_path / "tiny.safetensors", provenance={"title": "tiny"})
    return lambda *words: run(monkeypatch, *words)


@pytest.mark.parametrize(("name", "files"), [("a.onnx", ["a.onnx"]), ("a.xml", ["a.xml", "a.bin"])])
def test_export(call, tmp_path, capsys, name, files):
    assert call("export", "tiny.safetensors", "-o", name) == 0
    assert capsys.readouterr().out.startswith(f"{files[0]} (0.")
    assert {path.name for path in tmp_path.iterdir()} == {*files, "tiny.safetensors"}
    assert call("export", "tiny.safetensors", "-o", name) == 2
    assert f"{name} is already there" in capsys.readouterr().err
    assert call("export", "tiny.safetensors", "-o", name, "--overwrite") == 0


def test_the_bin_is_not_overwritten_unasked(call, tmp_path, capsys):
    (tmp_path / "a.bin").write_text("mine")
    assert call("export", "tiny.safetensors", "-o", "a.xml") == 2
    assert "a.bin is already there" in capsys.readouterr().err
    assert (tmp_path / "a.bin").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tiny.safetensors", "-o", "a.pth"), "exported networks are .onnx and .xml files"),
        (("none.safetensors", "-o", "a.onnx"), "no such file"),
        (("tiny.safetensors", "-o", "a.onnx", "--precision", "bf16"), 'Choose from: "fp32", "fp16"'),
    ],
)
def test_a_wrong_call(call, capsys, words, message):
    assert call("export", *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (4, "uint8"), (3, "uint16")])
def test_all_runtimes_make_the_same_of_a_picture(call, exported, tmp_path, channels, dtype):
    source = tmp_path / "in/a.png"
    write_noise(source, 9, 13, channels, dtype)
    ways = {
        "torch": ("-m", "tiny.safetensors", "--precision", "fp32"),
        "onnx": ("-m", exported.onnx),
        "xml": ("-m", exported.xml),
        "onnxruntime": ("-m", "tiny.safetensors", "--runtime", "onnxruntime"),
        "openvino": ("-m", "tiny.safetensors", "--runtime", "openvino", "--self-ensemble"),
    }
    for name, words in ways.items():
        assert call("upscale", source, "-o", f"{name}.png", *words) == 0
    expected = read_image("torch.png").pixels
    assert expected.shape == (18, 26, channels)
    for name in ("onnx", "xml", "onnxruntime"):
        pixels = read_image(f"{name}.png").pixels
        assert pixels.dtype == expected.dtype
        assert np.abs(pixels.astype(int) - expected).max() <= (1 if dtype == "uint8" else 3)
    assert (read_image("openvino.png").pixels != expected).any()  # an ensemble, in the same way


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m", "text.onnx"), "text.onnx: no network that ONNX Runtime can open"),
        (("-m", "none.xml"), "none.xml: there is no such file"),
        (("-m", "text.onnx", "--runtime", "openvino"), "'openvino' does not run text.onnx, onnxruntime does"),
        (("-m", "text.onnx", "--runtime", "torch"), "'torch' does not run text.onnx"),
        (("-m", "tiny.safetensors", "--runtime", "onnxruntime", "--precision", "bf16"), "none that onnxruntime"),
        (("-m", "tiny.safetensors", "--runtime", "openvino", "--device", "cuda"), "tiny.safetensors runs on the CPU"),
        (("-m", "bicubic", "--runtime", "openvino"), "runtime 'openvino' is for HAT, and bicubic is none"),
    ],
)
def test_what_cannot_run(call, tmp_path, capsys, words, message):
    (tmp_path / "text.onnx").write_text("no network")
    write_noise(tmp_path / "a.png")
    assert call("upscale", "a.png", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a_x2.png").exists()


def test_without_the_extra(call, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    write_noise(tmp_path / "a.png")
    assert call("upscale", "a.png", "-m", "tiny.safetensors", "--runtime", "openvino") == 1
    assert "pip install 'hat-sr[export]'" in capsys.readouterr().err
