"""Networks as folders: written whole or not at all, read back equal, with a card whose examples run."""

import json
import re
import shlex
import shutil

import huggingface_hub
import pytest
import torch
import yaml

from cli.running import run, write_noise
from hat_sr import HAT, load_model
from hat_sr.checkpoints import pretrained
from hat_sr.checkpoints.checkpoint import save_model
from hat_sr.checkpoints.hub import choose_weights
from hat_sr.checkpoints.named import local_file, read_source
from hat_sr.checkpoints.pretrained import model_card
from hat_sr.errors import InputError, WeightsError
from hat_sr.image.io import read_image
from model.tiny import tiny_model

FILES = ["README.md", "config.json", "model.safetensors"]


def _listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_comes_back(tmp_path):
    model = tiny_model(in_chans=1, upscale=3, use_cab=False, mean=(0.25,))
    folder = tmp_path / "deep" / "net"
    model.save_pretrained(folder, provenance={"title": "a “net”", "steps": "3"})
    assert _listed(folder) == FILES
    loaded = HAT.from_pretrained(folder, dtype=torch.float64)
    assert type(loaded) is HAT and not loaded.training
    assert loaded.config == model.config
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(value.float(), model.state_dict()[name])
    assert read_source(folder).provenance == {"title": "a “net”", "steps": "3"}
    for source in (str(folder), folder / "model.safetensors"):
        assert load_model(source).config == model.config


def test_bundled_names_and_files_load_as_well(tmp_path):
    save_model(tiny_model(), tmp_path / "x2.pth", format="official")
    assert HAT.from_pretrained(str(tmp_path / "x2.pth")).config.upscale == 2
    assert HAT.from_pretrained("hat-xxs-x4").config.upscale == 4


def test_config_json(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["library_name"] == "hat-sr"
    assert content["architectures"] == ["HAT"]
    assert (content["upscale"], content["depths"], content["mean"]) == (2, [2], [0.4488, 0.4371, 0.404])


def test_saving_twice_gives_the_same_files(tmp_path):
    for name in ("a", "b"):
        tiny_model().save_pretrained(tmp_path / name)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_what_is_there_stays_unless_it_may_be_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    (tmp_path / "photo.png").write_text("mine")
    with pytest.raises(InputError, match=f"has {name} already: give another folder, or overwrite=True"):
        tiny_model().save_pretrained(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert _listed(tmp_path) == sorted([name, "photo.png"])
    tiny_model().save_pretrained(tmp_path, overwrite=True)
    assert _listed(tmp_path) == sorted([*FILES, "photo.png"])
    assert HAT.from_pretrained(tmp_path).config == tiny_model().config


@pytest.mark.parametrize("is_new", [True, False])
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, is_new):
    folder = tmp_path / "net"
    if not is_new:
        tiny_model().save_pretrained(folder)
        before = {name: (folder / name).read_bytes() for name in FILES}
    monkeypatch.setattr(pretrained, "model_card", lambda *_, **__: "\ud800")  # cannot be written as UTF-8
    with pytest.raises(UnicodeEncodeError):
        tiny_model(upscale=4).save_pretrained(folder, overwrite=True)
    if is_new:
        assert not folder.exists()
    else:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_folders_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "net"):
        with pytest.raises(InputError, match=r"cannot be written to, because of .*file: give another folder"):
            tiny_model().save_pretrained(folder)


def test_a_name_for_the_card_must_be_one(tmp_path):
    with pytest.raises(InputError, match="repo_id 'net' is not of the form OWNER/REPO"):
        tiny_model().save_pretrained(tmp_path, repo_id="net")
    assert _listed(tmp_path) == []


def test_a_config_that_contradicts_the_weights(tmp_path):
    tiny_model().save_pretrained(tmp_path / "x2")
    tiny_model(upscale=4, img_range=255).save_pretrained(tmp_path / "x4")
    shutil.copy(tmp_path / "x4" / "config.json", tmp_path / "x2")
    says = r"x2/config\.json is not of .*x2/model\.safetensors: upscale is 4 there and 2 here; img_range is 255"
    for source in (tmp_path / "x2", tmp_path / "x2" / "model.safetensors"):
        with pytest.raises(WeightsError, match=says):
            HAT.from_pretrained(source)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "Expecting property name"),
        ('{"library_name": "hat-sr", "sparkle": 1}', r"does not know \('sparkle'\): upgrade"),
        ('{"library_name": "hat-sr", "depths": 3}', "depths 3 must be a list of numbers"),
        ('{"library_name": "hat-sr", "upscale": 5}', "upscale 5 is not one of"),
    ],
)
def test_damaged_configs(tmp_path, content, says):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=rf"config\.json is not as hat-sr writes it: .*{says}"):
        HAT.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", ["[]", '{"model_type": "swin2sr", "upscale": 5}', None])
