"""Two processes under torchrun (gloo, CPU) against one, at the same global batch."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hat_sr.train.loop import train
from hat_sr.train.record import recipe_text
from train.small import make_photos, small_recipe

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]

SCRIPT = """
import json
import os
import sys
from pathlib import Path
from torch.distributed.fsdp import FSDPModule
from hat_sr.errors import TrainingError
from hat_sr.train.distributed import open_processes
from hat_sr.train.loop import train
from hat_sr.train.recipe import load_recipe
from hat_sr.train.state import resume_state, start_state

def what_is_there(folder):
    with open_processes("cpu") as processes:
        state = start_state(load_recipe(folder / "recipe.toml"), processes)
        seen = {"is sharded": [], "share": []}
        for network in (state.network, state.averaged):
            seen["is sharded"].append(isinstance(network, FSDPModule))
            weights = list(network.parameters())
            seen["share"].append(sum(w.to_local().numel() for w in weights) / sum(w.numel() for w in weights))
        # The state is in one process's folder only, as on two machines that share nothing.
        name = "state.pt" if processes.first else "none.pt"
        try:
            resume_state(state, folder / name)
        except TrainingError as error:
            seen["error"] = str(error)
    (folder / f"seen-{processes.rank}.json").write_text(json.dumps(seen))

def main():
    for folder, port in zip(map(Path, sys.argv[1::2]), sys.argv[2::2]):
        os.environ["MASTER_PORT"] = port
        if (folder / "given.toml").exists():
            train(load_recipe(folder / "given.toml"), folder)
        else:
            what_is_there(folder)

main()
os._exit(0)  # at once, as `hat-sr train` ends: taking torch apart aborts now and then
"""


def _recipe(root, **settings):
    """Drop path off: what it draws depends on the number of processes."""
    log = {"save_every": 2, "report_every": 1}
    return small_recipe(root, model={"drop_path_rate": 0.0}, data={"batch_size": 4}, log=log, device="cpu", **settings)


def _give(recipe, folder: Path) -> str:
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / "given.toml"
    file.write_text(recipe_text(recipe), encoding="utf-8")
    return str(file)


def _train_under_torchrun(recipe, folder: Path) -> str:
    """What a user does: torchrun, the module, a recipe. Returns what was printed."""
    command = [*TORCHRUN, "-m", "hat_sr", "train", _give(recipe, folder), "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _in_two_processes(script: Path, folders):
    """Run SCRIPT for all folders, one after the other, in two processes: starting them takes longer than training."""
    with ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in folders]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [str(one.getsockname()[1]) for one in free]
    words = [word for pair in zip(map(str, folders), ports, strict=True) for word in pair]
    script.write_text(SCRIPT, encoding="utf-8")
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), *words],
            env={**common, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)


def _assert_same_weights(one: Path, other: Path):
    expected, found = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


def _whole_and_half(root, distribution):
    optim = {"clip_norm": 0.5, "accumulate": 2}
    return [_recipe(root, optim={"total_steps": steps, **optim}, distribution=distribution) for steps in (6, 4)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Photographs, and in folders what two processes made of them."""
    root = make_photos(tmp_path_factory.mktemp("distributed"))
    for distribution in ("ddp", "fsdp"):
        whole, half = _whole_and_half(root, distribution)
        train(half, root / f"mixed-{distribution}")
        _give(whole, root / f"mixed-{distribution}")
        bf16 = _recipe(root, optim={"total_steps": 2}, precision="bf16", distribution=distribution)
        _give(bf16, root / f"bf16-{distribution}")
    train(_recipe(root, optim={"total_steps": 2}, distribution="fsdp"), root / "run")
    names = ("mixed-ddp", "mixed-fsdp", "bf16-ddp", "bf16-fsdp", "run")
    _in_two_processes(root / "script.py", [root / name for name in names])
    return root


@pytest.mark.parametrize("distribution", ["ddp", "fsdp"])
def test_two_processes_train_as_one(root, distribution):
    """Also going on: the second half is done by two processes from the state of one, and the other way round."""
    whole, half = _whole_and_half(root, distribution)
    one, two = root / f"one-{distribution}", root / f"two-{distribution}"
    train(whole, one)
    assert _train_under_torchrun(half, two).count("step 4 of 4") == 1  # only the first process reports
    train(whole, two)
    _assert_same_weights(one, two)
    _assert_same_weights(one, root / f"mixed-{distribution}")


@pytest.mark.parametrize("distribution", ["ddp", "fsdp"])
def test_bfloat16_in_two_processes(root, distribution):
    weights = load_file(root / f"bf16-{distribution}" / "weights.safetensors")
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values())


def test_weights_are_shared_out_and_folders_that_are_not_shared_noticed(root):
    for rank in range(2):
        seen = json.loads((root / "run" / f"seen-{rank}.json").read_text())
        assert seen["is sharded"] == [True, True]
        assert max(seen["share"]) < 0.6
        assert "-1, 2" in seen["error"] and "folder shared" in seen["error"]
