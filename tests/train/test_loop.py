"""The loop: a golden run, going on after a stop, averaging, and losses that are no numbers."""

import json
import signal
import threading
from pathlib import Path

import pytest
import torch

from hat_sr import __version__
from hat_sr.checkpoints.checkpoint import build_model, read_checkpoint, save_model
from hat_sr.checkpoints.named import load_model
from hat_sr.errors import ConfigError, DataError, HatError, NoRoomError, TrainingError, WeightsError
from hat_sr.evaluate.benchmark import Score, benchmark, mean_score
from hat_sr.evaluate.dataset import find_datasets
from hat_sr.files import PART_PREFIX
from hat_sr.image.io import read_image
from hat_sr.inference.upscale import padded
from hat_sr.model.hat import HAT
from hat_sr.train import loop
from hat_sr.train.loop import train, train_step
from hat_sr.train.objective import frequency_loss, pixel_loss
from hat_sr.train.recipe import load_recipe
from train.small import make_photos, photo, save_png, small_recipe
from train.test_state import assert_same_state, random_batch, start

# fmt: off
GOLDEN = [
    0.1423848, 0.1712486, 0.1448455, 0.1764817, 0.1344906,
    0.1364817, 0.1481280, 0.1281780, 0.1291506, 0.1294131,
    0.1444106, 0.1463324, 0.1216740, 0.1154100, 0.1439923,
    0.1369029, 0.1288385, 0.1291983, 0.1210680, 0.1225793,
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
    recipe = small_recipe(root, optim={"total_steps": 60, "learning_rate": 5e-3})
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


@pytest.mark.parametrize(("rate", "optimizer"), [(0.0, "adam"), (0.5, "adam"), (0.0, "muon")])
def test_going_on_gives_the_same_weights(root, rate, optimizer):
    """Stopped after step 5, saved at 2 and 4: steps 5 to 8 are done again, as if nothing had happened."""
    recipe = small_recipe(root, model={"drop_path_rate": rate}, optim={"optimizer": optimizer})
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


def test_a_kill_after_the_last_state_loses_no_weights(root):
    recipe = small_recipe(root, optim={"total_steps": 2})
    train(recipe, root / "run")
    weights = (root / "run" / "weights.safetensors").read_bytes()
    (root / "run" / "weights.safetensors").unlink()
    train(recipe, root / "run")
    assert (root / "run" / "weights.safetensors").read_bytes() == weights


def test_going_on_does_not_need_what_the_training_started_from(root):
    save_model(HAT(small_recipe(root).model), root / "start.safetensors")
    recipe = small_recipe(root, start_from=str(root / "start.safetensors"))
    expected = train(recipe, root / "whole")
    _train_and_stop(recipe, root / "run", at=5)
    (root / "start.safetensors").unlink()
    assert_same_state(train(recipe, root / "run"), expected)


def test_two_trainings_in_one_folder_are_refused(root):
    recipe = small_recipe(root)

    def start_another(step, record):
        with pytest.raises(TrainingError, match="another training is running"):
            train(recipe, root / "run")

    assert train(recipe, root / "run", on_progress=start_another).step == 8


@pytest.mark.parametrize("folder", ["a_file", "a_file/run"])
def test_folders_that_cannot_be(root, folder):
    (root / "a_file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"):
        train(small_recipe(root), root / folder)


def test_a_validation_folder_without_images_is_refused_at_once(root):
    with pytest.raises(DataError):
        train(small_recipe(root, log={"validation_folder": str(root / "nowhere")}), root / "run")
    assert not (root / "run").exists()


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


@pytest.mark.parametrize("warmup", [True, False])
def test_averaged_weights(tmp_path, warmup):
    """Those of the start, then decay · average + (1 − decay) · weights after each step."""
    recipe = small_recipe(tmp_path, optim={"ema_decay": 0.2, "ema_warmup": warmup})
    state = start(recipe)
    expected = state.network.conv_first.weight.detach().clone()
    for step in range(4):
        train_step(state, random_batch(step))
        weight = state.network.conv_first.weight.detach().clone()
        decay = [1 / 10, 2 / 11, 0.2, 0.2][step] if warmup else 0.2
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(state.averaged.conv_first.weight.detach(), expected)
    assert not torch.equal(expected, weight)


def test_averaging_at_decay_0_is_the_model(tmp_path):
    recipe = small_recipe(tmp_path, optim={"ema_decay": 0.0})
    state = start(recipe)
    for step in range(3):
        train_step(state, random_batch(step))
    for averaged, weight in zip(state.averaged.parameters(), state.network.parameters(), strict=True):
        assert torch.equal(averaged, weight)


def test_one_step_is_adam_on_the_l1_loss(tmp_path):
    recipe = small_recipe(tmp_path, model={"drop_path_rate": 0.0}, optim={"warmup_steps": 2})
    state, other = start(recipe), start(recipe)
    batch = random_batch(0)
    lr, hr = batch.lr, batch.hr
    loss = (other.network.train()(lr) - hr).abs().mean()
    loss.backward()
    assert train_step(state, batch) == pytest.approx(loss.item())
    before, gradient = (x.detach() for x in (other.network.conv_last.weight, other.network.conv_last.weight.grad))
    moved = (state.network.conv_last.weight.detach() - before)[gradient.abs() > 1e-4]
    # Adam's first step has the length of the learning rate, here half of 1e-3, against the gradient.
    torch.testing.assert_close(moved, -5e-4 * gradient[gradient.abs() > 1e-4].sign(), rtol=1e-2, atol=0)
    assert state.step == 1


def test_the_loss_is_the_recipes(tmp_path):
    recipe = small_recipe(
        tmp_path, model={"drop_path_rate": 0.0}, optim={"loss": "mse", "frequency_weight": 0.1, "accumulate": 2}
    )
    state, other = start(recipe), start(recipe)
    lr, hr, *_ = batch = random_batch(0, size=2)
    sr = other.network.train()(lr)
    loss = pixel_loss(sr, hr, "mse") + 0.1 * frequency_loss(sr, hr)
    loss.backward()
    assert train_step(state, batch) == pytest.approx(loss.item())
    torch.testing.assert_close(state.network.conv_last.weight.grad, other.network.conv_last.weight.grad)


def test_gradients_are_clipped(tmp_path):
    norms = {}
    for clip_norm in (None, 1e-3):
        recipe = small_recipe(tmp_path, model={"drop_path_rate": 0.0}, optim={"clip_norm": clip_norm})
        state = start(recipe)
        train_step(state, random_batch(0))
        squares = sum(parameter.grad.square().sum() for parameter in state.network.parameters())
        norms[clip_norm] = squares.sqrt().item()
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-2)
    assert norms[None] > 1e-2


