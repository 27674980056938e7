"""From file to file: the same as in memory, by the byte, and going on after a stop."""

import errno
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hat_sr.errors import ImageError, InputError
from hat_sr.image import reader
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image, Metadata
from hat_sr.image.spool import Spool
from hat_sr.inference import streaming, strips
from hat_sr.inference.device import find_dtype
from hat_sr.inference.journal import Journal, read_journal, unfinished_folder
from hat_sr.inference.picture import upscale_image
from hat_sr.inference.sizing import upscale_to
from hat_sr.inference.streaming import is_unfinished, upscale_file
from hat_sr.inference.upscaler import Upscaler
from inference.doubles import tiny_hat

HEIGHT, WIDTH = 61, 75
"""Odd, and four rows of tiles of 32 pixels, five columns."""
TILES = 4 * 5


@pytest.fixture(scope="module")
def model():
    return tiny_hat()


@pytest.fixture
def upscaler(model):
    return Upscaler(model, tile=32, device="cpu")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Files are read and written in several blocks."""
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(strips, "_BLOCK_BYTES", 1 << 12)


def picture(channels=3, dtype="uint8", height=HEIGHT, width=WIDTH, **more):
    """Noise, up to 3 in floats, with a hole where there is alpha."""
    values = np.random.default_rng(0).random((height, width, channels))
    if channels in (2, 4):
        values[20:40, 10:30, -1] = 0
        values[:, 60:, -1] = 1
    if dtype.startswith("uint"):
        return Image((values * np.iinfo(dtype).max).astype(dtype), **more)
    values[..., : channels - (channels in (2, 4))] *= 3
    return Image(values.astype(dtype), linear=True, **more)


def in_memory(source, output, upscaler, **more):
    write_image(output, upscale_image(read_image(source), upscaler, in_chans=upscaler.in_chans), **more)
    return output.read_bytes()


def left_behind(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "channels", "dtype"),
    [
        ("a.png", 3, "uint8"),
        ("a.png", 1, "uint8"),
        ("a.png", 4, "uint8"),
        ("a.png", 2, "uint16"),
        ("a.tif", 3, "uint16"),
        ("a.tif", 4, "uint8"),
        ("a.jpg", 3, "uint8"),
        ("a.webp", 4, "uint8"),
        ("a.bmp", 1, "uint8"),
    ],
)
def test_the_file_is_that_of_tiles_in_memory(tmp_path, upscaler, name, channels, dtype):
    write_image(tmp_path / name, picture(channels, dtype))
    wanted = in_memory(tmp_path / name, tmp_path / f"whole_{name}", upscaler)
    upscale_file(tmp_path / name, tmp_path / f"strips_{name}", upscaler)
    assert (tmp_path / f"strips_{name}").read_bytes() == wanted
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("size", [(1, 1), (7, 99), (99, 7), (24, 24), (32, 33), (130, 33)])
def test_sizes(tmp_path, upscaler, size):
    write_image(tmp_path / "a.png", picture(4, height=size[0], width=size[1]))
    wanted = in_memory(tmp_path / "a.png", tmp_path / "whole.png", upscaler)
    upscale_file(tmp_path / "a.png", tmp_path / "strips.png", upscaler)
    assert (tmp_path / "strips.png").read_bytes() == wanted


def test_floats_are_the_same_up_to_the_rounding_of_the_curve(tmp_path, upscaler, caplog):
    image = picture(4, "float32")
    image.pixels[50, 50, :3] = -1, 0.5, 0.5
    whole, strip = _whole_and_strips(tmp_path, "a.tif", image, upscaler)
    np.testing.assert_allclose(strip, whole, rtol=1e-6, atol=1e-7)
    assert whole.max() > 2
    assert caplog.text.count("1 values below 0") == 2


def test_half_floats_differ_by_their_last_digit_at_most(tmp_path, upscaler):
    whole, strip = _whole_and_strips(tmp_path, "a.exr", picture(4, "float16"), upscaler)
    np.testing.assert_allclose(strip.astype(float), whole.astype(float), rtol=2**-10, atol=2**-24)
    assert left_behind(tmp_path) == []


def _whole_and_strips(folder, name, image, upscaler):
    write_image(folder / name, image)
    in_memory(folder / name, folder / f"whole_{name}", upscaler)
    upscale_file(folder / name, folder / f"strips_{name}", upscaler)
    return [read_image(folder / f"{how}_{name}").pixels for how in ("whole", "strips")]


@pytest.mark.parametrize("size", [(61, 75), (92, 113), (150, 150), (183, 225)])
@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (4, "uint16"), (1, "uint8")])
def test_one_resize_at_the_end_is_that_of_memory_but_for_rounding(tmp_path, upscaler, size, channels, dtype):
    write_image(tmp_path / "a.png", picture(channels, dtype))
    whole = upscale_image(
        read_image(tmp_path / "a.png"), lambda x: upscale_to([(upscaler, upscaler.scale)], x, size), in_chans=3
    )
    upscale_file(tmp_path / "a.png", tmp_path / "b.png", upscaler, size=size)
    strip = read_image(tmp_path / "b.png").pixels
    assert strip.shape == (*size, channels)
    color = slice(None, -1) if channels in (2, 4) else slice(None)
    np.testing.assert_allclose(strip[..., color], whole.color.astype(float), atol=1.5)
    if channels == 4:  # which the network sharpens, and memory keeps between the neighbours of the small picture
        assert np.abs(strip[..., -1].astype(float) - whole.pixels[..., -1]).mean() < 0.01 * 65535


def test_a_resized_picture_of_light(tmp_path, upscaler):
    write_image(tmp_path / "a.tif", picture(3, "float32"))
    whole = upscale_image(
        read_image(tmp_path / "a.tif"), lambda x: upscale_to([(upscaler, upscaler.scale)], x, (92, 113)), in_chans=3
    )
    upscale_file(tmp_path / "a.tif", tmp_path / "b.tif", upscaler, size=(92, 113))
    np.testing.assert_allclose(read_image(tmp_path / "b.tif").pixels, whole.pixels, rtol=1e-4, atol=1e-5)


def test_the_size_may_change_when_it_goes_on(tmp_path, stopped, upscaler):
    """The network's result does not depend on it."""
    upscale_file(stopped.source, stopped.output, upscaler, size=(92, 113), say=(said := []).append)
    assert "going on after strip" in said[0]
    assert read_image(stopped.output).pixels.shape == (92, 113, 4)


