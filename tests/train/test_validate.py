"""What a training is validated on."""

import pytest
import torch

from hat_sr.errors import ConfigError
from hat_sr.evaluate.benchmark import benchmark, mean_score
from hat_sr.evaluate.dataset import Degraded, find_datasets
from hat_sr.inference.upscale import padded
from hat_sr.train.config import LogConfig
from hat_sr.train.validate import validate
from model.tiny import tiny_model
from train.small import make_photos, small_recipe


@pytest.mark.parametrize(
    ("log", "asked"),
    [
        ({}, {}),
        ({"validation_jpeg": 30}, {"jpeg": 30}),
        ({"validation_degradation": "real"}, {"degraded": Degraded("real")}),
    ],
)
def test_low_resolution_images_of_a_validation(tmp_path, log, asked):
    root = make_photos(tmp_path)
    recipe = small_recipe(root, log=log)
    model = tiny_model(**{name: getattr(recipe.model, name) for name in ("drop_path_rate", "upscale")})
    score, _ = validate(recipe, model.state_dict(), root / "photos", torch.device("cpu"))
    (dataset,) = find_datasets(root / "photos", 2, **asked)
    upscale = padded(model.eval(), multiple=recipe.size_multiple, scale=2)
    wanted = mean_score([result.score for result in benchmark(upscale, dataset)])
    assert score.psnr == pytest.approx(wanted.psnr, abs=1e-6)


def test_one_kind_of_damage():
    with pytest.raises(ConfigError, match="give one"):
        LogConfig(validation_jpeg=50, validation_degradation="mild")
