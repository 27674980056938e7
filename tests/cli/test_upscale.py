import json
import re
import shutil

import numpy as np
import pytest

from cli.running import run, write_noise
from hat_sr import save_model
from hat_sr.batch.ledger import NAME, FileLines, Ledger, Planned
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image, Metadata
from hat_sr.inference.journal import Journal
from hat_sr.inference.strips import Strips
from hat_sr.model.initialise import initialise_as_interpolator
from model.tiny import tiny_model


@pytest.fixture
def upscale(tmp_path, monkeypatch):
    """`hat-sr upscale WORDS` with a tiny ×2 interpolator, in an empty folder."""
    model = tiny_model()
    initialise_as_interpolator(model)
    save_model(model, tmp_path / "tiny.safetensors")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def call(*words):
        return run(monkeypatch, "upscale", *words, "--model", tmp_path / "tiny.safetensors")

    call.folder = tmp_path / "work"
    return call


def test_one_image(upscale):
    write_noise(upscale.folder / "a.png", 5, 7)
    assert upscale("a.png") == 0
    assert read_image("a_x2.png").pixels.shape == (10, 14, 3)


@pytest.mark.parametrize(
    ("words", "size", "name"),
    [
        (("--scale", "2"), (10, 14), "a_x2.png"),
        (("--scale", "3"), (15, 21), "a_x3.png"),
        (("--scale", "2x"), (10, 14), "a_x2.png"),
        (("--scale", "1.5"), (8, 11), "a_x1.5.png"),
        (("--scale", "5"), (25, 35), "a_x5.png"),
        (("--size", "20x30"), (30, 20), "a_20x30.png"),
        (("--size", "28x"), (20, 28), "a_28x.png"),
        (("--size", "x11"), (11, 15), "a_x11.png"),
        (("--tile", "24", "--self-ensemble"), (10, 14), "a_x2.png"),
    ],
)
def test_sizes(upscale, words, size, name):
    write_noise(upscale.folder / "a.png", 5, 7)
    assert upscale("a.png", *words) == 0
    assert read_image(name).pixels.shape[:2] == size


