"""The loop: a golden run, going on after a stop, averaging, and losses that are no numbers."""

import json

import pytest
import torch

from hat_sr import __version__
from hat_sr.errors import DataError, HatError, TrainingError, WeightsError
from hat_sr.evaluate.benchmark import benchmark, mean_score
from hat_sr.evaluate.dataset import find_datasets
from hat_sr.inference.pad import padded
from hat_sr.model.checkpoint import build_model, read_checkpoint
from hat_sr.train.loop import train, train_step
from hat_sr.train.state import start_state
from train.small import make_photos, photo, save_png, small_recipe
from train.test_state import assert_same_state

# fmt: off
GOLDEN = [
    0.1423815, 0.1712718, 0.1448690, 0.1764580, 0.1344894,
    0.1364846, 0.1481631, 0.1281848, 0.1291802, 0.1294190,
    0.1443828, 0.1462880, 0.1216535, 0.1154236, 0.1438871,
    0.1367709, 0.1287162, 0.1293676, 0.1210268, 0.1225857,
]
# fmt: on


@pytest.fixture
def root(tmp_path):
    return make_photos(tmp_path)


def _log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_losses_of_20_steps(root):
    """Stored from a run of this test. They changed? Then so did every training: know why before storing new ones."""
    recipe = small_recipe(root, optim={"total_steps": 20, "warmup_steps": 2, "clip_norm": 1.0})
    train(recipe, root / "run")
    losses = [record["loss"] for record in _log(root / "run")]
    assert losses == pytest.approx(GOLDEN, rel=1e-4)


def test_loss_falls(root):
    recipe = small_recipe(root, start="interpolator", optim={"total_steps": 20, "learning_rate": 2e-3})
    train(recipe, root / "run")
    losses = [record["loss"] for record in _log(root / "run")]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


class _StopError(Exception):
    pass


def _train_and_stop(recipe, folder, *, at):
    def stop(step, record):
        if step == at:
            raise _StopError

    with pytest.raises(_StopError):
        train(recipe, folder, on_progress=stop)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_going_on_gives_the_same_weights(root, rate):
    """Stopped after step 5, saved at 2 and 4: steps 5 to 8 are done again, as if nothing had happened."""
    recipe = small_recipe(root, model={"drop_path_rate": rate})
    expected = train(recipe, root / "whole")
    _train_and_stop(recipe, root / "run", at=5)
    resumed = train(recipe, root / "run")
    assert_same_state(resumed, expected)
    losses = {record["step"]: record["loss"] for record in _log(root / "run")}
    assert losses == {record["step"]: record["loss"] for record in _log(root / "whole")}
    assert (root / "run" / "weights.safetensors").read_bytes() == (root / "whole" / "weights.safetensors").read_bytes()


def test_going_on_from_the_state_before(root):
    recipe = small_recipe(root)
    expected = train(recipe, root / "whole")
    _train_and_stop(recipe, root / "run", at=5)
    state = root / "run" / "state.pt"
    state.write_bytes(state.read_bytes()[:-1000])
    assert_same_state(train(recipe, root / "run"), expected)


def test_a_finished_training_is_left_as_it_is(root):
    recipe = small_recipe(root, optim={"total_steps": 2})
    expected = train(recipe, root / "run")
    lines = len(_log(root / "run"))
    assert_same_state(train(recipe, root / "run"), expected)
    assert len(_log(root / "run")) == lines


def test_another_network_in_the_same_folder_is_refused(root):
    train(small_recipe(root, optim={"total_steps": 1}), root / "run")
    with pytest.raises(WeightsError, match="another recipe"):
        train(small_recipe(root, model={"embed_dim": 24}), root / "run")


def _batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 4, 4, generator=generator), torch.rand(2, 3, 8, 8, generator=generator)


def test_averaged_weights(tmp_path):
    """Those of the first step, then decay · average + (1 − decay) · weights."""
    recipe = small_recipe(tmp_path, optim={"ema_decay": 0.75})
    state = start_state(recipe)
    expected = None
    for step in range(4):
        train_step(state, recipe, *_batch(step))
        weight = state.model.conv_first.weight.detach().clone()
        expected = weight if expected is None else 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(state.averaged.conv_first.weight.detach(), expected)
    assert not torch.equal(expected, weight)


