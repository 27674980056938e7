"""The public names: these, no other, and each from its home."""

import ast
import importlib
from pathlib import Path

import pytest

import hat_sr

PUBLIC = {
    "HAT": "hat_sr.model.hat",
    "HATConfig": "hat_sr.model.config",
    "PRESETS": "hat_sr.model.config",
    "Upscaler": "hat_sr.inference.upscaler",
    "enlarge_file": "hat_sr.inference.enlarge",
    "load_model": "hat_sr.checkpoints.named",
    "local_attribution_map": "hat_sr.lam.attribution",
    "psnr": "hat_sr.evaluate.metrics",
    "save_model": "hat_sr.checkpoints.checkpoint",
    "ssim": "hat_sr.evaluate.metrics",
}


def test_all_is_exactly_this():
    assert sorted(hat_sr.__all__) == sorted([*PUBLIC, "__version__", "errors"])


@pytest.mark.parametrize("name", PUBLIC)
def test_name_resolves_to_its_home(name):
    assert getattr(hat_sr, name) is getattr(importlib.import_module(PUBLIC[name]), name)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(hat_sr.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == PUBLIC


def test_dir_lists_them():
    assert set(hat_sr.__all__) <= set(dir(hat_sr))


def test_star_import():
    names = {}
    exec("from hat_sr import *", names)
    assert set(hat_sr.__all__) <= set(names)


def test_errors_are_there_without_another_import():
    assert issubclass(hat_sr.errors.InputError, hat_sr.errors.HatError)


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'hat_sr' has no attribute 'upscale_file'"):
        hat_sr.upscale_file  # noqa: B018
    with pytest.raises(ImportError, match="Swin"):
        exec("from hat_sr import Swin")


def test_version():
    assert [part.isdigit() for part in hat_sr.__version__.split(".")] == [True] * 3
