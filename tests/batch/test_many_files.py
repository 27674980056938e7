import os
from pathlib import Path

import fsspec
import pytest

from cli.running import run, write_noise
from hat_sr import save_model
from hat_sr.batch.plan import FileJob
from hat_sr.batch.ray import anywhere, settings_anywhere
from hat_sr.image.io import read_image
from hat_sr.inference.enlarge import Settings
from hat_sr.model.initialise import initialise_as_interpolator
from model.tiny import tiny_model


@pytest.fixture
def memory():
    """A store in memory, with nothing in it."""
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """`hat-sr upscale SOURCE -o DESTINATION` with a tiny ×2 interpolator; of the pictures in `in`, one is damaged."""
    model = tiny_model()
    initialise_as_interpolator(model)
    save_model(model, tmp_path / "tiny.safetensors")
    work = tmp_path / "work"
    for name in ("a.png", "trip/b.png", "trip/c.tif"):
        write_noise(work / "in" / name)
    whole = (work / "in/a.png").read_bytes()
    (work / "in/bad.png").write_bytes(whole[: len(whole) // 2])
    (work / "in/notes.txt").write_text("left alone")
    monkeypatch.chdir(work)

    def call(source, destination=None, *words):
        to = () if destination is None else ("-o", destination)
        return run(monkeypatch, "upscale", source, *to, *words, "--model", tmp_path / "tiny.safetensors")

    call.folder = work
    return call


RESULTS = ["a.png", "trip/b.png", "trip/c.tif"]


def found(fs, folder):
    paths = fs.find(folder)
    return {path.partition("out/")[2]: fs.cat_file(path) for path in paths if "/." not in path}


def test_a_store_to_a_store(batch, memory, capsys):
    memory.put(f"{batch.folder}/in/", "memory://photos", recursive=True)
    assert batch("memory://photos", "memory://out") == 1
    said = capsys.readouterr().err
    assert "failed: memory://photos/bad.png: damaged or cut short" in said
    assert "3 of 4 done" in said
    assert "hat-sr-" not in said
    assert batch("in", "out") == 1
    results = found(memory, "/out")
    assert sorted(results) == RESULTS
    for name, data in results.items():
        assert data == (batch.folder / "out" / name).read_bytes()
    assert not [path for path in memory.find("/out") if path.endswith(".part")]


def test_twice_is_once(batch, memory, capsys):
    assert batch("in", "memory://out") == 1
    before = {path: memory.info(path)["created"] for path in memory.find("/out")}
    capsys.readouterr()
    assert batch("in", "memory://out") == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "0 of 0 done" in said
    assert "3 done before; 1 failed before (in/bad.png: " in said
    assert before == {path: memory.info(path)["created"] for path in memory.find("/out")}
    write_noise(batch.folder / "in/bad.png")
    write_noise(batch.folder / "in/a.png", 6, 7)
    assert batch("in", "memory://out") == 0
    assert "2 of 2 done" in capsys.readouterr().err
    after = {path: memory.info(path)["created"] for path in memory.find("/out")}
    assert {path for path in before if after[path] != before[path]} == {"/out/a.png"}
    assert set(after) - set(before) > {"/out/bad.png"}
    assert sorted(found(memory, "/out")) == sorted([*RESULTS, "bad.png"])


def test_a_killed_batch_does_nothing_twice(batch, memory, monkeypatch, capsys):
    """As after kill -9 the lines of results are lost, and what had not yet arrived."""
    with monkeypatch.context() as patched:
        patched.setattr("hat_sr.batch.ledger.Ledger.add", lambda ledger, outcome: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            batch("in", "memory://out")
    assert sorted(found(memory, "/out")) == ["a.png"]
    before = memory.info("/out/a.png")["created"]
    capsys.readouterr()
    assert batch("in", "memory://out") == 1
    assert "2 of 3 done" in capsys.readouterr().err
    assert memory.info("/out/a.png")["created"] == before
    assert sorted(found(memory, "/out")) == RESULTS


def test_paths_and_urls_of_a_folder_share_what_was_done(batch, capsys):
    assert batch("in", "out") == 1
    assert batch("in", "out") == 1
    assert "3 done before; 1 failed before" in capsys.readouterr().err
    assert batch("in", f"file://{batch.folder}/out", "--retry-failed") == 1
    assert "0 of 1 done" in capsys.readouterr().err


@pytest.mark.parametrize(("multiplies", "precision"), [(True, "bf16"), (False, "fp32")])
def test_workers_are_told_the_precision_that_was_chosen_here(batch, monkeypatch, multiplies, precision):
    monkeypatch.setattr("hat_sr.inference.device.multiplies_bf16", lambda: multiplies)
    told = []
    monkeypatch.setattr("hat_sr.cli.upscale.run_on_ray", lambda jobs, settings, cluster: told.append(settings) or [])
    batch("in", "out", "--engine", "ray")
    assert [settings.precision for settings in told] == [precision]


def test_results_of_another_precision_are_not_replaced(batch, monkeypatch, capsys):
    for multiplies in (True, False):
        monkeypatch.setattr("hat_sr.inference.device.multiplies_bf16", lambda multiplies=multiplies: multiplies)
        batch("in", "out")
    assert "already there, and nothing was made" in capsys.readouterr().err


def test_results_beside_their_inputs_are_no_inputs(batch, memory, capsys):
    assert batch("in") == 1
    capsys.readouterr()
    assert batch("in", "memory://out") == 1
    assert capsys.readouterr().err.endswith("; 3 results of earlier calls left out\n")
    assert sorted(found(memory, "/out")) == RESULTS


def test_a_destination_in_the_source(batch, capsys):
    assert batch("in", "in/large") == 1
    assert batch("in", "in/large") == 1
    assert "3 done before" in capsys.readouterr().err
    assert read_image("in/large/trip/c.tif").pixels.shape == (10, 14, 3)
    assert not (batch.folder / "in/large/large").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("in", "in"), "the result in/a.png would replace an input"),
        (("in", "out", "--format", "gif"), "format 'gif' cannot be written"),
        (("out", "in"), "out: no such file or folder"),
        (("texts", "in"), "texts holds no image among 1 files"),
        (("in", "nowhere://x"), "nowhere://x cannot be opened"),
        (("in", "out", "--address", "auto"), "give --engine ray"),
        (("in", "out", "--overwrite", "--skip-existing"), "contradict"),
        (("in", "out", "--scale", "2", "--size", "20x"), "give one"),
        (("in", "other"), "other/a.png is already there"),
    ],
)
def test_a_wrong_call_is_refused_before_any_work(batch, capsys, words, message):
    write_noise(batch.folder / "other/a.png")
    (batch.folder / "texts").mkdir()
    (batch.folder / "texts/a.txt").touch()
    assert batch(*words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (batch.folder / "out").exists()


def test_two_results_of_one_name_are_refused(batch, capsys):
    write_noise(batch.folder / "in/a.bmp")
    assert batch("in", "out", "--format", "tif") == 2
    assert "in/a.bmp and in/a.png would both become out/a.tif" in capsys.readouterr().err


def test_a_picture_that_vanishes_fails_alone(batch, memory, monkeypatch, capsys):
    read = read_image

    def vanishing(path):
        memory.store.pop("/photos/trip/b.png", None)
        return read(path)

    (batch.folder / "in/bad.png").unlink()
    memory.put(f"{batch.folder}/in/", "memory://photos", recursive=True)
    monkeypatch.setattr("hat_sr.inference.enlarge.read_image", vanishing)
    assert batch("memory://photos", "memory://out") == 1
    assert "failed: memory://photos/trip/b.png: FileNotFoundError" in capsys.readouterr().err
    assert sorted(found(memory, "/out")) == ["a.png", "trip/c.tif"]


def test_a_store_that_fails_at_one_picture_fails_it_alone(batch, memory, monkeypatch, capsys):
    info = type(memory).info

    def failing(store, path, **options):
        if path.endswith("trip/b.png"):
            raise PermissionError("not yours")
        return info(store, path, **options)

    (batch.folder / "in/bad.png").unlink()
    memory.put(f"{batch.folder}/in/", "memory://photos", recursive=True)
    with monkeypatch.context() as patched:
        patched.setattr(type(memory), "info", failing)
        assert batch("memory://photos", "memory://out") == 1
    assert "failed: memory://photos/trip/b.png: PermissionError: not yours" in capsys.readouterr().err
    assert sorted(found(memory, "/out")) == ["a.png", "trip/c.tif"]
    assert batch("memory://photos", "memory://out") == 0  # it is tried again by itself
    assert sorted(found(memory, "/out")) == RESULTS


def test_what_a_killed_batch_left_is_deleted(batch):
    left = [batch.folder / "out" / name for name in (".hat-sr-1.part", "trip/.hat-sr-2.part")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (0, 0))
    assert batch("in", "out") == 1
    assert not [path for path in left if path.exists()]


def test_jobs_and_settings_for_workers_in_other_folders(batch):
    model = Path("../tiny.safetensors")
    folders = {"source": "in", "destination": "memory://out"}
    job = FileJob(input="a.png", result="a.png", stamp=None, before=None, in_ledger=True, **folders)
    (elsewhere,) = anywhere([job])
    assert Path(elsewhere.source).is_absolute()
    assert Path(elsewhere.source).samefile("in")
    assert elsewhere.destination == "memory://out"
    settings = settings_anywhere(Settings(model=str(model), scale=2))
    assert Path(settings.model).is_absolute()
    assert Path(settings.model).samefile(model)
    assert settings.scale == 2
    for name in ("auto", "hat-xs-x2"):
        Path(name).mkdir()  # names go before files
    for name in ("auto", "hat-xs-x2", "bicubic", "hf://someone/something"):
        assert settings_anywhere(Settings(model=name, scale=2)).model == name


def test_without_ray_it_says_what_to_install(batch, capsys):
    try:
        import ray  # noqa: F401
    except ImportError:
        assert batch("in", "out", "--engine", "ray") == 1
        assert "pip install 'hat-sr[cluster]'" in capsys.readouterr().err
    else:
        pytest.skip("Ray is installed")


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_is_done(batch, closed, memory, capsys):
    (batch.folder / "in/bad.png").unlink()
    closed(batch.folder / "in/trip")
    assert batch("in", "memory://out") == 1
    said = capsys.readouterr().err
    assert said.startswith("failed: in/trip cannot be read: Permission denied\n1 of 1 done")
    assert sorted(found(memory, "/out")) == ["a.png"]


def test_links_to_folders_are_followed(batch, capsys):
    write_noise(batch.folder / "elsewhere/d.jfif")
    (batch.folder / "in/seen").symlink_to("../elsewhere")
    (batch.folder / "in/bad.png").unlink()
    for _ in range(2):
        assert batch("in", "out") == 0
    assert "4 done before" in capsys.readouterr().err
    assert sorted(path.name for path in (batch.folder / "out/seen").iterdir()) == ["d.jfif"]


def test_a_file_and_a_pattern_in_a_store(batch, memory, capsys):
    memory.put(f"{batch.folder}/in/", "memory://photos", recursive=True)
    assert batch("memory://photos/a.png", "memory://out/large.png") == 0
    assert capsys.readouterr().err.splitlines()[-1].endswith("memory://out/large.png")
    assert batch("memory://photos/trip/*.[pt]*", "memory://out/") == 0
    assert batch("memory://photos/a.png") == 0
    assert sorted(found(memory, "/out")) == ["b.png", "c.tif", "large.png"]
    assert memory.exists("/photos/a_x2.png")
    assert batch("memory://photos/a.png", "memory://out/large.png") == 2
    assert "memory://out/large.png is already there" in capsys.readouterr().err
    assert batch("memory://photos/*.webp", "memory://out/") == 2
    assert "memory://photos/*.webp: no file or folder fits this pattern" in capsys.readouterr().err


def test_results_in_a_store_lie_beside_their_inputs_once(batch, memory, capsys):
    memory.put(f"{batch.folder}/in/", "memory://photos", recursive=True)
    for _ in range(2):
        assert batch("memory://photos") == 1
    assert "3 done before; 1 failed before" in capsys.readouterr().err
    paths = [path for path in memory.find("/photos") if "/." not in path]
    assert sum("_x2" in path for path in paths) == 3