def test_configs_of_other_programs_and_none_do_not_matter(tmp_path, content):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert HAT.from_pretrained(tmp_path).config == tiny_model().config


def test_folders_with_other_weights(tmp_path):
    with pytest.raises(WeightsError, match=r"has no weights: no \.safetensors or \.pth file is in it"):
        load_model(tmp_path)
    (tmp_path / "deep.pth").mkdir()
    (tmp_path / "config.json").write_text('{"library_name": "hat-sr", "upscale": 8}')  # of a model.safetensors
    save_model(tiny_model(), tmp_path / "x2.pth", format="official")
    assert load_model(tmp_path).config.upscale == 2
    assert local_file(tmp_path) == tmp_path / "x2.pth"
    save_model(tiny_model(), tmp_path / "x2.safetensors")
    with pytest.raises(WeightsError, match=rf"name one of {tmp_path}/x2\.pth, {tmp_path}/x2\.safetensors$"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["a.pth", "model.safetensors", "b.safetensors"], "model.safetensors"),
        (["README.md", "a.PTH", "model.bin"], "a.PTH"),
        (["deep/model.safetensors"], "deep/model.safetensors"),
    ],
)
def test_choice_of_weights(files, chosen):
    assert choose_weights(files, "here") == chosen


def _metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_what_the_hub_reads_of_the_card():
    card = model_card(tiny_model(), {"licence": "CC-BY-4.0"})
    assert _metadata(card) == {
        "license": "cc-by-4.0",
        "library_name": "hat-sr",
        "pipeline_tag": "image-to-image",
        "tags": ["image-super-resolution", "image-to-image", "hat"],
    }
    assert huggingface_hub.ModelCard(card).data.to_dict() == _metadata(card)


@pytest.mark.parametrize(
    ("provenance", "licence"),
    [
        ({}, "unknown"),
        ({"data": "none"}, "unknown"),
        ({"license": "MIT"}, "mit"),
        ({"licence": "see training-data.md: others"}, "other"),
    ],
)
def test_licences(provenance, licence):
    assert _metadata(model_card(tiny_model(), provenance))["license"] == licence


def test_the_card_says_what_the_network_is_and_where_it_comes_from():
    card = model_card(tiny_model(), {"title": "Net\n# of | mine", "data": "T91 | DIV2K\nand more"})
    assert "\n# Net # of | mine\n" in card
    assert "| data | T91 \\| DIV2K and more |" in card
    assert f"| parameters | {sum(value.numel() for value in tiny_model().parameters()):,} |" in card
    assert "| embed_dim | 12 |" in card
    assert "Not stated." not in card
    plain = model_card(tiny_model(upscale=1), {})
    assert "\n# HAT ×1\n\nImage restoration (×1) with HAT" in plain
    assert plain.endswith("## Where the weights come from\n\nNot stated.\n")


@pytest.mark.parametrize("repo_id", [None, "owner/net"])
def test_the_lines_of_the_card_work(tmp_path, monkeypatch, capsys, repo_id):
    """With the folder in the place of the repo, as the card says, or in a folder of the repo's name."""
    monkeypatch.chdir(tmp_path)
    tiny_model().save_pretrained("owner/net", repo_id=repo_id)
    card = (tmp_path / "owner" / "net" / "README.md").read_text()
    assert ("OWNER/REPO" in card) == (repo_id is None)
    shell, python = re.findall(r"```(?:python)?\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(python.replace("OWNER/REPO", "owner/net"), names)
    assert names["sr"].shape == (1, 3, 200, 150)
    assert "→ (1, 3, 200, 150)" in python
    install, command = shell.splitlines()
    assert install == "pip install 'hat-sr[hub]'"
    write_noise(tmp_path / "photo.jpg")
    words = shlex.split(command.replace("hf://", "").replace("OWNER/REPO", "owner/net"))
    assert run(monkeypatch, *words[1:]) == 0
    large = read_image(tmp_path / "photo_x2.jpg")
    assert (large.width, large.height) == (14, 10)
