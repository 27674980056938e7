"""Several processes that train one network. Nothing else in hat-sr knows torch.distributed.

`torchrun` starts the processes and tells each its number. Under "ddp" each holds the whole network and gradients are
averaged; under "fsdp" (FSDP2) weights, their average and the optimizer's state are cut into as many parts.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    OptimizerStateType,
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from hat_sr.errors import TrainingError
from hat_sr.inference.device import find_device
from hat_sr.model.hat import HAT

TIMEOUT = timedelta(hours=6)
"""How long a process waits for the others. All but the first wait through a validation; a process that ends is noticed
at once, whatever this is (seen with gloo; NCCL was not tried)."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of a training, as one of them sees them."""

    device: torch.device
    rank: int = 0
    """This process's number; the first, 0, writes files and reports."""
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0


@contextmanager
def open_processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    Raises TrainingError in this process if another one ends while this one waits for it.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Processes(device=find_device(device))
        return
    found = find_device(device)
    if found.type == "cuda":
        found = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(found)
    dist.init_process_group("nccl" if found.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Processes(device=found, rank=dist.get_rank(), size=dist.get_world_size())
        # All exchanges must have ended: gloo's threads can wait for ever for Python's lock when it is taken apart.
        dist.barrier()
        dist.destroy_process_group()
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "Gloo", "NCCL", "Connection", "peer", "Timed out")):
            raise
        raise TrainingError(
            f"another process of this training has ended or does not answer; start the same command again, it goes on "
            f"from the last saved state. {error}"
        ) from error


def shared(network: nn.Module, processes: Processes) -> nn.Module:
    """Wrap what runs forward and backward so that every process ends with the mean of all gradients (DDP)."""
    if not dist.is_initialized():
        return network
    return DistributedDataParallel(network, device_ids=[processes.device] if processes.device.type == "cuda" else None)


def shard(network: nn.Module, dtype: torch.dtype) -> None:
    """Cut a network's weights into one part for each process, group by group (FSDP2); it computes in `dtype`."""
    # A HAT takes images that are finer than its weights, and casts them itself.
    policy, whole_policy = (
        MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=cast)
        for cast in (True, not isinstance(network, HAT))
    )
    for module in network.children():
        if isinstance(module, nn.ModuleList):
            for group in module:
                fully_shard(group, mp_policy=policy)
    fully_shard(network, mp_policy=whole_policy)


def without_exchange(running: nn.Module, *, when: bool) -> AbstractContextManager[None]:
    """Gradients made inside stay with each process, to be exchanged with those of a later part of the batch."""
    if isinstance(running, FSDPModule):
        running.set_requires_gradient_sync(not when)
    elif when and isinstance(running, DistributedDataParallel):
        return running.no_sync()
    return nullcontext()


def mean_and_any(value: float, flag: bool) -> tuple[float, bool]:
    """The mean of `value` over all processes, and whether `flag` is set in any of them."""
    if not dist.is_initialized():
        return value, flag
    both = torch.tensor([value / dist.get_world_size(), float(flag)], dtype=torch.float64)
    both = both.to(_exchange_device())
    dist.all_reduce(both)
    return both[0].item(), both[1].item() > 0


def average_gradients(weights: Sequence[Tensor]) -> None:
    """Set the gradients of weights that each process holds whole to their mean over all processes."""
    if not dist.is_initialized():
        return
    for weight in weights:
        if weight.grad is not None:
            dist.all_reduce(weight.grad)
            weight.grad /= dist.get_world_size()


def check_same(what: str, value: int) -> None:
    """Raise TrainingError, in every process, unless all of them have the same value."""
    values = set(all_of([str(value)]))
    if len(values) > 1:
        raise TrainingError(
            f"the processes of this training differ in {what}: {', '.join(sorted(values))}. They must see the same "
            "files: is the run's folder shared by all machines?"
        )


def all_of(items: Sequence[str]) -> list[str]:
    """The items of all processes, in the order of their numbers."""
    if not dist.is_initialized():
        return list(items)
    parts: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]


def whole(value: Tensor) -> Tensor:
    """A tensor that may be cut into parts, whole."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_state(network: nn.Module) -> dict[str, Tensor]:
    """A network's whole state on the CPU, wherever its parts are. To be called by every process."""
    state = get_model_state_dict(network, options=_WHOLE)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def whole_optimizer_state(network: nn.Module, optimizer: Optimizer) -> OptimizerStateType:
    """The optimizer's whole state on the CPU, under the names of the weights. To be called by every process."""
    return get_optimizer_state_dict(network, optimizer, options=_WHOLE)


def set_whole_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """The inverse of `whole_state`, into a network cut into any number of parts."""
    set_model_state_dict(network, {**state}, options=StateDictOptions(full_state_dict=True))


def set_whole_optimizer_state(network: nn.Module, optimizer: Optimizer, state: OptimizerStateType) -> None:
    """The inverse of `whole_optimizer_state`."""
    set_optimizer_state_dict(network, optimizer, state, options=StateDictOptions(full_state_dict=True))


_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def _exchange_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