def test_averaging_at_decay_0_is_the_model(tmp_path):
    recipe = small_recipe(tmp_path, optim={"ema_decay": 0.0})
    state = start_state(recipe)
    for step in range(3):
        train_step(state, recipe, *_batch(step))
    for averaged, weight in zip(state.averaged.parameters(), state.model.parameters(), strict=True):
        assert torch.equal(averaged, weight)


def test_one_step_is_adam_on_the_l1_loss(tmp_path):
    recipe = small_recipe(tmp_path, model={"drop_path_rate": 0.0}, optim={"warmup_steps": 2})
    state, other = start_state(recipe), start_state(recipe)
    lr, hr = _batch(0)
    loss = (other.model.train()(lr) - hr).abs().mean()
    loss.backward()
    assert train_step(state, recipe, lr, hr) == pytest.approx(loss.item())
    before, gradient = (x.detach() for x in (other.model.conv_last.weight, other.model.conv_last.weight.grad))
    moved = (state.model.conv_last.weight.detach() - before)[gradient.abs() > 1e-4]
    # Adam's first step has the length of the learning rate, here half of 1e-3, against the gradient.
    torch.testing.assert_close(moved, -5e-4 * gradient[gradient.abs() > 1e-4].sign(), rtol=1e-2, atol=0)
    assert state.step == 1


def test_gradients_are_clipped(tmp_path):
    norms = {}
    for clip_norm in (None, 1e-3):
        recipe = small_recipe(tmp_path, model={"drop_path_rate": 0.0}, optim={"clip_norm": clip_norm})
        state = start_state(recipe)
        train_step(state, recipe, *_batch(0))
        squares = sum(parameter.grad.square().sum() for parameter in state.model.parameters())
        norms[clip_norm] = squares.sqrt().item()
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-2)
    assert norms[None] > 1e-2


def test_bf16_leaves_the_weights_in_fp32(tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        recipe = small_recipe(tmp_path, model={"drop_path_rate": 0.0}, precision=precision)
        state = start_state(recipe)
        losses[precision] = train_step(state, recipe, *_batch(0))
        assert {parameter.dtype for parameter in state.model.parameters()} == {torch.float32}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_the_update(tmp_path, value):
    recipe = small_recipe(tmp_path)
    state = start_state(recipe)
    lr, hr = _batch(0)
    lr[0, 0, 0, 0] = value
    with pytest.raises(TrainingError, match=r"loss of step 0 is (nan|inf).*learning_rate"):
        train_step(state, recipe, lr, hr)
    assert issubclass(TrainingError, HatError)
    assert_same_state(state, start_state(recipe))


def test_missing_data(tmp_path):
    with pytest.raises(DataError, match=r"data\.root"):
        train(small_recipe(tmp_path), tmp_path / "run")


def test_reports_are_means_since_the_last(root):
    every = small_recipe(root, optim={"total_steps": 8})
    train(every, root / "every")
    save_png(root / "set" / "a.png", photo(32, 32))
    log = {"report_every": 4, "validate_every": 3, "validation_folder": str(root / "set")}
    seen = {}
    train(small_recipe(root, log=log), root / "run", on_progress=lambda step, record: seen.update({step: record}))
    assert list(seen) == [3, 4, 6, 8]
    assert set(seen[3]) == set(seen[6]) == {"psnr", "ssim"}
    assert set(seen[4]) == {"loss", "learning_rate", "steps_per_second"}
    assert set(seen[8]) == set(seen[3]) | set(seen[4])
    losses = [record["loss"] for record in _log(root / "every")]
    assert seen[4]["loss"] == pytest.approx(sum(losses[:4]) / 4)
    assert seen[8]["loss"] == pytest.approx(sum(losses[4:]) / 4)


def test_the_written_network_is_the_averaged_one_and_scores_as_logged(root):
    save_png(root / "set" / "a.png", photo(32, 34))
    recipe = small_recipe(root, optim={"total_steps": 2}, log={"validation_folder": str(root / "set")})
    state = train(recipe, root / "run")
    checkpoint = read_checkpoint(root / "run" / "weights.safetensors")
    assert checkpoint.config == recipe.model
    assert checkpoint.provenance == {"steps": "2", "trained_by": f"hat-sr {__version__}"}
    model = build_model(checkpoint)
    for name, value in state.averaged.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    (dataset,) = find_datasets(root / "set", 2)
    score = mean_score([result.model for result in benchmark(padded(model, multiple=4, scale=2), dataset)])
    logged = _log(root / "run")[-1]
    assert (logged["psnr"], logged["ssim"]) == pytest.approx((score.psnr, score.ssim))