def test_a_folder_with_bad_files_is_done_but_for_those(upscale, capsys):
    for number in range(3):
        write_noise(upscale.folder / f"in/{number}.png")
    whole = (upscale.folder / "in/0.png").read_bytes()
    (upscale.folder / "in/cut.png").write_bytes(whole[: len(whole) // 2])
    (upscale.folder / "in/text.jpg").write_text("no image")
    (upscale.folder / "in/notes.txt").write_text("left alone")
    assert upscale("in", "-o", "out") == 1
    assert sorted(path.name for path in (upscale.folder / "out").glob("[!.]*")) == ["0.png", "1.png", "2.png"]
    error = capsys.readouterr().err
    assert error.count("failed: ") == 2
    assert "in/cut.png" in error
    assert "in/text.jpg" in error


def test_an_error_nobody_thought_of_does_not_stop_the_rest(upscale, monkeypatch, capsys):
    def read(path):
        if path.name == "a.png":
            raise KeyError("surprise")
        return read_image(path)

    for name in ("a.png", "b.png"):
        write_noise(upscale.folder / name)
    monkeypatch.setattr("hat_sr.inference.enlarge.read_image", read)
    assert upscale("a.png", "b.png") == 1
    assert "failed: a.png: KeyError: 'surprise'" in capsys.readouterr().err
    assert (upscale.folder / "b_x2.png").exists()


def test_depth_and_channels_are_kept(upscale):
    write_noise(upscale.folder / "gray16.png", channels=1, dtype="uint16")
    write_noise(upscale.folder / "alpha.png", channels=4)
    assert upscale("gray16.png", "alpha.png") == 0
    assert read_image("gray16_x2.png").pixels.dtype == np.uint16
    assert read_image("gray16_x2.png").pixels.shape == (10, 14, 1)
    assert read_image("alpha_x2.png").pixels.shape == (10, 14, 4)


@pytest.mark.parametrize(
    ("name", "height", "width", "channels", "dtype"),
    [
        ("photo.jpg", 30, 40, 3, "uint8"),
        ("gray.jpg", 9, 8, 1, "uint8"),
        ("deep.png", 9, 8, 3, "uint16"),
        ("alpha.png", 9, 8, 4, "uint8"),
        ("gray alpha.png", 9, 8, 2, "uint16"),
        ("grün.tif", 9, 8, 3, "uint16"),
        ("float.tiff", 9, 8, 1, "float32"),
        ("light.exr", 9, 8, 3, "float16"),
        ("web.webp", 9, 8, 4, "uint8"),
        ("windows.bmp", 9, 8, 3, "uint8"),
        ("point.png", 1, 1, 3, "uint8"),
        ("small.jpg", 3, 7, 3, "uint8"),
        ("long.png", 2, 400, 3, "uint8"),
    ],
)
def test_every_kind_of_file_keeps_its_kind(upscale, name, height, width, channels, dtype):
    """And its picture: the tiny network is a bicubic interpolator."""
    path = upscale.folder / name
    ramp = np.linspace(0.1, 0.9, width) * np.linspace(0.5, 1, height)[:, None]
    largest = np.iinfo(dtype).max if dtype.startswith("uint") else 1
    pixels = (ramp[..., None] * np.linspace(0.8, 1, channels) * largest).astype(dtype)
    write_image(path, Image(pixels, linear=not dtype.startswith("uint")))
    assert upscale(name) == 0
    before, after = read_image(path), read_image(path.with_stem(f"{path.stem}_x2"))
    assert after.pixels.shape == (2 * height, 2 * width, channels)
    assert (after.pixels.dtype, after.linear) == (before.pixels.dtype, before.linear)
    means = [image.pixels.astype(float).mean() / largest for image in (before, after)]
    # A single pixel is all border, where convolutions read zeros.
    assert means[0] == pytest.approx(means[1], abs=0.02 if width > 1 else 0.1)


def test_results_that_exist(upscale):
    write_noise(upscale.folder / "a.png")
    assert upscale("a.png") == 0
    before = (upscale.folder / "a_x2.png").stat().st_mtime_ns
    assert upscale("a.png") == 2
    assert upscale("a.png", "--skip-existing") == 0
    assert (upscale.folder / "a_x2.png").stat().st_mtime_ns == before
    assert upscale("a.png", "--overwrite") == 0
    assert (upscale.folder / "a_x2.png").stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scale", "0.5"), "scale 0.5 must be a number from 1 to 65,536"),
        (("--scale", "nan"), "scale nan must be"),
        (("--scale", "two"), "scale 'two' is no factor: give a number of at least 1, such as 2, 1.5 or 4x"),
        (("--scale", "2", "--size", "20x"), "scale 2 and size 20x are both given: give one"),
        (("--scale", "1.5", "--size", "x100"), "scale 1.5 and size x100 are both given: give one"),
        (("--size", "big"), "size 'big' is none of WxH"),
        (("--tile", "3"), "tile 3 is none of"),
        (("--overwrite", "--skip-existing"), "contradict"),
        (("--device", "abacus"), "device 'abacus' is not known"),
        (("--sise", "20x"), "Unknown option"),
        (("--quality", "101"), "Must be <= 100"),
        (("--quality", "50"), "quality 50 is for JPEG and WebP"),
        (("-o", "a.png/x"), "a.png is no folder; name another place with --output"),
    ],
)
def test_a_wrong_call_is_refused_before_any_work(upscale, capsys, words, message):
    write_noise(upscale.folder / "a.png")
    assert upscale("a.png", *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in upscale.folder.iterdir()] == ["a.png"]


def test_a_target_smaller_than_one_image_fails_that_image(upscale, capsys):
    write_noise(upscale.folder / "large.png", 30, 30)
    write_noise(upscale.folder / "small.png", 4, 4)
    assert upscale("large.png", "small.png", "--size", "20x20") == 1
    assert "smaller than the image" in capsys.readouterr().err
    assert read_image("small_20x20.png").width == 20


