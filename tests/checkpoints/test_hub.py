"""Networks on the Hugging Face Hub: their names, and their files from a cache on disk and a server on this machine."""

import json
import os
import subprocess
import sys

import huggingface_hub
import pytest
import torch

from cli.running import run
from hat_sr import HAT
from hat_sr.checkpoints import hub, named
from hat_sr.checkpoints.checkpoint import save_model
from hat_sr.checkpoints.hub import HubName, parse_name
from hat_sr.errors import InputError, MissingExtraError, WeightsError
from helpers.hub import COMMIT, cached_folder, offline_cache, serving
from model.tiny import tiny_model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub, which must not ask for anything."""
    return offline_cache(monkeypatch, tmp_path / "cache")


@pytest.fixture
def repo(tmp_path):
    """A folder that stands for an empty repo."""
    folder = tmp_path / "repo"
    folder.mkdir()
    return folder


@pytest.fixture
def server(cache, repo, monkeypatch):
    """A Hub with the repo owner/net, which is `repo` at main and at v1/a: the list of what it is asked for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    with serving({("owner/net", "main"): repo, ("owner/net", "v1/a"): repo}) as (address, asked):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield asked
        huggingface_hub.close_session()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf://owner/net", ("owner/net", None, None)),
        ("hf://models/owner/net", ("owner/net", None, None)),
        ("hf://Own-er_1/net.v2-x4", ("Own-er_1/net.v2-x4", None, None)),
        ("hf://owner/net/x4.pth", ("owner/net", None, "x4.pth")),
        ("hf://owner/net/deep/er/X4.SafeTensors", ("owner/net", None, "deep/er/X4.SafeTensors")),
        ("hf://owner/net@v1.0", ("owner/net", "v1.0", None)),
        (f"hf://owner/net@{COMMIT}/a@b.pth", ("owner/net", COMMIT, "a@b.pth")),
        ("hf://owner/net@refs/pr/7/x4.pth", ("owner/net", "refs/pr/7", "x4.pth")),
        ("hf://owner/net@try%2Fthis/x4.pth", ("owner/net", "try/this", "x4.pth")),
    ],
)
def test_names(name, parts):
    parsed = parse_name(name)
    assert (parsed.repo, parsed.revision, parsed.file) == parts
    assert parse_name(str(parsed)) == parsed


