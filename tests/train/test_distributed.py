"""Two processes under torchrun (gloo, CPU) against one, at the same global batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hat_sr.train.loop import train
from hat_sr.train.record import recipe_text
from train.small import make_photos, small_recipe

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]

SCRIPT = """
import os
import sys
from pathlib import Path
from torch.distributed.fsdp import FSDPModule
from hat_sr.errors import TrainingError
from hat_sr.train.distributed import open_processes
from hat_sr.train.recipe import load_recipe
from hat_sr.train.state import resume_state, start_state

def main():
    with open_processes("cpu") as processes:
        state = start_state(load_recipe(Path(sys.argv[1])), processes)
        for network in (state.network, state.averaged):
            assert isinstance(network, FSDPModule)
            weights = list(network.parameters())
            assert sum(w.to_local().numel() for w in weights) < 0.6 * sum(w.numel() for w in weights)
        # The state is in one process's folder only, as on two machines that share nothing.
        name = "state.pt" if processes.first else "none.pt"
        try:
            resume_state(state, Path(sys.argv[2]) / name)
        except TrainingError as error:
            assert "-1, 2" in str(error) and "folder shared" in str(error)
        else:
            raise SystemExit("the processes went on from different steps")

main()
os._exit(0)  # at once, as `hat-sr train` ends: taking torch apart aborts now and then
"""


def _recipe(root, **settings):
    """Drop path off: what it draws depends on the number of processes."""
    log = {"save_every": 2, "report_every": 1}
    return small_recipe(root, model={"drop_path_rate": 0.0}, data={"batch_size": 4}, log=log, device="cpu", **settings)


def _train_in_two(recipe, folder: Path):
    """What a user does: torchrun, the module, a recipe."""
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / "given.toml"
    file.write_text(recipe_text(recipe), encoding="utf-8")
    return _run([*TORCHRUN, "-m", "hat_sr", "train", str(file), "-o", str(folder)])


def _run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done


def _assert_same_weights(one: Path, other: Path):
    expected, found = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("distribution", ["ddp", "fsdp"])
def test_two_processes_train_as_one(tmp_path, distribution):
    """Also going on: the second half is done by two processes from the state of one, and the other way round."""
    root = make_photos(tmp_path)
    recipe = _recipe(root, optim={"total_steps": 6, "clip_norm": 0.5, "accumulate": 2}, distribution=distribution)
    half = _recipe(root, optim={"total_steps": 4, "clip_norm": 0.5, "accumulate": 2}, distribution=distribution)
    train(recipe, root / "one")
    done = _train_in_two(half, root / "two")
    assert done.stdout.count("step 4 of 4") == 1  # only the first process reports
    train(recipe, root / "two")
    _assert_same_weights(root / "one", root / "two")

    train(half, root / "mixed")
    _train_in_two(recipe, root / "mixed")
    _assert_same_weights(root / "one", root / "mixed")


def test_bfloat16_in_two_processes(tmp_path):
    root = make_photos(tmp_path)
    for distribution in ("ddp", "fsdp"):
        recipe = _recipe(root, optim={"total_steps": 2}, precision="bf16", distribution=distribution)
        _train_in_two(recipe, root / distribution)
        weights = load_file(root / distribution / "weights.safetensors")
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values())


def test_weights_are_shared_out_and_folders_that_are_not_shared_noticed(tmp_path):
    root = make_photos(tmp_path)
    recipe = _recipe(root, optim={"total_steps": 2}, distribution="fsdp")
    train(recipe, root / "run")
    (root / "script.py").write_text(SCRIPT, encoding="utf-8")
    _run([*TORCHRUN, str(root / "script.py"), str(root / "run" / "recipe.toml"), str(root / "run")])
