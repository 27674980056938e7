"""Networks written for other runtimes."""

import copy
import logging
import re
import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from goldens.formula import image
from hat_sr import HAT, Upscaler, export
from hat_sr.checkpoints.checkpoint import METADATA_KEY, read_description
from hat_sr.errors import ConfigError, ExportError, InputError, MissingExtraError
from hat_sr.export import export_model, largest_difference, run_in, to_onnx
from hat_sr.model.config import HATConfig
from hat_sr.runtime.session import open_session
from helpers.exported import PROVENANCE


@pytest.fixture
def made(exported, monkeypatch):
    """`exported`, which torch need not export again."""
    exported.instead_of_torch(monkeypatch)
    return exported


def _files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("name", "files"), [("a.onnx", ["a.onnx"]), ("b.xml", ["b.bin", "b.xml"])])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_network_is_written_with_what_it_is(made, tmp_path, name, files, precision):
    difference = export_model(made.model, tmp_path / name, precision=precision, provenance=PROVENANCE)
    assert 0 < difference < export.TOLERANCES[precision]
    assert _files(tmp_path) == files
    session = open_session(tmp_path / name)
    assert read_description(session.metadata[METADATA_KEY]) == (made.model.config, PROVENANCE)
    x = image((1, 3, 8, 12))
    with torch.no_grad():
        torch.testing.assert_close(session.run(x), made.model(x), rtol=0, atol=export.TOLERANCES[precision])


def test_half_precision_is_half_the_size(made, tmp_path):
    for precision in ("fp32", "fp16"):
        export_model(made.model, tmp_path / f"{precision}.xml", precision=precision)
    sizes = [(tmp_path / f"{precision}.bin").stat().st_size for precision in ("fp32", "fp16")]
    assert sizes[1] < 0.7 * sizes[0]  # with the indices, which are as large as before


def test_an_onnx_file_in_half_precision_has_its_body_in_float16(tmp_path):
    torch.manual_seed(0)
    config = HATConfig(upscale=2, in_chans=1, embed_dim=8, depths=(1,), num_heads=(2,), window_size=4, squeeze_factor=4)
    model = HAT(config)
    assert 0 < export_model(model, tmp_path / "a.onnx", precision="fp16") < export.TOLERANCES["fp16"]
    graph = onnx.load(tmp_path / "a.onnx").graph
    kinds = {one.name: one.data_type for one in graph.initializer}
    assert kinds["layers.0.conv.weight"] == onnx.TensorProto.FLOAT16
    assert kinds["conv_last.weight"] == onnx.TensorProto.FLOAT
    assert {one.type.tensor_type.elem_type for one in (*graph.input, *graph.output)} == {onnx.TensorProto.FLOAT}
    assert model.training
    assert {one.dtype for one in model.parameters()} == {torch.float32}


def test_the_graph_is_open_where_it_says_and_tells_no_paths(exported):
    proto = onnx.load(exported.onnx)
    onnx.checker.check_model(proto, full_check=True)
    (taken,), (given,) = proto.graph.input, proto.graph.output
    names = [[one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim] for value in (taken, given)]
    assert names == [["batch", 3, "height", "width"], ["batch", 3, "2*height", "2*width"]]
    assert (taken.name, given.name) == ("lr", "sr")
    assert b"hat_sr/model" not in exported.onnx.read_bytes()


@pytest.mark.parametrize("name", ["a.onnx", "a.xml"])
def test_a_network_that_a_runtime_computes_otherwise_is_not_kept(made, tmp_path, name):
    other = copy.deepcopy(made.model)
    other.conv_last.bias.data += 0.01
    (tmp_path / name).write_text("before")
    with pytest.raises(ExportError, match=rf"{name}: .* differs from torch by 0\.01 where 0\.0001 is tolerated"):
        export_model(other, tmp_path / name)
    assert _files(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "before"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_kept(made, tmp_path, value):
    other = copy.deepcopy(made.model)
    other.conv_last.bias.data[1] = value
    with pytest.raises(ExportError):
        export_model(other, tmp_path / "a.onnx")
    assert not _files(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"), [("a.pth", "exported networks are .onnx and .xml files"), ("no/a.onnx", "create it first")]
)
def test_an_impossible_name_is_refused_before_the_work(exported, tmp_path, monkeypatch, name, message):
    monkeypatch.setattr(export, "to_onnx", None)
    with pytest.raises(InputError, match=message):
        export_model(exported.model, tmp_path / name)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_in_another_runtime_through_the_same_path(made, runtime):
    x = image((2, 3, 9, 14))
    out = Upscaler(run_in(made.model, runtime))(x)
    torch.testing.assert_close(out, Upscaler(made.model, device="cpu")(x), rtol=0, atol=2e-5)


def test_run_in_checks_the_precision_before_the_work(exported, monkeypatch):
    monkeypatch.setattr(export, "to_onnx", None)
    with pytest.raises(ConfigError, match="'bf16' is none that onnxruntime computes in"):
        run_in(exported.model, "onnxruntime", precision="bf16")


def test_run_in_compares_with_torch(made):
    other = copy.deepcopy(made.model)
    other.conv_last.bias.data += 0.01
    with pytest.raises(ExportError, match=r"the network: openvino differs from torch by 0\.01"):
        run_in(other, "openvino")


def test_largest_difference():
    shapes = []

    def shifted(x):
        shapes.append(tuple(x.shape))
        return x + 0.25

    assert largest_difference(nn.Identity(), shifted, window_size=4, in_chans=1) == pytest.approx(0.25)
    assert shapes == [(1, 1, 4, 4), (1, 1, 12, 20), (3, 1, 16, 4)]


def test_what_torch_cannot_export_ends_in_a_sentence():
    class Peeking(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match="cannot export this network"):
        to_onnx(Peeking(), window_size=4)


def test_the_pages_code_does_what_the_network_alone_does(exported, tmp_path, monkeypatch):
    for path in (exported.onnx, exported.xml, exported.xml.with_suffix(".bin")):
        shutil.copy(path, tmp_path / f"hat{path.suffix}")
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[1] / "docs/export.md"
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
        if "enlarge" in names:
            alone = Upscaler(open_session("hat.xml"), faithful=False)
            expected = alone(torch.from_numpy(names["lr"])).clamp(0, 1)
            torch.testing.assert_close(torch.from_numpy(names["sr"]), expected, rtol=0, atol=2e-5)


def test_without_the_extra(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"onnxscript is not installed.*pip install 'hat-sr\[export\]'"):
        export_model(exported.model, tmp_path / "a.onnx")
    assert not _files(tmp_path)


def test_what_libraries_say_about_themselves_is_not_told(caplog):
    names = ("torch.onnx", "onnxscript.optimizer._constant_folding", "onnx_ir.passes")
    with export._quiet():
        for name in names:
            logging.getLogger(name).warning("Evaluation failed: cannot reshape array")
    assert caplog.messages == []
    for name in names:
        logging.getLogger(name).warning("told")
    assert len(caplog.messages) == 3
