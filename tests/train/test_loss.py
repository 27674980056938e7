import math

import pytest
import torch

from hat_sr.errors import ConfigError
from hat_sr.train.config import OptimConfig
from hat_sr.train.objective import frequency_loss, pixel_loss

HR = torch.rand(2, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "wanted"), [("l1", 0.2), ("mse", 0.04), ("charbonnier", math.sqrt(0.040001))])
def test_pixel_losses_of_one_distance(name, wanted):
    signs = torch.where(HR > 0.5, 1.0, -1.0).double()
    assert pixel_loss(HR + 0.2 * signs, HR, name).item() == pytest.approx(wanted, rel=1e-12)


def test_the_frequency_loss_of_a_constant_is_in_the_first_frequency_alone():
    frequencies, parts = 4 * (6 // 2 + 1), 2
    assert frequency_loss(HR + 0.1, HR).item() == pytest.approx(0.1 * 4 * 6 / (frequencies * parts), rel=1e-12)


def test_charbonnier_has_a_gradient_where_there_is_no_difference():
    sr = HR.clone().requires_grad_()
    pixel_loss(sr, HR, "charbonnier").backward()
    assert torch.equal(sr.grad, torch.zeros_like(HR))


def test_an_unknown_loss_is_refused():
    with pytest.raises(ConfigError, match="loss 'huber' is not one of l1, charbonnier, mse"):
        OptimConfig(total_steps=1, loss="huber")


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="frequency_weight -1"):
        OptimConfig(total_steps=1, frequency_weight=-1)
