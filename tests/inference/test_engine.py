"""Exported networks behind `Upscaler`; in torch: test_upscaler.py."""

import dataclasses

import pytest
import torch

from cli.running import write_noise
from hat_sr.checkpoints.checkpoint import METADATA_KEY, description
from hat_sr.errors import ConfigError, InputError, WeightsError
from hat_sr.image.io import read_image
from hat_sr.inference import engine as module
from hat_sr.inference.memory import session_bytes
from hat_sr.inference.streaming import upscale_file
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.config import HATConfig
from hat_sr.runtime.session import Session, open_session
from inference.doubles import nearest, random_image, tiny_hat

CONFIG = HATConfig(upscale=2, in_chans=1, window_size=4, depths=(1,), num_heads=(6,))


def session(run=None, **changes):
    """Nearest neighbour ×2 as an exported network."""
    settings = {
        "name": "double.onnx",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "metadata": {METADATA_KEY: description(CONFIG, {})},
        "fingerprint": "one",
        "run": run or nearest(2),
    }
    return Session(**(settings | changes))


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 12)])
@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_any_size_as_in_torch(exported, suffix, size):
    x = random_image(2, 3, *size)
    upscaler = Upscaler(open_session(getattr(exported, suffix)))
    torch.testing.assert_close(upscaler(x), Upscaler(exported.model, device="cpu")(x), rtol=0, atol=2e-5)


def test_attributes():
    upscaler = Upscaler(session())
    assert (upscaler.scale, upscaler.in_chans, upscaler.config) == (2, 1, CONFIG)
    assert (upscaler.device, upscaler.dtype) == (torch.device("cpu"), torch.float32)
    low = Upscaler(session(runtime="openvino", precision="bf16"), device="cpu")
    assert low.dtype == torch.bfloat16


def test_a_fingerprint_is_of_file_runtime_and_precision(exported):
    sessions = [
        session(),
        session(fingerprint="other"),
        session(runtime="openvino"),
        session(runtime="openvino", precision="bf16"),
        open_session(exported.onnx),
        open_session(exported.xml),
        exported.model,
    ]
    found = [Upscaler(one, device="cpu").fingerprint() for one in sessions]
    assert len(set(found)) == len(found)
    assert found[4:] == [Upscaler(one, device="cpu").fingerprint() for one in sessions[4:]]
    assert Upscaler(tiny_hat(), device="cpu").fingerprint() not in found


def test_a_session_has_one_precision():
    upscaler = Upscaler(session())
    upscaler.compute_in(torch.float32)
    with pytest.raises(ConfigError, match=r"double\.onnx was opened in fp32"):
        upscaler.compute_in(torch.bfloat16)


def test_a_picture_from_file_to_file(tmp_path):
    write_noise(tmp_path / "a.png", 100, 90, channels=1)
    upscale_file(tmp_path / "a.png", tmp_path / "b.png", Upscaler(session(), tile=40))
    pixels = read_image(tmp_path / "a.png").pixels.repeat(2, 0).repeat(2, 1)
    assert (read_image(tmp_path / "b.png").pixels == pixels).all()


def test_tiles_and_ensemble():
    x = random_image(1, 1, 50, 61)
    assert Upscaler(session(), tile=36).plan(50, 61).num_forwards == 6
    out = Upscaler(session(), tile=36, self_ensemble=True)(x)
    torch.testing.assert_close(out, nearest(2)(x))


def test_auto_takes_tiles_where_the_whole_image_does_not_fit():
    needed = session_bytes(CONFIG, "onnxruntime", "fp32", 100, 100) + 4 * 4 * 100 * 100
    assert Upscaler(session(), memory=needed).plan(100, 100).tile_size is None
    plan = Upscaler(session(), memory=needed - 1).plan(100, 100)
    assert plan.tile_size == 96
    assert Upscaler(session(), memory=needed - 1)(random_image(1, 1, 100, 100)).shape == (1, 1, 200, 200)


def test_memory_that_the_runtime_keeps_is_planned_with_again(monkeypatch):
    free = iter([10**9, 10**7])
    monkeypatch.setattr(module, "memory_budget", lambda _: next(free))
    upscaler = Upscaler(session())
    assert upscaler.plan(100, 100) == upscaler.plan(100, 100)


def test_out_of_memory_takes_smaller_tiles_at_once():
    shapes = []

    def limited(x):
        shapes.append(tuple(x.shape[2:]))
        if x.shape[-1] * x.shape[-2] > 2000:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 67108864")
        return nearest(2)(x)

    x = random_image(1, 1, 100, 80)
    torch.testing.assert_close(Upscaler(session(limited), memory=10**9)(x), nearest(2)(x))
    assert shapes[1] == (100, 80)  # after two small ones, which show what it is
    assert shapes[2][0] < 60
    with pytest.raises(InputError, match="memory ran out"):
        Upscaler(session(limited), tile="off")(x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda"}, "device 'cuda': double.onnx runs on the CPU"),
        ({"precision": "bf16"}, "precision 'bf16': double.onnx was opened in fp32"),
        ({"tile": 3}, "tile 3 is none of"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Upscaler(session(), **settings)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [({}, "double.onnx: it does not say what network it is"), ({METADATA_KEY: "?"}, "metadata")],
)
def test_a_file_that_does_not_say_what_it_is(metadata, message):
    with pytest.raises(WeightsError, match=message):
        Upscaler(dataclasses.replace(session(), metadata=metadata))
