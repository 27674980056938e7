import torch

from hat_sr.inference.upscale import self_ensemble
from inference.doubles import blurred, nearest, random_image


def test_identity_on_an_equivariant_function():
    x = random_image(2, 3, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(self_ensemble(nearest(3))(x), nearest(3)(x), rtol=0, atol=1e-15)


def test_result_turns_and_mirrors_with_the_image():
    run = self_ensemble(blurred(2, 2))
    x = random_image(1, 1, 6, 9, dtype=torch.float64)
    out = run(x)
    assert not torch.allclose(out, blurred(2, 2)(x))
    for turns in range(4):
        torch.testing.assert_close(run(x.rot90(turns, (-2, -1))), out.rot90(turns, (-2, -1)))
        torch.testing.assert_close(run(x.flip(-1).rot90(turns, (-2, -1))), out.flip(-1).rot90(turns, (-2, -1)))


def test_eight_different_views():
    seen = []

    def run(x):
        seen.append(x.clone())
        return x

    self_ensemble(run)(random_image(1, 1, 4, 4))
    assert len(seen) == 8
    assert all(not torch.equal(a, b) for n, a in enumerate(seen) for b in seen[:n])
