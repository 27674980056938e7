"""Whether torch is recording what a network does, for which it must be in operations that torch knows."""

import torch


def is_traced() -> bool:
    """Whether this runs within torch.compile, torch.export or torch.jit.trace."""
    by_jit: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return torch.compiler.is_compiling() or by_jit
