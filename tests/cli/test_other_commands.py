import json
import subprocess
import sys

import pytest

from cli.running import run, write_noise
from hat_sr import save_model
from hat_sr.model.zoo import bundled_names
from model.fake_hub import cached_folder, offline_cache
from model.tiny import tiny_model


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_model(tiny_model(), path, provenance={"data": "none, a formula"})
    return path


def test_benchmark(tmp_path, monkeypatch, capsys, tiny):
    for name in ("a", "b"):
        write_noise(tmp_path / f"Set2/{name}.png", 24, 32)
    assert run(monkeypatch, "benchmark", "--data", tmp_path / "Set2", "--scale", "2", "--model", tiny, "--json") == 0
    report = json.loads(capsys.readouterr().out)["datasets"][0]
    assert [image["name"] for image in report["images"]] == ["a", "b"]
    assert report["mean"]["psnr"] == pytest.approx(sum(image["psnr"] for image in report["images"]) / 2)
    assert run(monkeypatch, "benchmark", "--data", tmp_path / "Set2", "--scale", "2", "--model", tiny) == 0
    assert f"{report['mean']['psnr']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(("model", "name"), [("hf://owner/net@v1.0", "hf://owner/net@v1.0"), ("net", "net")])
def test_benchmark_of_a_model_on_the_hub_and_of_a_folder(tmp_path, monkeypatch, capsys, model, name):
    cache = offline_cache(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    for folder in (cached_folder(cache, "owner/net", revision="v1.0"), "net"):
        tiny_model().save_pretrained(folder)
    write_noise(tmp_path / "Set1/a.png", 24, 32)
    assert run(monkeypatch, "benchmark", "--data", "Set1", "--scale", "2", "--model", model, "--json") == 0
    assert json.loads(capsys.readouterr().out)["datasets"][0]["model"] == name


def test_benchmark_of_another_scale_is_refused(tmp_path, monkeypatch, capsys, tiny):
    assert run(monkeypatch, "benchmark", "--data", tmp_path, "--scale", "4", "--model", tiny) == 2
    assert "enlarges by 2, but scale 4" in capsys.readouterr().err


def test_benchmark_without_a_network_for_the_scale(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "benchmark", "--data", tmp_path, "--scale", "8") == 2
    assert "no network in the package enlarges by 8" in capsys.readouterr().err


def test_benchmark_without_images(tmp_path, monkeypatch, capsys, tiny):
    assert run(monkeypatch, "benchmark", "--data", tmp_path, "--scale", "2", "--model", tiny) == 1
    assert "no images in" in capsys.readouterr().err


def test_info(monkeypatch, capsys, tiny):
    assert run(monkeypatch, "info", tiny) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["embed_dim", "12"] in lines
    assert ["data", "none,", "a", "formula"] in lines


def test_info_of_what_is_no_network(tmp_path, monkeypatch, capsys):
    (tmp_path / "photo.pth").write_bytes(b"no weights")
    assert run(monkeypatch, "info", tmp_path / "photo.pth") == 2
    assert "photo.pth" in capsys.readouterr().err


def test_models(monkeypatch, capsys):
    assert run(monkeypatch, "models") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in [*bundled_names(), "HAT-L_SRx4_ImageNet-pretrain"])


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("upscale", "--help")])
def test_help(monkeypatch, words):
    assert run(monkeypatch, *words) == 0


def test_unknown_command(monkeypatch, capsys):
    assert run(monkeypatch, "upscal") == 2
    assert "upscale" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "hat_sr", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __import__("hat_sr").__version__
