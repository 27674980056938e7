"""Linear layers by the faster of two libraries on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hat_sr.model.tracing import is_traced


class Linear(nn.Linear):
    """A linear layer over the last axis; without gradients and with AVX-512, computed by oneDNN.

    torch's own goes to MKL in float32, which on processors of AMD takes twice as long, and in bfloat16 to oneDNN with a
    copy of the bias for each pixel before. This call is not differentiable.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base class's name)
        """(…, in_features) → (…, out_features)."""
        if _by_onednn(input, self.weight):
            out: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
            return out
        return F.linear(input, self.weight, self.bias)


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not is_traced()
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
