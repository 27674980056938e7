"""How far a map of contributions is spread: one number for a map."""

import torch
from torch import Tensor

from hat_sr.errors import InputError


def gini(values: Tensor) -> float:
    """The Gini coefficient of values of any shape: 0 if all are equal, (n − 1)/n if only one of n is not 0.

    Raises InputError if there are none, one is below 0 or not finite, or all are 0.
    """
    sorted_values = _checked(values).sort().values
    n = len(sorted_values)
    ranks = torch.arange(1, n + 1, dtype=torch.float64)
    return ((2 * ranks - n - 1) * sorted_values).sum().item() / (n * sorted_values.sum().item())


def diffusion_index(map_HW: Tensor) -> float:
    """DI = 100 · (1 − Gini) of a map: 100 if all n pixels contribute the same, 100/n if only one does.

    It is a share of the image: the same contributions in an image of twice the area have half the DI. Compare it
    between images of one size only. (The authors' demo adds 1e-7 of the largest value to each, which lifts the index by
    0.003 to 0.004 for images of 64×64.) Raises InputError as `gini`.
    """
    return 100 * (1 - gini(map_HW))


def contribution_area(map_HW: Tensor, share: float) -> float:
    """The smallest part of the pixels, in percent, that together have `share` of the map's sum. Ours, not the paper's.

    share: above 0, up to 1. Raises InputError for another share, and as `gini`.
    """
    if not 0 < share <= 1:
        raise InputError(f"share {share}: a number above 0 and up to 1 is accepted")
    largest_first = _checked(map_HW).sort(descending=True).values
    sums = largest_first.cumsum(dim=0)
    num_pixels = int((sums < share * sums[-1]).sum().item()) + 1
    return 100 * num_pixels / len(sums)


def _checked(values: Tensor) -> Tensor:
    """As a vector of float64 on the CPU."""
    values = values.detach().cpu().double().flatten()
    if not bool(((values >= 0) & values.isfinite()).all()):
        raise InputError("the map holds values below 0 or not finite: contributions are absolute values")
    if not bool((values > 0).any()):
        raise InputError(
            "the map is 0 everywhere, so there is nothing to measure: blurring changes nothing that the window depends "
            "on; choose a window or an image with some detail"
        )
    return values