@pytest.mark.parametrize("name", [HubName(repo="a/b"), HubName(repo="a/b", revision="x/y", file="c/d.pth")])
def test_names_are_written_as_they_are_read(name):
    assert parse_name(str(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "hf://",
        "hf:///",
        "hf://owner",
        "hf://owner/",
        "hf://models/owner",
        "hf://owner/net/",
        "hf://owner/net@",
        "hf://owner/net@/x4.pth",
        "hf://../net",
        "hf://owner/..",
        "hf://own er/net",
        "hf://ówner/net",
        "hf://owner//net",
        "owner/net",
        "https://huggingface.co/owner/net",
    ],
)
def test_names_of_another_form_are_refused(name):
    with pytest.raises(WeightsError, match="names no network on the Hugging Face Hub: write hf://OWNER/REPO or"):
        parse_name(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hf://a/b/../../x", r"'\.\./\.\./x' must be plain names"),
        ("hf://a/b/../x.pth", r"'\.\./x\.pth' must be plain names"),
        ("hf://a/b/./x.pth", "must be plain names"),
        ("hf://a/b//etc/x.pth", "must be plain names"),
        ("hf://a/b/c\\..\\x.pth", "must be plain names"),
        ("hf://a/b@../x.pth", r"'\.\.' must be plain names"),
        ("hf://a/b@..%2F..%2Fx", r"'\.\./\.\./x' must be plain names"),
        ("hf://a/b/model.bin", r"model\.bin is no file of weights: \.safetensors and \.pth are read"),
        ("hf://a/b/README.md", "is no file of weights"),
        ("hf://a/b/folder", "is no file of weights"),
        ("hf://a/b/x.pth?download=true", "is no file of weights"),
        ("hf://datasets/a/x.pth", "is not among the Hub's models"),
        ("hf://spaces/a/b", "is not among the Hub's models"),
    ],
)
def test_names_of_no_weights_are_refused_before_anything_is_asked(name, says, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    with pytest.raises(WeightsError, match=says):
        named.load_model(name)


def _equal(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return one.config == other.config and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("revision", ["main", "v1", "refs/pr/1"])
def test_a_cached_model_loads_offline(cache, revision):
    model = tiny_model()
    model.save_pretrained(cached_folder(cache, "owner/net", revision=revision), provenance={"data": "none"})
    name = str(HubName(repo="owner/net", revision=None if revision == "main" else revision))
    for source in (name, f"{name}/model.safetensors"):
        assert _equal(named.load_model(source), model)
    assert named.read_source(name).provenance == {"data": "none"}
    given = {} if revision == "main" else {"revision": revision}
    for source in ("owner/net", "hf://owner/net"):
        assert _equal(HAT.from_pretrained(source, **given), model)


def test_a_cached_commit_loads_offline(cache):
    model = tiny_model()
    model.save_pretrained(cached_folder(cache, "owner/net"))
    assert _equal(HAT.from_pretrained("owner/net", revision=COMMIT), model)


def test_another_file_is_taken_if_it_is_named_or_the_only_one(cache):
    model, other = tiny_model(), tiny_model(upscale=4)
    folder = cached_folder(cache, "owner/net")
    (folder / "deep").mkdir()
    save_model(model, folder / "deep" / "x2.pth", format="official")
    (folder / "README.md").write_text("card")
    assert named.load_model("hf://owner/net").config.upscale == 2
    save_model(other, folder / "x4.safetensors")
    assert named.load_model("hf://owner/net/deep/x2.pth").config.upscale == 2
    assert named.load_model("hf://owner/net/x4.safetensors").config.upscale == 4
    candidates = "hf://owner/net/deep/x2.pth, hf://owner/net/x4.safetensors"
    with pytest.raises(WeightsError, match=f"no model.safetensors, but several files.*: name one of {candidates}"):
        named.load_model("hf://owner/net")
    save_model(model, folder / "model.safetensors")
    assert named.load_model("hf://owner/net").config.upscale == 2


def test_a_cached_repo_without_weights(cache):
    (cached_folder(cache, "owner/net") / "README.md").write_text("card")
    with pytest.raises(WeightsError, match=r"hf://owner/net is not in the cache"):  # the Hub may well have some
        named.load_model("hf://owner/net")


@pytest.mark.parametrize("name", ["hf://owner/other", "hf://owner/net@v9", "hf://owner/net/x4.pth"])
def test_what_is_not_cached_is_missing_offline(cache, name):
    tiny_model().save_pretrained(cached_folder(cache, "owner/net"))
    with pytest.raises(WeightsError) as refused:
        named.load_model(name)
    message = str(refused.value)
    assert message.startswith(f"{name} is not in the cache, {cache}, and the Hub cannot be asked (")
    assert "offline mode is enabled" in message
    assert message.endswith("unset HF_HUB_OFFLINE if it is set; or download the file elsewhere and give its path")
    assert "\n" not in message


def test_the_environment_is_heeded_by_the_command(tmp_path):
    """As above, in a process of its own, where huggingface_hub reads HF_HUB_OFFLINE and HF_HUB_CACHE itself."""
    tiny_model().save_pretrained(cached_folder(tmp_path, "owner/net"))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    code = """
import atexit, logging, sys
from hat_sr.cli import main
atexit.register(logging.getLogger("huggingface_hub.file_download").warning, "retrying")
sys.argv = ["hat-sr", "info", sys.argv[1]]
main()
"""
    words = [sys.executable, "-c", code, "hf://owner/net"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "retrying\n")  # said once, though the command logs, too
    assert done.stdout.startswith("model.safetensors: HAT ×2, safetensors format")


def test_the_command_says_in_a_line_what_is_missing(cache, monkeypatch, capsys):
    assert run(monkeypatch, "info", "hf://owner/other") == 2
    message = capsys.readouterr().err
    assert message.startswith("hat-sr: hf://owner/other is not in the cache")
    assert message.count("\n") == 1


def test_weights_of_a_repo_are_read_as_any_others(cache):
    folder = cached_folder(cache, "owner/net")
    (folder / "model.safetensors").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="it is a web page"):
        named.load_model("hf://owner/net")


def test_a_config_that_contradicts_the_weights(cache):
    folder = cached_folder(cache, "owner/net")
    tiny_model().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "upscale": 4}))
    with pytest.raises(WeightsError, match=r"config\.json is not of .*: upscale is 4 there and 2 here"):
        named.load_model("hf://owner/net")


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"^huggingface_hub is not installed.*: pip install 'hat-sr\[hub\]'$"):
        named.load_model("hf://owner/net")
    with pytest.raises(WeightsError, match="names no network"):  # whatever is installed
        named.load_model("hf://owner")


