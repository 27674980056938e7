import numpy as np
import pytest
from numpy.random import PCG64, Generator

from hat_sr.degradation import draws


def test_numbers_are_those_of_the_bits():
    """Pinned: scores on degraded images are compared between machines and years."""
    random = Generator(PCG64(0))
    assert draws.uniform(random, 0.0, 1.0) == 0.6369616873214543
    assert draws.uniform(random, -1.0, 1.0) == -0.4604265724722594
    assert [draws.below(random, 10) for _ in range(8)] == [0, 0, 8, 9, 6, 7, 5, 9]
    assert draws.normal(random, (2, 2)).tolist() == [[-0.78564453125, -0.5908203125], [0.767333984375, 0.899658203125]]
    assert draws.photons(random, np.array([[0, 1, 128, 255]], dtype=np.uint8)).tolist() == [[0, 1, 127, 213]]


def test_choice_has_its_shares():
    random = Generator(PCG64(1))
    chosen = [draws.choice(random, (0.2, 0.0, 0.8)) for _ in range(2000)]
    assert chosen.count(0) / 2000 == pytest.approx(0.2, abs=0.03)
    assert 1 not in chosen


def test_normal_numbers():
    numbers = draws.normal(Generator(PCG64(2)), (400, 401))
    assert numbers.shape == (400, 401)
    assert numbers.mean() == pytest.approx(0, abs=0.01)
    assert numbers.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(numbers) > 2).mean() == pytest.approx(0.0455, abs=0.003)


def test_photons_have_mean_and_variance_of_the_level():
    random = Generator(PCG64(3))
    for level in (0, 3, 128, 255):
        counts = draws.photons(random, np.full((300, 300), level, dtype=np.uint8))
        assert counts.mean() == pytest.approx(level * 256 / 255, rel=0.02)
        assert counts.var() == pytest.approx(level * 256 / 255, rel=0.03)