def test_a_result_too_large_for_the_memory_is_refused(upscale, capsys):
    write_noise(upscale.folder / "a.png", 8, 8)
    assert upscale("a.png", "--size", "1000000x1000000") == 1
    assert "GB of memory" in capsys.readouterr().err


def test_a_name_that_leaves_no_room_for_the_results_fails_alone(upscale, capsys, monkeypatch):
    long = "x" * 251 + ".png"
    for name in ("a.png", long):
        write_noise(upscale.folder / name)
    assert upscale("a.png", long) == 1
    said = capsys.readouterr().err
    assert f"failed: {long}: {'x' * 251}_x2.png: no file can be written there: File name too long; name another" in said
    assert "1 of 2 done" in said
    assert upscale(long, "-o", "out") == 0  # where the result is called as its input


def test_the_folder_of_one_result_must_be_there(upscale, capsys):
    write_noise(upscale.folder / "a.png")
    assert upscale("a.png", "-o", "mistyped/dir/x.png") == 2
    assert "there is no folder mistyped/dir: make it first" in capsys.readouterr().err
    assert [path.name for path in upscale.folder.iterdir()] == ["a.png"]
    assert upscale("a.png", "-o", "new/dir/") == 0  # a folder of results is made
    assert (upscale.folder / "new/dir/a.png").exists()


def test_rare_suffixes_are_written_as_what_they_mean(upscale):
    for name in ("a.jfif", "b.jpe", "c.dib"):
        write_noise(upscale.folder / "in" / name)
    assert upscale("in") == 0
    beginnings = [(upscale.folder / "in" / name).read_bytes()[:2] for name in ("a_x2.jfif", "b_x2.jpe", "c_x2.dib")]
    assert beginnings == [b"\xff\xd8", b"\xff\xd8", b"BM"]


def test_how_far_one_image_is_is_told_band_by_band(upscale, monkeypatch):
    told = []
    monkeypatch.setattr("hat_sr.cli.progress.PictureBars.__call__", lambda bars, name, part: told.append((name, part)))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 4), np.uint8)
    write_image(upscale.folder / "a.png", Image(pixels))
    assert upscale("a.png", "--scale", "3") == 0  # the network twice, for the colours and for alpha
    parts = [part for _, part in told]
    assert {name for name, _ in told} == {"a.png"}
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0, pytest.approx(1))
    assert len([part for part in parts if 0.1 < part < 0.9]) > 8


def test_bad_files_are_counted(upscale, capsys):
    write_noise(upscale.folder / "a.png")
    (upscale.folder / "b.png").write_text("no image")
    assert upscale("a.png", "b.png", "-o", "out") == 1
    assert "1 of 2 done" in capsys.readouterr().err


def test_warnings_name_the_file(upscale, caplog):
    write_image(upscale.folder / "dark.exr", Image(np.full((4, 4, 3), -0.5, np.float32), linear=True))
    assert upscale("dark.exr") == 0
    assert "dark.exr: 48 values below 0 are taken as 0" in caplog.text


def test_ctrl_c_leaves_no_half_file(upscale, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    write_noise(upscale.folder / "a.png")
    monkeypatch.setattr("hat_sr.image.io.Path.replace", interrupt)
    assert upscale("a.png") == 130
    assert [path.name for path in upscale.folder.iterdir()] == ["a.png"]


def test_the_end_says_what_was_made_outside_a_terminal_too(upscale, capsys):
    write_noise(upscale.folder / "a.png")
    assert upscale("a.png") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"1 of 1 done in \d+\.\d s by .*tiny\.safetensors in (fp32|bf16), a_x2\.png\n", printed.err)


def test_one_channel_network(upscale, tmp_path, capsys, monkeypatch):
    save_model(tiny_model(in_chans=1), tmp_path / "gray.safetensors")
    write_noise(upscale.folder / "gray.png", channels=1)
    write_noise(upscale.folder / "rgb.png")
    assert run(monkeypatch, "upscale", "gray.png", "rgb.png", "-m", tmp_path / "gray.safetensors") == 1
    assert read_image("gray_x2.png").pixels.shape == (10, 14, 1)
    assert "failed: rgb.png" in capsys.readouterr().err