def test_self_ensemble_and_one_channel(tmp_path):
    upscaler = Upscaler(tiny_hat(in_chans=1), tile=32, self_ensemble=True, device="cpu")
    write_image(tmp_path / "a.png", picture(2))
    wanted = in_memory(tmp_path / "a.png", tmp_path / "whole.png", upscaler)
    upscale_file(tmp_path / "a.png", tmp_path / "strips.png", upscaler)
    assert (tmp_path / "strips.png").read_bytes() == wanted
    write_image(tmp_path / "rgb.png", picture(3))
    with pytest.raises(InputError, match="needs a network of 3 channels"):
        upscale_file(tmp_path / "rgb.png", tmp_path / "strips.png", upscaler)
    assert left_behind(tmp_path) == []


def test_another_kind_of_file_with_what_the_file_says(tmp_path, upscaler, caplog):
    attributes = (("XResolution", "float", 300.0), ("YResolution", "float", 300.0), ("ResolutionUnit", "string", "in"))
    metadata = Metadata(xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", attributes=attributes)
    write_image(tmp_path / "a.png", picture(4, metadata=metadata))
    for name, quality in (("b.jpg", 80), ("b.png", None)):
        caplog.clear()
        wanted = in_memory(tmp_path / "a.png", tmp_path / f"whole_{name}", upscaler, quality=quality)
        upscale_file(tmp_path / "a.png", tmp_path / name, upscaler, quality=quality)
        assert (tmp_path / name).read_bytes() == wanted
        assert b"xmpmeta" in wanted
        assert caplog.text.count("laid on white") == (2 if name == "b.jpg" else 0)


def test_progress_and_what_is_said(tmp_path, upscaler):
    write_image(tmp_path / "a.png", picture())
    calls, said = [], []
    upscale_file(
        tmp_path / "a.png",
        tmp_path / "b.png",
        upscaler,
        progress=lambda done, total: calls.append((done, total)),
        say=said.append,
    )
    assert calls == [(done, TILES) for done in range(TILES + 1)]
    (sentence,) = said
    assert f"strip by strip, in {TILES} tiles of up to 32 pixels a side" in sentence


def stopped_after(number, error=KeyboardInterrupt):
    """A progress report that stops the job once so many tiles are done."""

    def report(done, total):
        if done == number:
            raise error

    return report


@pytest.fixture
def stopped(tmp_path, upscaler):
    """A job that was stopped in its third row of tiles."""
    write_image(tmp_path / "a.png", picture(4))
    said = []
    with pytest.raises(KeyboardInterrupt):
        upscale_file(tmp_path / "a.png", tmp_path / "b.png", upscaler, progress=stopped_after(12), say=said.append)
    assert "2 finished strips are kept: the same command goes on" in said[-1]
    assert not (tmp_path / "b.png").exists()
    return SimpleNamespace(source=tmp_path / "a.png", output=tmp_path / "b.png", folder=tmp_path)


def go_on(job, upscaler, **more):
    """(reports of progress, sentences) of another run."""
    calls, said = [], []
    upscale_file(job.source, job.output, upscaler, progress=lambda done, _: calls.append(done), say=said.append, **more)
    return calls, said


def test_a_job_goes_on_after_its_last_finished_strip(stopped, upscaler, model):
    assert is_unfinished(stopped.source, stopped.output, upscaler)
    wanted = in_memory(stopped.source, stopped.folder / "whole.png", Upscaler(model, tile=32, device="cpu"))
    calls, said = go_on(stopped, upscaler)
    assert calls == list(range(10, TILES + 1))
    assert said == [f"{stopped.source}: going on after strip 2 of 4"]
    assert stopped.output.read_bytes() == wanted
    assert left_behind(stopped.folder) == []
    assert not is_unfinished(stopped.source, stopped.output, upscaler)


def test_what_is_on_disk_is_not_computed_again(stopped, upscaler):
    """The finished strips are taken as they are: black ones stay black."""
    raw = unfinished_folder(stopped.output) / "result.raw"
    num_rows = 2 * upscaler.plan_tiling(HEIGHT, WIDTH, upscaler.plan_stream(HEIGHT, WIDTH)).finished(1)[1]
    with Spool(raw, height=2 * HEIGHT, width=2 * WIDTH, channels=4, dtype="uint8") as spool:
        spool.write(0, 0, np.zeros((num_rows, 2 * WIDTH, 4), np.uint8))
    go_on(stopped, upscaler)
    pixels = read_image(stopped.output).pixels
    assert (pixels[:num_rows] == 0).all()
    assert pixels[num_rows:].any(axis=(1, 2)).all()


def test_a_stop_while_the_file_is_written(tmp_path, upscaler, monkeypatch):
    write_image(tmp_path / "a.png", picture())

    def fails(*_, **__):
        raise ImageError("surprise")

    with monkeypatch.context() as patched:
        patched.setattr(streaming, "write_rows", fails)
        with pytest.raises(ImageError, match="surprise"):
            upscale_file(tmp_path / "a.png", tmp_path / "b.png", upscaler)
    assert len(read_journal(unfinished_folder(tmp_path / "b.png"))) == 5
    calls, _ = go_on(SimpleNamespace(source=tmp_path / "a.png", output=tmp_path / "b.png"), upscaler)
    assert calls == [TILES]
    assert read_image(tmp_path / "b.png").height == 2 * HEIGHT


@pytest.mark.parametrize("changed", ["input", "model", "tile", "self_ensemble"])
def test_something_else_starts_anew_and_says_so(stopped, upscaler, model, changed):
    if changed == "input":
        write_image(stopped.source, picture(3))
    elif changed == "model":
        other = tiny_hat()
        other.conv_last.weight.data *= 0.5
        upscaler = Upscaler(other, tile=32, device="cpu")
    elif changed == "tile":
        upscaler = Upscaler(model, tile=36, device="cpu")
    else:
        upscaler = Upscaler(model, tile=32, self_ensemble=True, device="cpu")
    assert not is_unfinished(stopped.source, stopped.output, upscaler)
    wanted = in_memory(stopped.source, stopped.folder / "whole.png", upscaler)
    calls, said = go_on(stopped, upscaler)
    assert calls[0] == 0
    assert said[0] == f"{stopped.source}: starting anew: what was begun had another {changed}"
    assert stopped.output.read_bytes() == wanted


def test_an_automatic_tile_is_kept_though_memory_has_changed(tmp_path, model):
    write_image(tmp_path / "a.png", picture(height=80, width=30))
    small, large = (Upscaler(model, memory=memory, device="cpu") for memory in (1, 10**9))
    assert small.plan_stream(80, 30) != large.plan_stream(80, 30)
    with pytest.raises(KeyboardInterrupt):
        upscale_file(tmp_path / "a.png", tmp_path / "b.png", small, progress=stopped_after(30))
    calls, _ = go_on(SimpleNamespace(source=tmp_path / "a.png", output=tmp_path / "b.png"), large)
    assert calls[0] > 0
    upscale_file(tmp_path / "a.png", tmp_path / "c.png", small)
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()


@pytest.mark.parametrize("name", ["source.raw", "result.raw", "above-0.npy"])
def test_damage_starts_anew(stopped, upscaler, name):
    path = unfinished_folder(stopped.output) / name
    path.write_bytes(path.read_bytes()[:1000] if name.endswith("raw") else b"")
    calls, said = go_on(stopped, upscaler)
    assert calls[0] == 0
    assert "what was begun is damaged" in said[0]


def stopped_in(precision, tmp_path, upscaler):
    """A job whose first strips were computed in that precision."""
    write_image(tmp_path / "a.png", picture())
    upscaler.compute_in(find_dtype(precision, upscaler.device))
    with pytest.raises(KeyboardInterrupt):
        upscale_file(tmp_path / "a.png", tmp_path / "b.png", upscaler, progress=stopped_after(12))
    return SimpleNamespace(source=tmp_path / "a.png", output=tmp_path / "b.png", folder=tmp_path)


def test_another_precision_by_auto_starts_anew(tmp_path, model, monkeypatch):
    """As on another kind of processor."""
    monkeypatch.setattr("hat_sr.inference.device.multiplies_bf16", lambda: True)
    job = stopped_in("bf16", tmp_path, Upscaler(model, tile=32, precision="auto", device="cpu"))
    assert go_on(job, Upscaler(model, tile=32, precision="bf16", device="cpu"))[0][0] == 10
    job = stopped_in("bf16", tmp_path, Upscaler(model, tile=32, precision="auto", device="cpu"))
    monkeypatch.setattr("hat_sr.inference.device.multiplies_bf16", lambda: False)
    calls, said = go_on(job, Upscaler(model, tile=32, precision="auto", device="cpu"))
    assert calls[0] == 0
    assert "what was begun had another precision" in said[0]


def test_a_fall_back_to_fp32_is_remembered(tmp_path, model):
    """A result that is not finite makes all later ones fp32, in the next run, too."""
    job = stopped_in("fp32", tmp_path, Upscaler(model, tile=32, precision="fp16", device="cpu"))
    again = Upscaler(model, tile=32, precision="fp16", device="cpu")
    assert go_on(job, again)[0][0] == 10
    assert again.dtype == torch.float32


def test_two_at_a_time_are_refused(stopped, upscaler):
    with Journal(stopped.output), pytest.raises(ImageError, match="another process is making it"):
        upscale_file(stopped.source, stopped.output, upscaler)
    assert is_unfinished(stopped.source, stopped.output, upscaler)


def test_a_damaged_input_leaves_nothing(tmp_path, upscaler):
    write_image(tmp_path / "a.png", picture(height=400))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"a\.png: damaged or cut short"):
        upscale_file(tmp_path / "a.png", tmp_path / "b.png", upscaler)
    assert left_behind(tmp_path) == []


