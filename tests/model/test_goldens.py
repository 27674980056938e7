"""Ours against outputs of an independent implementation (goldens/make_goldens.py says which and how)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from goldens.formula import digest, image, parameters
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT

FILE = Path(__file__).parent.parent / "goldens" / "goldens.safetensors"


def _cases():
    with safe_open(FILE, framework="pt") as file:
        return json.loads(file.metadata()["goldens"])["cases"]


CASES = _cases()


def test_goldens_cover_every_kind_of_network():
    configs = [HATConfig(**case["config"]) for case in CASES.values()]
    assert {config.upscale for config in configs} == {1, 2, 3, 4, 8}
    assert {config.in_chans for config in configs} == {1, 3, 7}
    assert {(config.window_size, config.overlap_ratio) for config in configs} == {
        (8, 0.5), (8, 0.25), (16, 0.5), (16, 0.25),
    }  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_output_equals_golden(name):
    case = CASES[name]
    model = HAT(HATConfig(**case["config"])).eval()
    state = parameters({key: tuple(value.shape) for key, value in model.state_dict().items()})
    assert digest(state) == case["parameters"], "the formula gives other parameters than when the goldens were made"
    model.load_state_dict(state)
    with torch.no_grad():
        output = model(image(tuple(case["input"])))
    torch.testing.assert_close(output, load_file(FILE)[name], rtol=0, atol=1e-5)