def test_bf16_leaves_the_weights_in_fp32(tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        recipe = small_recipe(tmp_path, model={"drop_path_rate": 0.0}, precision=precision)
        state = start(recipe)
        losses[precision] = train_step(state, random_batch(0))
        assert {parameter.dtype for parameter in state.network.parameters()} == {torch.float32}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


@pytest.mark.parametrize(("value", "named"), [(float("nan"), "nan"), (float("inf"), "nan"), (40.0, r"\d\.\d+")])
def test_an_exploding_loss_stops_before_the_update(tmp_path, value, named):
    state = start(small_recipe(tmp_path))
    batch = random_batch(0)
    batch.hr[0, 0] = value
    with pytest.raises(TrainingError, match=rf"loss of step 1 is {named}, above .*image 0, image 1"):
        train_step(state, batch)
    assert issubclass(TrainingError, HatError)
    assert_same_state(state, start(small_recipe(tmp_path)))


def test_an_infinite_gradient_stops_before_the_update(tmp_path):
    state = start(small_recipe(tmp_path, optim={"clip_norm": 1.0}))
    hook = state.network.conv_last.weight.register_hook(lambda gradient: gradient / 0)
    with pytest.raises(TrainingError, match=r"gradient of step 1 is not finite.*image 0, image 1"):
        train_step(state, random_batch(0))
    hook.remove()
    assert_same_state(state, start(small_recipe(tmp_path)))


def test_weights_that_explode_do_not_take_the_place_of_good_ones(root):
    """A state of healthy weights is saved; then a rate far too high: starting again must find the healthy ones."""
    recipe = small_recipe(root, optim={"total_steps": 2})
    train(recipe, root / "run")
    healthy = (root / "run" / "state.pt").read_bytes()
    wild = small_recipe(root, optim={"total_steps": 30, "learning_rate": 10.0}, log={"save_every": 100})
    for _ in range(2):
        with pytest.raises(TrainingError, match="loss of step"):
            train(wild, root / "run")
        assert (root / "run" / "state.pt").read_bytes() == healthy
    tame = small_recipe(root, optim={"total_steps": 4})
    assert train(tame, root / "run").step == 4


def test_the_weights_before_a_broken_batch_are_kept(root, monkeypatch):
    """The third batch is broken: stopped.pt holds the state after two steps. Mended, all is as it would be."""
    recipe = small_recipe(root, log={"save_every": 1})
    expected = train(recipe, root / "whole")
    honest = loop.open_data

    def open_broken_data(*args, **settings):
        for number, batch in enumerate(honest(*args, **settings)):
            if number == 2:
                batch.hr[:] = float("nan")
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(loop, "open_data", open_broken_data)
        with pytest.raises(TrainingError, match=r"loss of step 3 is nan.*[012]\.png"):
            train(recipe, root / "run")
    stopped = torch.load(root / "run" / "stopped.pt")
    assert stopped["step"] == 2
    kept = load_model(root / "run" / "stopped.safetensors").state_dict()
    torch.testing.assert_close(dict(kept), dict(stopped["averaged"]), rtol=0, atol=0)
    with pytest.raises(WeightsError, match=r"training state, not weights: use weights\.safetensors"):
        load_model(root / "run" / "stopped.pt")
    assert_same_state(train(recipe, root / "run"), expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_state_first(root, number):
    """The signal comes in step 3 of 8; nothing was to be saved before the end. Going on ends as if it had not come."""
    recipe = small_recipe(root, log={"save_every": 100})
    expected = train(recipe, root / "whole")

    class _Stopped(BaseException):
        pass

    def stopped(number, frame):
        raise _Stopped

    before = signal.signal(number, stopped)
    try:
        with pytest.raises(_Stopped):
            train(recipe, root / "run", on_progress=lambda step, _: signal.raise_signal(number) if step == 3 else None)
    finally:
        signal.signal(number, before)
    assert torch.load(root / "run" / "state.pt")["step"] == 3
    assert_same_state(train(recipe, root / "run"), expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("num_parts", [2, 3])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path, precision, num_parts):
    gradients = []
    for parts in (1, num_parts):
        recipe = small_recipe(
            tmp_path,
            model={"drop_path_rate": 0.0},
            data={"batch_size": 4},
            optim={"accumulate": parts},
            precision=precision,
        )
        state = start(recipe)
        train_step(state, random_batch(0, size=4))
        gradients.append([weight.grad for weight in state.network.parameters()])
    for whole, summed in zip(*gradients, strict=True):
        rtol, atol = (1e-4, 1e-7) if precision == "fp32" else (0.1, 0.02 * whole.abs().max().item())
        torch.testing.assert_close(summed, whole, rtol=rtol, atol=atol)


def test_activation_checkpointing_changes_nothing(root):
    results = [train(small_recipe(root, activation_checkpointing=on), root / str(on)) for on in (False, True)]
    for one, other in zip(*(state.network.parameters() for state in results), strict=True):
        assert torch.equal(one, other)


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
    assert set(seen[4]) == {"loss", "learning_rate", "steps_per_second", "waiting_for_data"}
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
    score = mean_score([result.score for result in benchmark(padded(model, multiple=4, scale=2), dataset)])
    logged = _log(root / "run")[-1]
    assert (logged["psnr"], logged["ssim"]) == pytest.approx((score.psnr, score.ssim))
    best = read_checkpoint(root / "run" / "best.safetensors")
    assert best.provenance == checkpoint.provenance
    assert sorted(path.name for path in (root / "run" / "pictures" / "a").iterdir()) == ["00000002.png"]
    shown = read_image(root / "run" / "pictures" / "a" / "00000002.png").pixels
    assert shown.shape == (32, 34, 3)


def test_the_best_validation_is_kept(root, monkeypatch):
    scores = iter([30.0, 31.0, 30.5])
    monkeypatch.setattr(loop, "validate", lambda *_: (Score(psnr=next(scores), ssim=0.9), {}))
    save_png(root / "set" / "a.png", photo(32, 34))
    log = {"validate_every": 2, "validation_folder": str(root / "set")}
    state = train(small_recipe(root, optim={"total_steps": 6}, log=log), root / "run")
    assert state.best_psnr == 31.0
    assert read_checkpoint(root / "run" / "best.safetensors").provenance["steps"] == "4"
    assert read_checkpoint(root / "run" / "weights.safetensors").provenance["steps"] == "6"


def test_the_run_folder_has_the_recipe_in_effect(root):
    recipe = small_recipe(root, optim={"total_steps": 2, "clip_norm": 0.5}, provenance={"title": "a “test”"})
    train(recipe, root / "run")
    assert load_recipe(root / "run" / "recipe.toml") == recipe


def test_steps_done_again_are_logged_once(root):
    recipe = small_recipe(root, log={"save_every": 4})
    _train_and_stop(recipe, root / "run", at=6)
    train(recipe, root / "run")
    assert [record["step"] for record in _log(root / "run")] == list(range(1, 9))


def test_a_log_with_damaged_lines_goes_on(root):
    train(small_recipe(root, optim={"total_steps": 4}), root / "run")
    with (root / "run/log.jsonl").open("ab") as file:
        file.write(b"\xff\xfe no text\n" + b"[" * 100_000 + b'\n{"step": 1e999}\n{"step": 2')
    train(small_recipe(root), root / "run")
    assert [record["step"] for record in _log(root / "run")] == list(range(1, 9))


def test_a_full_disk_is_told_with_what_to_do(root, monkeypatch):
    train(small_recipe(root, optim={"total_steps": 2}), root / "run")

    def fail(content, file):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 768 vs 662")  # noqa: B904 (as torch does)

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(TrainingError, match=r"run cannot be written \(No space left on device\): make room there"):
        train(small_recipe(root), root / "run")
    assert not list((root / "run").glob(f"{PART_PREFIX}*"))


def _no_room(*words, **settings):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["log", "pictures", "folder of pictures", "tensorboard", "recipe"])
def test_a_disk_that_is_full_at_any_write_is_told_with_what_to_do(root, monkeypatch, what, capfd):
    run = root / "run"
    save_png(root / "set/a.png", photo(40, 40))
    log = {"tensorboard": True, "validation_folder": str(root / "set"), "validate_every": 1, "num_pictures": 1}
    recipe = small_recipe(root, optim={"total_steps": 2}, log=log)
    if what == "log":
        opened = Path.open
        monkeypatch.setattr(
            Path, "open", lambda self, *a, **k: opened(Path("/dev/full") if self.name == "log.jsonl" else self, *a, **k)
        )
    elif what == "pictures":
        monkeypatch.setattr(
            "hat_sr.train.record.write_image", lambda *words: (_ for _ in ()).throw(NoRoomError("0 MB free there"))
        )
    elif what == "folder of pictures":
        mkdir = Path.mkdir
        monkeypatch.setattr(
            Path, "mkdir", lambda self, *a, **k: _no_room() if "pictures" in self.parts else mkdir(self, *a, **k)
        )
    elif what == "tensorboard":
        monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", _no_room)
    else:
        monkeypatch.setattr("hat_sr.train.record._write", _no_room)
    hook = threading.excepthook
    with pytest.raises(TrainingError, match=r"run cannot be written \(.*(No space|0 MB free).*\): make room there"):
        train(recipe, run)
    assert threading.excepthook is hook
    assert "Traceback" not in capfd.readouterr().err
    monkeypatch.undo()
    assert train(recipe, run).step == recipe.optim.total_steps


def test_tensorboard_files(root):
    recipe = small_recipe(root, optim={"total_steps": 2}, log={"tensorboard": True})
    train(recipe, root / "run")
    (events,) = (root / "run" / "tensorboard").iterdir()
    assert b"learning_rate" in events.read_bytes()


def test_validating_and_saving_are_not_counted_as_steps(root, monkeypatch):
    """By a clock that goes on by a second whenever it is read, and by an hour in a validation."""
    clock = iter(range(10**9))

    def slow_validate(*arguments):
        for _ in range(3600):
            next(clock)
        return Score(psnr=30.0, ssim=0.9), {}

    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(loop, "validate", slow_validate)
    save_png(root / "Set1" / "a.png", photo(32, 32))
    log = {"report_every": 2, "validate_every": 2, "validation_folder": str(root / "Set1")}
    train(small_recipe(root, log=log), root / "run")
    assert [record["psnr"] for record in _log(root / "run")] == [30.0] * 4
    assert all(record["steps_per_second"] > 0.1 for record in _log(root / "run"))


def test_what_a_killed_training_left_is_cleared(root):
    (root / "run").mkdir()
    (root / "run" / f"{PART_PREFIX}0.part").write_bytes(b"half a state")
    (root / "run" / f"{PART_PREFIX}1.part").mkdir()
    (root / "run" / f"{PART_PREFIX}1.part" / "net.onnx").write_bytes(b"half an export")
    train(small_recipe(root), root / "run")
    assert not list((root / "run").glob(f"{PART_PREFIX}*"))


def test_a_validation_folder_that_is_missing_is_named(root):
    with pytest.raises(DataError, match=r"log\.validation_folder: .*nowhere"):
        train(small_recipe(root, log={"validation_folder": "nowhere"}), root / "run")