def test_an_input_that_vanishes_leaves_what_is_finished(stopped, upscaler):
    moved = stopped.source.rename(stopped.folder / "moved.png")
    with pytest.raises(ImageError, match="no such file"):
        go_on(stopped, upscaler)
    moved.rename(stopped.source)
    assert go_on(stopped, upscaler)[0][0] == 10


def test_no_room_is_an_error_before_any_work(tmp_path, upscaler, monkeypatch):
    write_image(tmp_path / "a.png", picture(height=600, width=600))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 10**6))
    with pytest.raises(ImageError, match=r"up to 9\.7 MB are needed on that disk and 5\.0 MB are free: 4\.7 MB"):
        upscale_file(tmp_path / "a.png", tmp_path / "b.png", upscaler)
    assert left_behind(tmp_path) == []


def test_a_disk_that_fills_up_keeps_what_is_finished(tmp_path, upscaler, monkeypatch):
    write_image(tmp_path / "a.png", picture())
    sync = Spool.sync

    def full(spool):
        if spool.path.name == "result.raw" and len(read_journal(spool.path.parent)) == 3:
            patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(spool)

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "sync", full)
        with pytest.raises(ImageError, match=r"up to 0\.1 MB are needed on that disk and 0\.0 MB are free"):
            upscale_file(tmp_path / "a.png", tmp_path / "b.png", upscaler)
    assert go_on(SimpleNamespace(source=tmp_path / "a.png", output=tmp_path / "b.png"), upscaler)[0][0] == 10


def test_memory_that_runs_out_is_a_sentence(tmp_path, upscaler, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    write_image(tmp_path / "a.png", picture())
    monkeypatch.setattr("hat_sr.inference.engine.forward_in_bands", fails)
    with pytest.raises(InputError, match="memory ran out on a tile of 32 pixels"):
        upscale_file(tmp_path / "a.png", tmp_path / "b.png", upscaler)


@pytest.mark.parametrize(
    ("name", "quality", "message"),
    [("b.gif", None, "cannot write"), ("no/b.png", None, "make it first"), ("b.jpg", 101, "1 to 100")],
)
def test_an_output_that_cannot_be_is_refused_at_once(tmp_path, upscaler, name, quality, message):
    write_image(tmp_path / "a.png", picture())
    with pytest.raises((ImageError, InputError), match=message):
        upscale_file(tmp_path / "a.png", tmp_path / name, upscaler, quality=quality)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
