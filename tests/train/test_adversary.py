"""The discriminator, what it adds to the loss, and a training that goes on with it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hat_sr.errors import ConfigError, TrainingError
from hat_sr.train.adversary import Adversary, Discriminator
from hat_sr.train.config import AdversaryConfig, OptimConfig, SourceConfig
from hat_sr.train.data.batches import Batch
from hat_sr.train.loop import train, train_step
from hat_sr.train.state import resume_state, save_state
from train.small import make_photos, small_recipe
from train.test_state import assert_same_state, random_batch, start

CPU = torch.device("cpu")
SMALL = AdversaryConfig(weight=0.05, channels=2)


def _adversary(**settings):
    torch.manual_seed(0)
    return Adversary(replace(SMALL, **settings), OptimConfig(total_steps=10), device=CPU, low=False)


def _images(seed, side=16):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_discriminator_is_the_published_u_net():
    """Its layers by their shapes, and its parameters as counted by hand for 64 channels."""
    network = Discriminator(64, normalised=False)
    shapes = [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    down = [(128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4)]
    up = [(256, 512, 3, 3), (128, 256, 3, 3), (64, 128, 3, 3)]
    assert shapes == [(64, 3, 3, 3), *down, *up, (64, 64, 3, 3), (64, 64, 3, 3), (1, 64, 3, 3)]
    assert network(_images(0)).shape == (2, 1, 16, 16)


def test_spectral_norm_keeps_layers_from_growing():
    network = Discriminator(4)
    with torch.no_grad():
        network.up[0].parametrizations.weight.original.mul_(100)
    for _ in range(30):
        network(_images(0))  # each pass in training refines the estimate
    norm = torch.linalg.matrix_norm(network.up[0].weight.flatten(1), ord=2)
    assert norm.item() == pytest.approx(1, abs=0.01)


def test_the_networks_loss_is_the_cross_entropy_with_real_and_leaves_the_discriminator_alone():
    adversary, sr = _adversary(spectral_norm=False), _images(1).requires_grad_()
    loss = adversary.loss(sr)
    loss.backward()
    assert loss.item() == pytest.approx(F.softplus(-adversary.network(sr)).mean().item(), rel=1e-6)
    assert sr.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in adversary.network.parameters())


def test_the_discriminator_learns_from_both_and_sr_does_not():
    adversary, sr, real = _adversary(spectral_norm=False), _images(1).requires_grad_(), _images(2)
    found = adversary.learn(sr, real, share=1.0)
    assert sr.grad is None
    wanted = F.softplus(-adversary.network(real)).mean() + F.softplus(adversary.network(sr)).mean()
    assert found["discriminator"] == pytest.approx(wanted.item(), rel=1e-6)
    assert found["answer_to_real"] == pytest.approx(adversary.network(real).sigmoid().mean().item(), rel=1e-6)
    before = [weight.clone() for weight in adversary.network.parameters()]
    adversary.step(0)
    assert not any(torch.equal(*pair) for pair in zip(before, adversary.network.parameters(), strict=True))


def test_it_learns_to_tell_flat_from_noise():
    adversary = _adversary(learning_rate=1e-3, channels=4)
    for step in range(120):
        found = adversary.learn(torch.full((2, 3, 16, 16), 0.5), _images(step), share=1.0)
        adversary.step(0)
    assert found["answer_to_real"] > 0.9 > 0.1 > found["answer_to_fake"]


def test_gradients_of_parts_add_up_to_those_of_the_batch():
    whole, parts = _adversary(spectral_norm=False), _adversary(spectral_norm=False)
    sr, real = _images(1), _images(2)
    whole.learn(sr, real, share=1.0)
    for number in range(2):
        parts.learn(sr[number : number + 1], real[number : number + 1], share=0.5)
    for one, other in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_step_logs_each_loss_and_changes_both(tmp_path):
    state = start(small_recipe(tmp_path, adversary=SMALL))
    before = state.network.conv_last.weight.detach().clone()
    loss = train_step(state, random_batch(0))
    assert loss == pytest.approx(state.losses["pixel"] + state.losses["adversarial"])
    assert set(state.losses) == {"pixel", "adversarial", "discriminator", "answer_to_real", "answer_to_fake"}
    assert not torch.equal(before, state.network.conv_last.weight)


def test_the_discriminator_learns_alone_at_first(tmp_path):
    state = start(small_recipe(tmp_path, adversary=replace(SMALL, alone_steps=2)))
    weights = [state.network.conv_last.weight.detach().clone()]
    for step in range(3):
        train_step(state, random_batch(step))
        weights.append(state.network.conv_last.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[2], weights[3])


def test_what_is_saved_comes_back_with_the_discriminator(tmp_path):
    recipe = small_recipe(tmp_path, adversary=SMALL, precision="bf16")
    one, other = start(recipe), start(recipe)
    for _ in range(3):
        train_step(one, random_batch(one.step))
    save_state(one, tmp_path / "state.pt")
    assert resume_state(other, tmp_path / "state.pt")
    for state in (one, other):
        train_step(state, random_batch(state.step))
    assert_same_state(one, other)
    torch.testing.assert_close(
        one.objective.adversary.state_dict(), other.objective.adversary.state_dict(), rtol=0, atol=0
    )


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path):
    root = make_photos(tmp_path)
    recipe = small_recipe(root, adversary=replace(SMALL, alone_steps=1), optim={"total_steps": 5})
    whole = train(recipe, root / "whole")
    train(small_recipe(root, adversary=replace(SMALL, alone_steps=1), optim={"total_steps": 3}), root / "parts")
    assert_same_state(train(recipe, root / "parts"), whole)


def test_a_discriminator_that_explodes_stops_the_training(tmp_path):
    state = start(small_recipe(tmp_path, adversary=SMALL))
    with torch.no_grad():
        state.objective.adversary.network.last.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="loss of step 1"):
        train_step(state, random_batch(0))


def test_the_loss_is_towards_teacher_and_original_by_their_weights(tmp_path):
    sources = (SourceConfig(path="hr", kind="pairs", lr_path="lr", teacher_path="teacher"),)
    recipe = small_recipe(
        tmp_path, model={"drop_path_rate": 0.0}, data={"sources": sources}, optim={"teacher_weight": 0.75}
    )
    state, other = start(recipe), start(recipe)
    lr, hr, *_ = random_batch(0)
    teacher = hr.flip(0)
    sr = other.network.train()(lr)
    wanted = 0.25 * (sr - hr).abs().mean() + 0.75 * (sr - teacher).abs().mean()
    batch = Batch(lr=lr, hr=hr, names=("a", "b"), skipped=(), teacher=teacher)
    assert train_step(state, batch) == pytest.approx(wanted.item())


@pytest.mark.parametrize(
    "settings", [{"optim": {"teacher_weight": 0.5}}, {"adversary": replace(SMALL, real="teacher")}]
)
def test_a_teacher_needs_its_answers(tmp_path, settings):
    with pytest.raises(ConfigError, match="photos has no teacher_path"):
        small_recipe(tmp_path, **settings)


def test_with_detail_it_sooner_tells_soft_from_sharp():
    """After as many steps: images with the same large shapes, and faint grain or none."""
    found = {}
    for detail in (False, True):
        adversary = _adversary(learning_rate=5e-3, channels=4, spectral_norm=False, detail=detail)
        for step in range(100):
            soft = F.interpolate(_images(step, side=4), size=16, mode="bicubic").clamp(0, 1)
            sharp = soft + 0.1 * (_images(step + 1000) - 0.5)
            found[detail] = adversary.learn(soft, sharp, share=1.0)["discriminator"]
            adversary.step(0)
    assert found[True] < 1 < 1.3 < found[False]


def test_with_detail_it_sees_six_channels():
    network = Discriminator(4, detail=True)
    assert network.first.weight.shape == (4, 6, 3, 3)
    assert network(_images(0)).shape == (2, 1, 16, 16)
    flat = torch.full((1, 3, 16, 16), 0.5)
    seen = []
    network.first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network(flat)
    assert torch.equal(seen[0], torch.zeros(1, 6, 16, 16))