def test_auto_takes_the_network_for_photos_for_lossy_files_and_says_so(upscale, tmp_path, monkeypatch, capsys):
    for name, gain, scale in (("plain", 1.0, 2), ("photo", 0.3, 4)):  # the second makes details faint
        model = tiny_model(upscale=scale)
        initialise_as_interpolator(model)
        model.conv_last.weight.data *= gain
        save_model(model, tmp_path / f"{name}.safetensors")
    plain, photo = (str(tmp_path / f"{name}.safetensors") for name in ("plain", "photo"))
    monkeypatch.setattr("hat_sr.inference.choice.bundled_for", lambda scale: plain)
    monkeypatch.setattr("hat_sr.inference.choice.bundled_by_factor", lambda: {2: plain})
    monkeypatch.setattr("hat_sr.inference.choice.FOR_PHOTOS", photo)
    stripes = np.where(np.arange(24) // 3 % 2, 200, 50).astype(np.uint8)
    for name in ("a.jpg", "b.jpg", "c.png"):
        write_image(name, Image(np.broadcast_to(stripes[:, None], (24, 24, 3)).copy()))
    assert run(monkeypatch, "upscale", "a.jpg", "b.jpg", "c.png", "--scale", "2x") == 0
    said = capsys.readouterr().err
    assert said.count("is compressed with loss") == 1
    assert "a.jpg is compressed with loss" in said
    assert "photo.safetensors is used" in said
    contrast = {name: read_image(f"{name}_x2.{ending}").pixels.std() for name, ending in (("a", "jpg"), ("c", "png"))}
    assert contrast["c"] > 1.5 * contrast["a"]
    assert upscale("a.jpg", "--overwrite") == 0  # a network that is named is taken for all
    assert "compressed with loss" not in capsys.readouterr().err
    assert read_image("a_x2.jpg").pixels.std() > 1.5 * contrast["a"]


@pytest.mark.parametrize(("words", "shape"), [(("--scale", "3"), (15, 21, 3)), (("--size", "20x"), (14, 20, 3))])
def test_bicubic_is_a_model_of_any_scale(tmp_path, monkeypatch, words, shape):
    write_noise(tmp_path / "a.png", 5, 7)
    words = (tmp_path / "a.png", "--model", "bicubic", *words, "-o", tmp_path / "b.png")
    assert run(monkeypatch, "upscale", *words) == 0
    assert read_image(tmp_path / "b.png").pixels.shape == shape


@pytest.mark.parametrize(("words", "dpi"), [((), 300), (("--keep-dpi",), 150)])
def test_dpi_grows_with_the_picture_or_is_kept(tmp_path, monkeypatch, words, dpi):
    attributes = (("XResolution", "float", 150.0), ("YResolution", "float", 150.0), ("ResolutionUnit", "string", "in"))
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in/a.tif", Image(np.zeros((5, 7, 3), np.uint8), metadata=Metadata(attributes=attributes)))
    words = (tmp_path / "in", "-o", tmp_path / "out", "--model", "bicubic", "--scale", "2", *words)
    assert run(monkeypatch, "upscale", *words) == 0
    assert ("XResolution", "float", float(dpi)) in read_image(tmp_path / "out/a.tif").metadata.attributes


def test_memory_is_planned_for_hat_alone(tmp_path, monkeypatch, capsys):
    write_noise(tmp_path / "a.png", 5, 7)
    assert run(monkeypatch, "upscale", tmp_path / "a.png", "--model", "bicubic", "--memory", "1GiB") == 2
    assert "memory is planned for HAT, and bicubic is none" in capsys.readouterr().err
    assert run(monkeypatch, "upscale", tmp_path / "a.png", "--scale", "0") == 2
    assert "scale 0 must be a number from 1 to 65,536" in capsys.readouterr().err


def test_too_large_for_the_memory_is_streamed_in_tiles_and_says_so(upscale, capsys):
    write_noise(upscale.folder / "a.png", 36, 30)
    assert upscale("a.png", "--tile", "24", "-o", "whole.png") == 0
    assert "too large" not in capsys.readouterr().err
    assert upscale("a.png", "--tile", "24", "--memory", "100KB", "-o", "strips.png") == 0
    line, _ = capsys.readouterr().err.splitlines()
    assert line.startswith("a.png: too large for the memory there is: strip by strip, in 12 tiles of up to 24 pixels")
    assert (upscale.folder / "strips.png").read_bytes() == (upscale.folder / "whole.png").read_bytes()
    assert upscale("a.png", "--memory", "100KB", "-o", "auto.png") == 0
    assert sorted(path.name for path in upscale.folder.iterdir()) == ["a.png", "auto.png", "strips.png", "whole.png"]


@pytest.fixture
def stopped(upscale, monkeypatch, capsys):
    """`upscale`, after a.png → b.png was stopped by Ctrl-C in its third strip."""
    run_strip = Strips.run

    def interrupted(strips, number, above, report):
        if number == 2:
            raise KeyboardInterrupt
        return run_strip(strips, number, above, report)

    write_noise(upscale.folder / "a.png", 36, 30)
    with monkeypatch.context() as patched:
        patched.setattr(Strips, "run", interrupted)
        assert upscale("a.png", "-o", "b.png", "--memory", "1") == 130
    assert "a.png: 2 finished strips are kept: the same command goes on from there" in capsys.readouterr().err
    assert not (upscale.folder / "b.png").exists()
    return upscale


@pytest.mark.parametrize("memory", [("--memory", "1"), ()])
def test_a_stopped_call_goes_on_whatever_the_memory(stopped, capsys, memory):
    assert stopped("a.png", "-o", "b.png", *memory) == 0
    assert capsys.readouterr().err.startswith("a.png: going on after strip 2 of 4\n1 of 1 done in ")
    assert stopped("a.png", "-o", "c.png", "--memory", "1") == 0
    assert (stopped.folder / "b.png").read_bytes() == (stopped.folder / "c.png").read_bytes()


def test_a_damaged_line_of_a_journal_is_named_and_the_call_goes_on_where_it_was(stopped, capsys, caplog):
    (journal,) = stopped.folder.glob(".hat-sr-*/journal.jsonl")
    first, one, two = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(first + one.replace(b'"strip"', b"strip") + two)
    assert stopped("a.png", "-o", "b.png", "--memory", "1") == 0
    assert "journal.jsonl: damaged, and left out: line 2" in caplog.text
    assert "a.png: going on after strip 2 of 4" in capsys.readouterr().err
    assert stopped("a.png", "-o", "c.png", "--memory", "1") == 0
    assert (stopped.folder / "b.png").read_bytes() == (stopped.folder / "c.png").read_bytes()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_journal_that_cannot_be_goes_on_or_begins_anew(stopped, capsys, number):
    (journal,) = stopped.folder.glob(".hat-sr-*/journal.jsonl")
    lines = journal.read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), "facts": 5, "strip": -1})
    journal.write_text("".join(f"{line}\n" for line in lines))
    assert stopped("a.png", "-o", "b.png", "--memory", "1") == 0
    said = capsys.readouterr().err
    assert ("starting anew: what was begun is damaged" in said) == (number != 1)
    assert (stopped.folder / "b.png").exists()


