import json

import pytest
import torch

from cli.running import run, write_noise
from evaluate.pictures import as_tensor, photo, save
from hat_sr import save_model
from hat_sr.evaluate import sets
from hat_sr.evaluate.sets import KnownImage, KnownSet, pixel_digest
from hat_sr.image.resize import imresize
from helpers.hub import cached_folder, offline_cache
from model.tiny import tiny_model

PHOTOS = {"one": photo(36, 48, seed=1), "two": photo(24, 25, seed=2)}


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """An empty cache, and a set that is small."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = tuple(
        KnownImage(name=name, height=pixels.shape[0], width=pixels.shape[1], digest=pixel_digest(as_tensor(pixels)))
        for name, pixels in PHOTOS.items()
    )
    tiny2 = KnownSet(name="Tiny2", num_images=2, published="a shelf", images=images)
    monkeypatch.setattr(sets, "known_sets", lambda: {"Tiny2": tiny2})


@pytest.fixture
def networks(tmp_path):
    """Files of a ×2 and a ×3 network, the first of which is there twice."""
    for path, changes in (("a/two", {}), ("b/two", {}), ("three", {"upscale": 3})):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        save_model(tiny_model(**changes), tmp_path / f"{path}.safetensors")
    return tmp_path


@pytest.fixture
def benchmark(monkeypatch, capsys):
    """`hat-sr benchmark WORDS`: its exit code, and what it printed to stdout and stderr."""

    def call(*words):
        return run(monkeypatch, "benchmark", *words), *capsys.readouterr()

    return call


def test_one_set_and_network(tmp_path, benchmark, networks):
    for name in ("a", "b"):
        write_noise(tmp_path / f"Set2/{name}.png", 24, 32)
    words = ("--data", tmp_path / "Set2", "--scale", "2", "--model", tmp_path / "a/two.safetensors")
    code, out, _ = benchmark(*words, "--json")
    assert code == 0
    (report,) = json.loads(out)["datasets"]
    assert report["check"] == "2 images, not checked"
    assert [image["name"] for image in report["images"]] == ["a", "b"]
    assert [model["name"] for model in report["models"]] == ["bicubic", "two"]
    psnrs = [image["scores"]["two"]["psnr"] for image in report["images"]]
    assert report["models"][1]["psnr"] == pytest.approx(sum(psnrs) / 2)
    for format_words in ((), ("--markdown",)):
        code, out, _ = benchmark(*words, *format_words)
        assert code == 0
        assert f"{report['models'][1]['psnr']:.2f} / {report['models'][1]['ssim']:.4f}" in out


@pytest.mark.parametrize(("model", "name"), [("hf://owner/net@v1.0", "hf://owner/net@v1.0"), ("net", "net")])
def test_a_model_on_the_hub_and_a_folder(tmp_path, benchmark, monkeypatch, model, name):
    hub = offline_cache(monkeypatch, tmp_path / "hub")
    monkeypatch.chdir(tmp_path)
    for folder in (cached_folder(hub, "owner/net", revision="v1.0"), "net"):
        tiny_model().save_pretrained(folder)
    write_noise(tmp_path / "Set1/a.png", 24, 32)
    code, out, _ = benchmark("--data", "Set1", "--scale", "2", "--model", model, "--json")
    assert code == 0
    assert json.loads(out)["datasets"][0]["models"][1]["name"] == name


def lay_out(folder, hr, lr=None):
    """Write the photos, each as the two patterns say, with low-resolution images of the border that is made, too."""
    for name, pixels in PHOTOS.items():
        save(folder / hr.format(name), pixels)
        if lr is not None:
            cut = as_tensor(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])
            save(folder / lr.format(name), imresize(cut, 1 / 2)[0].permute(1, 2, 0).contiguous().numpy())


def test_three_layouts_of_a_set_have_one_result(tmp_path, benchmark, networks):
    lay_out(tmp_path / "1/Tiny2", "HR/{}.png", "LR_bicubic/X2/{}x2.png")
    lay_out(tmp_path / "2/tiny2", "GTmod12/{}.bmp", "LRbicx2/{}.png")
    lay_out(tmp_path / "3/Tiny_2", "image_SRF_2/{}_SRF_2_HR.png", "image_SRF_2/{}_SRF_2_LR.png")
    found = []
    for root in ("1", "2", "3"):
        words = (
            "--data",
            tmp_path / root,
            "--sets",
            "Tiny2",
            "--scale",
            "2",
            "--models",
            tmp_path / "a/two.safetensors",
        )
        code, out, _ = benchmark(*words, "--json")
        assert code == 0
        (report,) = json.loads(out)["datasets"]
        assert (report["dataset"], report["check"]) == ("Tiny2", "2 images, each as published")
        assert ("mirror border" in report["lr"]) and (("read from" in report["lr"]) == (root != "3"))
        found.append([list(image["scores"].values()) for image in report["images"]])
    assert found[0] == found[1] == found[2]


def test_a_set_that_is_not_whole_is_refused(tmp_path, benchmark, networks):
    save(tmp_path / "Tiny2/one.png", PHOTOS["one"])
    words = ("--data", tmp_path, "--sets", "Tiny2", "--scale", "2", "--models", "bicubic")
    code, out, err = benchmark(*words)
    assert (code, out) == (1, "")
    assert "Tiny2: not as published" in err
    assert "missing: two. It is published at a shelf" in err


def test_several_scales_and_networks_and_a_page(tmp_path, benchmark, networks):
    lay_out(tmp_path / "Tiny2", "{}.png")
    two, three, other = tmp_path / "a/two.safetensors", tmp_path / "three.safetensors", tmp_path / "b/two.safetensors"
    page = tmp_path / "pages/page.html"
    words = ("--data", tmp_path, "--sets", "Tiny2", "--scale", "2,3", "--models", f"{two},{three}", "-m", other)
    code, out, _ = benchmark(*words, "--json", "--html", page)
    assert code == 0
    models = {report["scale"]: [model["name"] for model in report["models"]] for report in json.loads(out)["datasets"]}
    assert models == {2: ["bicubic", str(two), str(other)], 3: ["bicubic", "three"]}
    text = page.read_text(encoding="utf-8")
    assert "Scale ×2" in text
    assert "Scale ×3" in text
    assert text.count('type="range"') == 4


def test_results_are_kept_and_go_into_the_same_report(tmp_path, benchmark, networks, monkeypatch):
    lay_out(tmp_path / "Tiny2", "{}.png")
    words = ("--data", tmp_path / "Tiny2", "--scale", "2", "--models", tmp_path / "a/two.safetensors", "--json")
    first = benchmark(*words)
    assert benchmark(*words, "--cache", "off") == first
    assert len(list((tmp_path / "cache/hat-sr/benchmark").rglob("*.json"))) == 6  # two images: ours, bicubic, original
    monkeypatch.setattr("hat_sr.evaluate.compare.enlarge", None)  # so that nothing can be computed
    assert benchmark(*words) == first
    assert benchmark(*words, "--cache", tmp_path / "cache/hat-sr/benchmark") == first


@pytest.mark.parametrize("option", [("--self-ensemble",), ("--precision", "bf16"), ("--tile", "24")])
def test_other_settings_are_other_results(tmp_path, benchmark, networks, option):
    save(tmp_path / "Tiny2/one.png", photo(120, 100))
    words = ("--data", tmp_path / "Tiny2", "--scale", "2", "--models", tmp_path / "a/two.safetensors", "--json")
    assert benchmark(*words) != benchmark(*words, *option)


def test_degraded_images(tmp_path, benchmark):
    write_noise(tmp_path / "Set1/a.png", 36, 48)
    words = ("--data", tmp_path / "Set1", "--scale", "2,3", "--models", "bicubic")
    code, out, _ = benchmark(*words, "--degrade", "real", "--seed", "2", "--json", "--html", tmp_path / "page.html")
    assert code == 0
    reports = json.loads(out)["datasets"]
    assert [report["degraded"] for report in reports] == [{"preset": "real", "seed": 2}] * 2
    assert "degraded from the ground truth (real, seed 2)" in (tmp_path / "page.html").read_text(encoding="utf-8")
    code, out, _ = benchmark(*words, "--degrade", "real", "--seed", "2")
    assert "degraded from the ground truth (real, seed 2)" in out
    assert f"{reports[0]['models'][0]['psnr']:.2f}" in out
    code, out, _ = benchmark(*words, "--json")
    assert [report["degraded"] for report in json.loads(out)["datasets"]] == [None] * 2
    for more in (("--degrade", "mild"), ("--jpeg", "50")):
        code, _, err = benchmark(*words, "--published", *more)
        assert code == 2
        assert "figures of papers are for bicubic's images" in err


def test_published_figures(tmp_path, benchmark):
    lay_out(tmp_path / "Set5", "{}.png")
    code, out, _ = benchmark("--data", tmp_path, "--scale", "4", "--models", "bicubic", "--published")
    assert code == 0
    assert "CARN, quoted [ahn2018carn]" in out
    assert "bicubic" in out


def test_the_networks_in_the_package_for_each_scale(tmp_path, benchmark):
    lay_out(tmp_path / "Tiny2", "{}.png")
    code, out, _ = benchmark("--data", tmp_path, "--sets", "Tiny2", "--scale", "2,3,4", "--json")
    assert code == 0
    names = [report["models"][1]["name"] for report in json.loads(out)["datasets"]]
    assert names == ["hat-xs-x2", "hat-xs-x3", "hat-xs-x4"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--scale", "4", "-m", "{}/a/two.safetensors"), "two.safetensors enlarges by 2, but scale 4 was asked for"),
        (("--scale", "2,3", "-m", "{}/a/two.safetensors"), "two.safetensors enlarges by 3: name one that does"),
        (("--scale", "8"), "no network in the package enlarges by 8"),
        (("--scale", ","), "nothing is named in ','"),
        (("--scale", "2", "--sets", ""), "nothing is named in ''"),
        (("--scale", "2,x"), "scale '2,x': whole numbers are accepted"),
        (("--scale", "2", "--sets", "Set6"), "no set is named 'Set6'"),
        (("--scale", "2", "--json", "--markdown"), "--json and --markdown are both given"),
        (("--scale", "2", "--html", "{}/three.safetensors/page.html"), "page.html cannot be written"),
        (("--scale", "2", "--cache", "{}/three.safetensors"), "cannot be written to"),
        (("--scale", "2", "-m", "{}/other.pth"), "to run other networks: pip install 'hat-sr[baselines]'"),
    ],
)
def test_calls_that_are_wrong(tmp_path, benchmark, networks, monkeypatch, words, says):
    monkeypatch.setitem(__import__("sys").modules, "spandrel", None)
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pth")
    lay_out(tmp_path / "Tiny2", "{}.png")
    code, _, err = benchmark("--data", tmp_path / "Tiny2", *(word.format(tmp_path) for word in words))
    assert code == 2
    assert says in err


def test_without_images(tmp_path, benchmark, networks):
    code, _, err = benchmark("--data", tmp_path, "--scale", "2", "--models", tmp_path / "a/two.safetensors")
    assert code == 1
    assert "no images in" in err


def test_perceptual_metrics_are_in_tables_json_and_page(tmp_path, benchmark, networks):
    write_noise(tmp_path / "Set2/a.png", 200, 196)
    words = ("--data", tmp_path / "Set2", "--scale", "2", "-m", tmp_path / "a/two.safetensors")
    words += ("--metrics", "st-lpips,psnr,niqe")
    code, out, _ = benchmark(*words, "--json", "--html", tmp_path / "page.html")
    assert code == 0
    (report,) = json.loads(out)["datasets"]
    score = report["images"][0]["scores"]["bicubic"]
    assert set(score) == {"psnr", "ssim", "st_lpips", "niqe"}
    cell = f"{score['psnr']:.2f} / {score['ssim']:.4f} / {score['st_lpips']:.4f} / {score['niqe']:.2f}"
    assert cell in (tmp_path / "page.html").read_text()
    _, out, _ = benchmark(*words)
    assert cell in out
    assert "Then ST-LPIPS (AlexNet) and NIQE of whole images, lower for better ones." in out
    code, _, error = benchmark(*words[:-1], "psnr,lpips")
    assert code == 2
    assert "--metrics lpips: psnr, ssim, st-lpips, niqe are known" in error
