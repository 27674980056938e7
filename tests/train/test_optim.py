import pytest

from hat_sr.train.config import OptimConfig
from hat_sr.train.optim import learning_rate


def _rates(**settings):
    config = OptimConfig(learning_rate=1.0, **settings)
    return [learning_rate(config, step) for step in range(config.total_steps)]


def test_warm_up_rises_linearly_to_the_peak():
    assert _rates(total_steps=6, warmup_steps=4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_steps_halve_at_each_milestone():
    assert _rates(total_steps=8, milestones=(2, 5, 6)) == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.125, 0.125]


def test_milestones_of_the_warm_up_count_after_it():
    assert _rates(total_steps=5, warmup_steps=2, milestones=(1, 3)) == [0.5, 1, 0.5, 0.25, 0.25]


def test_cosine_falls_from_the_peak_to_0_at_the_end():
    assert _rates(total_steps=4, schedule="cosine") == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4])
    config = OptimConfig(learning_rate=1.0, total_steps=4, schedule="cosine")
    assert learning_rate(config, 4) == pytest.approx(0, abs=1e-12)
    assert learning_rate(config, 9) == pytest.approx(0, abs=1e-12)


def test_cosine_starts_after_the_warm_up():
    rates = _rates(total_steps=12, warmup_steps=2, schedule="cosine")
    assert rates[:3] == pytest.approx([0.5, 1, 1])
    assert rates[7] == pytest.approx(0.5)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_warm_up_alone():
    assert _rates(total_steps=2, warmup_steps=2, schedule="cosine") == pytest.approx([0.5, 1])