def test_another_call_for_the_same_result_deletes_what_was_begun(stopped, capsys):
    assert stopped("a.png", "-o", "b.png", "--tile", "off") == 0
    assert "b.png: what was begun of it, with another input or other settings, is deleted" in capsys.readouterr().err
    assert sorted(path.name for path in stopped.folder.iterdir()) == ["a.png", "b.png"]


def test_two_calls_for_one_result_at_a_time(stopped, capsys):
    for words in ((), ("--tile", "off")):
        with Journal(stopped.folder / "b.png"):
            assert stopped("a.png", "-o", "b.png", *words) == 1
        assert "b.png: another process is making it" in capsys.readouterr().err
    assert stopped("a.png", "-o", "b.png") == 0


def test_strip_by_strip_any_size_that_one_network_reaches(upscale, capsys):
    write_noise(upscale.folder / "a.png", 36, 30)
    assert upscale("a.png", "--size", "64x", "--memory", "1KB", "-o", "b.png") == 0
    assert "strip by strip" in capsys.readouterr().err
    assert read_image("b.png").pixels.shape == (77, 64, 3)
    assert upscale("a.png", "--scale", "4", "--memory", "1KB") == 1
    assert "use --scale 2, and enlarge it again" in capsys.readouterr().err
    assert [path.name for path in upscale.folder.iterdir() if path.name.startswith(".")] == []


