"""Exported networks in their runtimes."""

import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from cli.running import run, write_noise
from goldens.formula import image
from hat_sr.checkpoints.checkpoint import METADATA_KEY, description, read_description
from hat_sr.errors import ConfigError, InputError, MissingExtraError, WeightsError
from hat_sr.inference.upscaler import Upscaler
from hat_sr.runtime.session import open_session, session_of
from helpers.exported import PROVENANCE, with_metadata
from model.tiny import tiny_model


@pytest.fixture(params=["onnx", "xml"])
def path(request, exported):
    return getattr(exported, request.param)


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (3, 3, 4, 12), (2, 3, 24, 8), (1, 3, 16, 4)])
def test_agrees_with_torch_at_any_size_of_whole_windows(exported, path, shape):
    x = image(shape)
    session = open_session(path)
    with torch.no_grad():
        torch.testing.assert_close(session.run(x), exported.model(x), rtol=0, atol=2e-5)
        torch.testing.assert_close(session.run(x.mT), exported.model(x.mT), rtol=0, atol=2e-5)


def test_a_result_is_the_callers(path):
    session = open_session(path)
    first = session.run(image((1, 3, 4, 4)))
    kept = first.clone()
    session.run(1 - image((1, 3, 4, 4)))
    assert torch.equal(first, kept)
    assert first.add_(1).isfinite().all()


def test_a_file_says_what_it_is(exported, path):
    session = open_session(path)
    assert read_description(session.metadata[METADATA_KEY]) == (exported.model.config, PROVENANCE)
    assert (session.name, session.precision) == (str(path), "fp32")
    assert session.runtime == {".onnx": "onnxruntime", ".xml": "openvino"}[path.suffix]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_both_take_the_content_of_an_onnx_file(exported, runtime):
    session = session_of(exported.content, name="tiny", metadata={"a": "b"}, runtime=runtime)
    x = image((1, 3, 8, 4))
    with torch.no_grad():
        torch.testing.assert_close(session.run(x), exported.model(x), rtol=0, atol=2e-5)
    assert (session.name, session.metadata) == ("tiny", {"a": "b"})


def test_openvino_in_bf16(exported):
    x = image((1, 3, 8, 8))
    full, low = (open_session(exported.xml, precision=precision).run(x) for precision in ("fp32", "bf16"))
    torch.testing.assert_close(low, full, rtol=0, atol=0.1)
    assert low.dtype == torch.float32


def test_a_size_between_windows_is_an_error_of_the_runtime(path):
    with pytest.raises(RuntimeError):
        open_session(path).run(image((1, 3, 5, 4)))


def test_an_onnx_file_of_another_program(tmp_path):
    one = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [None, 3, None, None])
    other = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [None, 3, None, None])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["image"], ["out"])], "g", [one], [other])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    (tmp_path / "neg.onnx").write_bytes(with_metadata(proto.SerializeToString(), {"by": "hand"}))
    session = open_session(tmp_path / "neg.onnx")
    assert torch.equal(session.run(torch.ones(1, 3, 2, 2)), -torch.ones(1, 3, 2, 2))
    assert session.metadata == {"by": "hand"}


def _copied(exported, folder):
    shutil.copy(exported.onnx, folder / "cut.onnx")
    for name in ("lone.xml", "cut.xml"):
        shutil.copy(exported.xml, folder / name)
    with (folder / "cut.onnx").open("r+b") as file:
        file.truncate(5000)
    (folder / "cut.bin").write_bytes(exported.xml.with_suffix(".bin").read_bytes()[:100])
    (folder / "text.onnx").write_text("no network")
    (folder / "page.xml").write_text("<html></html>")
    (folder / "page.bin").touch()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("none.onnx", WeightsError, "no such file"),
        ("weights.pth", InputError, "exported networks are .onnx and .xml files"),
        ("cut.onnx", WeightsError, "cut.onnx: no network that ONNX Runtime can open"),
        ("text.onnx", WeightsError, "text.onnx: no network that ONNX Runtime can open"),
        ("lone.xml", WeightsError, "its weights, lone.bin, are not beside it"),
        ("cut.xml", WeightsError, "cut.xml: no network that OpenVINO can open"),
        ("page.xml", WeightsError, "page.xml: it is no network of OpenVINO"),
    ],
)
def test_what_is_no_network_is_refused(exported, tmp_path, name, error, message):
    _copied(exported, tmp_path)
    with pytest.raises(error, match=message) as caught:
        open_session(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_precision_that_a_runtime_does_not_have(exported):
    with pytest.raises(ConfigError, match="'bf16' is none that onnxruntime computes in here: use fp32"):
        open_session(exported.onnx, precision="bf16")
    with pytest.raises(ConfigError, match="use fp32 or bf16"):
        open_session(exported.xml, precision="fp16")


def test_a_runtime_that_is_not_installed(path, monkeypatch):
    name = {".onnx": "onnxruntime", ".xml": "openvino"}[path.suffix]
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"{name} is not installed.*pip install 'hat-sr\[export\]'"):
        open_session(path)


