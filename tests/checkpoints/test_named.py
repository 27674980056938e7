"""Networks by name, and the list of the published ones."""

import pytest
import torch

from goldens.formula import image
from hat_sr.checkpoints import named
from hat_sr.checkpoints.checkpoint import save_model
from hat_sr.errors import WeightsError
from model.tiny import tiny_model


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def bundle(tmp_path, monkeypatch, model):
    """A package folder of weights with two networks in it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("hat-xs-x4", "hat-xs-x2"):
        save_model(model, folder / f"{name}.safetensors", provenance={"name": name})
    (folder / "hat-xs-x4.md").write_text("card")
    monkeypatch.setattr(named, "_folder", lambda: folder)
    return folder


def test_bundled_networks_load_by_name(bundle, model):
    assert named.bundled_names() == ["hat-xs-x2", "hat-xs-x4"]
    loaded = named.load_model("hat-xs-x4", dtype=torch.float64)
    assert not loaded.training
    assert {value.dtype for value in loaded.parameters()} == {torch.float64}
    assert named.read_source("hat-xs-x2").provenance == {"name": "hat-xs-x2"}
    x = image((1, 3, 8, 4))
    with torch.no_grad():
        torch.testing.assert_close(loaded(x.double()).float(), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("scale", "name"), [(1, 2), (1.5, 2), (2, 2), (2.1, 4), (4, 4), (16, 4)])
def test_the_network_for_a_scale(bundle, scale, name):
    (bundle / "other-x3.safetensors").touch()
    assert named.bundled_for(scale) == f"hat-xs-x{name}"


def test_the_network_for_a_picture_compressed_with_loss_or_noisy(bundle):
    assert named.bundled_for(4, degraded=True) == "hat-xs-x4"  # there is no other
    (bundle / f"{named.FOR_PHOTOS}.safetensors").touch()
    assert named.bundled_for(4) == "hat-xs-x4"
    assert [named.bundled_for(scale, degraded=True) for scale in (1.5, 2, 3, 4, 8)] == [named.FOR_PHOTOS] * 5
    assert named.bundled_by_factor() == {2: "hat-xs-x2", 4: "hat-xs-x4"}


def test_files_load_by_path(tmp_path, bundle, model, monkeypatch):
    save_model(model, tmp_path / "mine.pth", format="official")
    monkeypatch.chdir(tmp_path)
    for source in ("mine.pth", tmp_path / "mine.pth", str(tmp_path / "mine.pth")):
        assert named.load_model(source).config == model.config
    assert named.load_model("mine.pth", mean=(0.5, 0.5, 0.5)).config.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hat-xs-4", "did you mean 'hat-xs-x4'.*In the package: hat-xs-x2, hat-xs-x4"),
        ("HAT-XS-X4", "did you mean 'hat-xs-x4'"),
        ("qqqq", "no network is named 'qqqq', and there is no such file. In the package: hat-xs-x2, hat-xs-x4"),
        ("HAT_SRx4", r"'HAT_SRx4' is not in the package: HAT_SRx4\.pth is published at https://github"),
        ("Real_HAT_GAN_SRX4", r"Real_HAT_GAN_SRx4\.pth is published"),
        ("hat-xs-x4.pth", "did you mean 'hat-xs-x4'.*In the package: hat-xs-x2, hat-xs-x4"),
        ("hat-xs-x3.safetensors", "there is no such file; did you mean 'hat-xs-x.'"),
        ("HAT_SRx4.pth", r"'HAT_SRx4.pth' is not in the package: HAT_SRx4\.pth is published at https://github"),
        ("nowhere/hat-xs-x4.pth", "there is no such file: the folder nowhere does not exist"),
        ("./hat-xs-x4.pth", "there is no such file; the network 'hat-xs-x4' is in the package"),
    ],
)
def test_unknown_names(bundle, name, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=says):
        named.load_model(name)


@pytest.mark.parametrize("path", ["mine.pth", "folder/hat-xs-x4", "mine.safetensors"])
def test_missing_files_are_not_taken_for_names(bundle, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="there is no such file"):
        named.load_model(path)


@pytest.mark.parametrize("source", ["runs/weigths.pth", "runs/weights.pt"])
def test_a_file_that_nearly_has_the_name_is_named(bundle, tmp_path, monkeypatch, source):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/weights.pth").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"there is no such file; did you mean runs/weights\.pth\?"):
        named.load_model(source)
    monkeypatch.chdir(tmp_path / "runs")
    with pytest.raises(WeightsError, match=r"there is no such file; did you mean weights\.pth\?"):
        named.load_model(source.removeprefix("runs/"))


@pytest.mark.parametrize(
    ("source", "name"),
    [("hat-xs-x4", "hat-xs-x4"), ("runs/mine.pth", "mine"), ("hf://owner/net@v1.0", "hf://owner/net@v1.0")],
)
def test_labels(source, name):
    assert named.label(source) == name


def test_every_bundled_network_loads():
    for name in named.bundled_names():
        checkpoint = named.read_source(name)
        assert checkpoint.format == "safetensors"
        assert checkpoint.provenance, f"{name} does not say where it comes from"
        named.load_model(name)


def test_published_files():
    names = [model.name for model in named.PUBLISHED]
    assert len(names) == len(set(names)) == 14
    configs = {model.name: model.config for model in named.PUBLISHED}
    assert configs["HAT-L_SRx3_ImageNet-pretrain"].depths == (6,) * 12
    assert configs["HAT-L_SRx3_ImageNet-pretrain"].upscale == 3
    assert configs["HAT-S_SRx2"].embed_dim == 144
    assert configs["Real_HAT_GAN_SRx4"] == configs["HAT_SRx4"]