def test_huggingface_hub_is_imported_for_such_names_only(tmp_path):
    code = """
import sys
from hat_sr import HAT, load_model
load_model("hat-xxs-x4").save_pretrained(sys.argv[1])
HAT.from_pretrained(sys.argv[1])
sys.exit("huggingface_hub" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


def test_a_model_is_downloaded_once_and_then_used_offline(server, repo, cache, monkeypatch):
    model = tiny_model()
    model.save_pretrained(repo)
    assert _equal(named.load_model("hf://owner/net"), model)
    folder = cached_folder(cache, "owner/net")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert len([line for line in server if line.startswith("GET")]) == 2
    del server[:]
    assert _equal(named.load_model("hf://owner/net"), model)
    assert server == ["HEAD /owner/net/resolve/main/model.safetensors"]  # has it changed?
    del server[:]
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert _equal(named.load_model("hf://owner/net"), model)
    assert server == []


def test_the_only_file_of_weights_is_found(server, repo, monkeypatch):
    (repo / "deep").mkdir()
    save_model(tiny_model(), repo / "deep" / "x2.pth", format="official")
    (repo / "README.md").write_text("card")
    assert named.load_model("hf://owner/net").config == tiny_model().config
    assert "GET /owner/net/resolve/main/README.md" not in server
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert named.load_model("hf://owner/net").config == tiny_model().config


def test_candidates_and_a_repo_that_has_no_config(server, repo):
    for name in ("b", "a"):
        save_model(tiny_model(), repo / f"{name}.safetensors")
    with pytest.raises(WeightsError, match=r"name one of hf://owner/net/a\.safetensors, hf://owner/net/b\.safetensors"):
        named.load_model("hf://owner/net")
    save_model(tiny_model(), repo / "model.safetensors")
    assert named.load_model("hf://owner/net").config == tiny_model().config
    del server[:]
    named.load_model("hf://owner/net")
    assert server == ["HEAD /owner/net/resolve/main/model.safetensors"]  # that there is no config.json is known by now


def test_a_revision_is_asked_for(server, repo):
    tiny_model().save_pretrained(repo)
    assert HAT.from_pretrained("owner/net", revision="v1/a").config == tiny_model().config
    assert server[0] == "HEAD /owner/net/resolve/v1/a/model.safetensors"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hf://owner/nothing", "the Hub has no model owner/nothing that you may see: check the name; .*log in"),
        ("hf://owner/net@v2", "owner/net has no revision 'v2': give a branch, a tag or a commit"),
        ("hf://owner/net/x4.pth", r"has no file x4\.pth: see what there is, http://127.*/owner/net"),
        ("hf://owner/net", r"hf://owner/net has no weights"),
    ],
)
def test_what_the_hub_does_not_have(server, repo, name, says):
    (repo / "README.md").write_text("card")
    with pytest.raises(WeightsError, match=says):
        named.load_model(name)


def test_a_failed_download(cache, monkeypatch):
    def fail(*_arguments, **_settings):
        raise RuntimeError("the line broke\nin the middle")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(WeightsError, match=r"hf://owner/net could not be downloaded \(the line broke\): connect"):
        hub.fetch("hf://owner/net")


def test_paths_go_before_names_of_the_hub(tmp_path, cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model(upscale=3).save_pretrained("owner/net")
    tiny_model(upscale=4).save_pretrained(cached_folder(cache, "owner/net"))
    assert HAT.from_pretrained("owner/net").config.upscale == 3
    assert HAT.from_pretrained("hf://owner/net").config.upscale == 4


def test_names_without_the_beginning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"owner/net: there is no such file\. If .*Hub is meant: hf://owner/net"):
        named.load_model("owner/net")
    with pytest.raises(WeightsError, match=r"owner/net\.pth: there is no such file: the folder owner does not exist$"):
        HAT.from_pretrained("owner/net.pth")


def test_revisions_of_anything_else_are_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    for source in (tmp_path, str(tmp_path), "hat-xs-x4"):
        with pytest.raises(InputError, match=r"revision 'v1' is of a model on the Hub, which .* is not"):
            HAT.from_pretrained(source, revision="v1")
    with pytest.raises(InputError, match="hf://owner/net@v2 has a revision, and 'v1' is given too: give one"):
        HAT.from_pretrained("hf://owner/net@v2", revision="v1")