def test_signals_after_networks_of_openvino(exported):
    """It sets the stack for handlers of signals, and frees it with a network: the next signal would end the process."""
    code = f"""
import signal
from hat_sr.runtime.session import open_session
heard = []
signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
sessions = [open_session({str(exported.xml)!r}) for _ in range(2)]
while sessions:
    del sessions[0]
    signal.raise_signal(signal.SIGUSR1)
assert len(heard) == 2
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_openvino_does_not_phone_home(tmp_path):
    code = """
import socket, sys

def refuse(*arguments):
    raise SystemExit("the network was asked for")

socket.socket.connect = socket.getaddrinfo = refuse
from hat_sr.runtime.openvino import import_openvino

assert callable(import_openvino().convert_model)
telemetry = sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__
assert telemetry == "openvino.tools.ovc.telemetry_stub", telemetry
assert not any(name.startswith("openvino_telemetry") for name in sys.modules)
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    )
    assert not list(tmp_path.iterdir())  # where it would keep an identifier


def _drawn(make, *, outputs=("out",), dtype=onnx.TensorProto.FLOAT):
    """An ONNX file of a few nodes, which says of itself what the tiny network's says: ×2, RGB, windows of 4."""
    helper = onnx.helper
    image_in = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["b", 3, "h", "w"])
    out = [helper.make_tensor_value_info(name, dtype, None) for name in outputs]
    constants = {
        "four": np.float32([1, 1, 4, 4]),
        "two": np.float32([1, 1, 2, 2]),
        "zero": np.float32(0),
        "inf": np.float32(np.inf),
        "white": np.float32(255),
    }
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(make(helper.make_node), "g", [image_in], out, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    metadata = {METADATA_KEY: description(tiny_model().config, {})}
    return with_metadata(proto.SerializeToString(), metadata)


CLAIMS = {
    r"makes \(2, 3, 16, 32\) torch.float32 of \(2, 3, 4, 8\), not": [("Resize", ["image", "", "four"])],
    r"makes \(2, 3, 4, 8\) torch.float32": [("Identity", ["image"])],
    r"\(2, 3, 8, 16\) torch.uint8": [("Resize", ["image", "", "two"]), ("Cast", ["x0"])],
    "makes the same of every image": [("Resize", ["image", "", "two"]), ("Mul", ["x0", "zero"])],
    "makes NaN or infinity": [("Resize", ["image", "", "two"]), ("Mul", ["x0", "inf"])],
    r"makes numbers up to 255 of images in \[0, 1\]": [("Resize", ["image", "", "two"]), ("Mul", ["x0", "white"])],
    "does not run as a ×2 network": [("MatMul", ["image", "image"])],
}


@pytest.mark.parametrize("says", CLAIMS)
def test_a_file_that_is_not_what_it_says_is_refused_when_it_is_opened(tmp_path, monkeypatch, capsys, says):
    def make(node):
        nodes = CLAIMS[says]
        made = []
        for number, (kind, inputs) in enumerate(nodes):
            name = "out" if number == len(nodes) - 1 else f"x{number}"
            more = {"Cast": {"to": onnx.TensorProto.UINT8}, "Resize": {"mode": "nearest"}}.get(kind, {})
            made.append(node(kind, inputs, [name], **more))
        return made

    dtype = onnx.TensorProto.UINT8 if "uint8" in says else onnx.TensorProto.FLOAT
    (tmp_path / "net.onnx").write_bytes(_drawn(make, dtype=dtype))
    with pytest.raises(WeightsError, match=says):
        Upscaler(open_session(tmp_path / "net.onnx"))
    write_noise(tmp_path / "a.png")
    assert run(monkeypatch, "upscale", tmp_path / "a.png", "-m", tmp_path / "net.onnx", "-o", tmp_path / "b.png") == 2
    assert "net.onnx: " in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


def test_a_description_that_is_damaged_is_named(tmp_path, exported):
    (tmp_path / "net.onnx").write_bytes(with_metadata(exported.content, {METADATA_KEY: "[" * 100_000}))
    with pytest.raises(WeightsError, match=r"net\.onnx: its metadata"):
        Upscaler(open_session(tmp_path / "net.onnx"))