@pytest.fixture
def folder(upscale):
    """Three pictures in `in`, one of them damaged."""
    for name in ("a.png", "sub/b.png", "c.png"):
        write_noise(upscale.folder / "in" / name)
    whole = (upscale.folder / "in/c.png").read_bytes()
    (upscale.folder / "in/c.png").write_bytes(whole[: len(whole) // 2])
    return upscale


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("[!.]*.png")}


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_is_done(folder, closed, capsys):
    (folder.folder / "in/c.png").unlink()
    closed(folder.folder / "in/sub")
    assert folder("in", "-o", "out") == 1
    said = capsys.readouterr().err
    assert said.startswith("failed: in/sub cannot be read: Permission denied\n1 of 1 done in ")
    assert set(times(folder.folder / "out")) == {"a.png"}


def test_a_folder_is_done_once(folder, capsys):
    assert folder("in", "-o", "out") == 1
    before = times(folder.folder / "out")
    capsys.readouterr()
    assert folder("in", "-o", "out") == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("0 of 0 done in ")
    assert "nothing to do; 2 done before; 1 failed before (in/c.png: " in said
    assert "--retry-failed" in said
    write_noise(folder.folder / "in/a.png", 6, 7)
    write_noise(folder.folder / "in/d.png")
    assert folder("in", "-o", "out") == 1
    after = times(folder.folder / "out")
    assert set(after) == {"a.png", "b.png", "d.png"}
    assert {name for name in before if before[name] == after[name]} == {"b.png"}
    assert read_image("out/a.png").pixels.shape == (12, 14, 3)
    assert folder("in", "-o", "out", "--overwrite") == 1
    assert not {name for name in after if times(folder.folder / "out")[name] == after[name]}


def test_an_odd_line_in_the_ledger_is_named_once_and_later_runs_are_known(folder, capsys, caplog):
    (folder.folder / "in/c.png").unlink()
    for output, name in (((), "in"), (("-o", "out"), "out")):
        assert folder("in", *output) == 0
        with (folder.folder / name / NAME).open("a") as file:
            file.write("\nodd\n")
        write_noise(folder.folder / "in/new.png")
        assert folder("in", *output) == 0
        caplog.clear()
        capsys.readouterr()
        assert folder("in", *output) == 0
        (message,) = (message for message in caplog.messages if NAME in message)
        assert message.startswith(f"{name}/{NAME}: damaged, and left out: line ")
        assert "3 done before" in capsys.readouterr().err
        (folder.folder / "in/new.png").unlink()
        (folder.folder / "in" / NAME).unlink(missing_ok=True)


def test_what_failed_is_tried_again_if_asked_for_or_changed(folder, capsys):
    assert folder("in", "-o", "out") == 1
    assert folder("in", "-o", "out", "--retry-failed") == 1
    assert "0 of 1 done" in capsys.readouterr().err
    write_noise(folder.folder / "in/c.png")
    assert folder("in", "-o", "out") == 0
    assert "1 of 1 done" in capsys.readouterr().err


def test_a_folder_beside_its_results(folder, capsys):
    (folder.folder / "in/c.png").unlink()
    assert folder("in") == 0
    assert folder("in", "--scale", "3") == 0
    (folder.folder / "in/a.png").unlink()  # so that its results have no input any more
    assert folder("in") == 0
    assert "0 of 0 done" in capsys.readouterr().err
    assert set(times(folder.folder / "in")) == {"b.png", "a_x2.png", "a_x3.png", "b_x2.png", "b_x3.png"}


def test_results_beside_their_inputs_do_not_go_to_another_folder(folder, capsys):
    (folder.folder / "in/c.png").unlink()
    assert folder("in", "--scale", "3") == 0
    assert folder("in") == 0  # by factor 2
    assert "2 of 2 done" in (said := capsys.readouterr().err)
    assert said.endswith("; 2 results of earlier calls left out\n")
    assert folder("in", "-o", "out") == 0
    assert "2 of 2 done" in (said := capsys.readouterr().err)
    assert said.endswith("; 4 results of earlier calls left out\n")
    assert set(times(folder.folder / "out")) == {"a.png", "b.png"}
    assert folder("out", "-o", "larger") == 0  # which are results, too, and what is to be enlarged
    assert set(times(folder.folder / "larger")) == {"a.png", "b.png"}


def test_results_of_unknown_origin_or_other_settings_are_refused(folder, capsys):
    write_noise(folder.folder / "out/a.png")
    assert folder("in", "-o", "out") == 2
    assert not (folder.folder / "out/.hat-sr-manifest.jsonl").exists()
    assert folder("in", "-o", "out", "--skip-existing") == 1
    assert folder("in", "-o", "out", "--scale", "3", "--overwrite") == 1
    capsys.readouterr()
    assert folder("in", "-o", "out") == 2
    assert "out/a.png, out/sub/b.png are already there" in capsys.readouterr().err


def test_a_folder_that_was_interrupted_goes_on(folder, monkeypatch):
    def interrupted(path, image, *, quality, keep_dpi):
        if path.name == "b.png":
            raise KeyboardInterrupt
        write_image(path, image, quality=quality, keep_dpi=keep_dpi)

    with monkeypatch.context() as patched:
        patched.setattr("hat_sr.inference.enlarge.write_image", interrupted)
        assert folder("in", "-o", "out") == 130
    before = times(folder.folder / "out")
    assert set(before) == {"a.png"}
    assert folder("in", "-o", "out") == 1
    assert set(times(folder.folder / "out")) == {"a.png", "b.png"}
    assert times(folder.folder / "out")["a.png"] == before["a.png"]


def test_two_calls_in_one_folder_at_a_time(folder, capsys):
    with Ledger(FileLines(folder.folder / "out"), {}) as ledger:
        ledger.begin([Planned(result="x.png", input="x.png", stamp=None, before=None)])
        assert folder("in", "-o", "out") == 1
    assert "out: another process is at work there: start again when it is done" in capsys.readouterr().err
    assert times(folder.folder / "out") == {}


def test_a_full_disk_is_no_fault_of_the_picture(folder, monkeypatch, capsys):
    (folder.folder / "in/c.png").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("hat_sr.image.io.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
        assert folder("in", "-o", "out") == 1
    assert capsys.readouterr().err.count("0 MB free there") == 2
    assert folder("in", "-o", "out") == 0


def test_a_picture_that_vanishes_fails_alone(folder, monkeypatch, capsys):
    def vanishing(path):
        (folder.folder / "in/sub/b.png").unlink(missing_ok=True)
        return read_image(path)

    (folder.folder / "in/c.png").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("hat_sr.inference.enlarge.read_image", vanishing)
        assert folder("in", "-o", "out") == 1
    assert "failed: in/sub/b.png: no such file" in capsys.readouterr().err
    assert set(times(folder.folder / "out")) == {"a.png"}
    assert folder("in", "-o", "out") == 0
    write_noise(folder.folder / "in/sub/b.png")
    assert folder("in", "-o", "out") == 0
    assert set(times(folder.folder / "out")) == {"a.png", "b.png"}
