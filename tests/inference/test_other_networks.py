import pytest
import torch

from hat_sr.errors import ConfigError, InputError
from hat_sr.inference.engine import Network
from hat_sr.inference.upscaler import Upscaler
from inference.doubles import blurred, nearest, random_image


def plain(upscale, **changes):
    settings = {"name": "double", "title": "double", "scale": 2, "in_chans": 3, "size_multiple": 4}
    return Network(upscale=upscale, **(settings | changes))


def test_the_upscaler_runs_it_whole_in_float32():
    weight = torch.ones((), requires_grad=True)
    upscaler = Upscaler(plain(lambda x: nearest(2)(x) * weight), device="cpu")
    assert (upscaler.scale, upscaler.in_chans, upscaler.device.type, upscaler.dtype) == (2, 3, "cpu", torch.float32)
    x, calls = random_image(2, 3, 5, 7, dtype=torch.float64), []
    out = upscaler(x, report=calls.append)
    assert torch.equal(out, nearest(2)(x.float()))
    assert not out.requires_grad
    assert calls == [1.0]


def test_tiles_where_they_are_asked_for():
    sizes = []

    def upscale(x):
        sizes.append(x.shape[-2:])
        return blurred(2, 3)(x)

    x = random_image(1, 3, 150, 60)
    parts = []
    tiled = Upscaler(plain(upscale), tile=99, device="cpu")(x, report=parts.append)
    assert len(sizes) > 1
    assert parts == [number / len(sizes) for number in range(1, len(sizes) + 1)]
    parts.clear()
    Upscaler(plain(nearest(2)), tile=99, self_ensemble=True, device="cpu")(x, report=parts.append)
    assert len(parts) == 8 * len(sizes)
    assert parts[-1] == 1
    assert max(max(size) for size in sizes) <= 96
    torch.testing.assert_close(tiled, blurred(2, 3)(x))
    with pytest.raises(ConfigError, match=r"tile 15 is none of .* at least 76"):
        Upscaler(plain(upscale), tile=15, device="cpu")(x)


def test_self_ensemble():
    calls = []
    x = random_image(1, 3, 4, 6)
    out = Upscaler(plain(lambda y: calls.append(y) or nearest(2)(y)), self_ensemble=True, device="cpu")(x)
    assert len(calls) == 8
    torch.testing.assert_close(out, nearest(2)(x))


def test_precision():
    module = torch.nn.Linear(1, 1)
    network = plain(nearest(2), module=module, dtypes=(torch.float32, torch.bfloat16))
    upscaler = Upscaler(network, precision="bf16", device="cpu")
    x = random_image(1, 3, 4, 5)
    assert torch.equal(upscaler(x), nearest(2)(x.bfloat16()).float())
    assert (upscaler.dtype, module.weight.dtype) == (torch.bfloat16, torch.bfloat16)
    with pytest.raises(ConfigError, match="double does not run in fp16: use fp32"):
        Upscaler(network, precision="fp16", device="cpu")


def test_a_result_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"double made \(4, 6\) pixels instead of \(8, 12\)"):
        Upscaler(plain(lambda x: x), device="cpu")(random_image(1, 3, 4, 6))
