"""How exact is the integral of local attribution maps, by the trapezoid rule and by that of the authors' demo?

    python benchmarks/lam_quadrature.py --data ROOT --models bicubic hat-xxs-x4 hat-xs-x4

Every fourth of the windows of diffusion_index.py. The demo's rule takes each step's gradient at the step's end, the
trapezoid rule the mean of those at both ends; the same gradients serve both. Printed are the median and the largest
completeness error, and the mean diffusion index.
"""

import argparse
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

import torch
from diffusion_index import MARGIN, find_originals, read_places, scene_at

from hat_sr.evaluate.explain import open_explained
from hat_sr.evaluate.report import markdown_table
from hat_sr.inference.engine import Network
from hat_sr.lam.attribution import SIGMA, Window, blurred, detect_edges
from hat_sr.lam.measures import diffusion_index

STEPS = (25, 50, 100)
"""Numbers of steps to compare, each with both rules."""

EVERY = 4


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of Set14 and BSD100")
    parser.add_argument("--models", nargs="+", required=True, help="names as for hat-sr lam, all of one factor")
    arguments = parser.parse_args()
    originals = find_originals(arguments.data)
    rows = []
    for network in open_explained(arguments.models):
        images = [scene_at(place, originals, network.scale).lr.float() / 255 for place in read_places()[::EVERY]]
        for steps in STEPS:
            by_image = [both_rules(network, x, steps) for x in images]
            for number, rule in enumerate(("demo's", "trapezoid")):
                errors, indices = zip(*(found[number] for found in by_image), strict=True)
                figures = [f"{median(errors):.2%}", f"{max(errors):.2%}", f"{fmean(indices):.3f}"]
                rows.append([network.name, str(steps), rule, *figures])
    print(markdown_table(["", "steps", "rule", "error, median", "largest", "mean DI"], rows))


def both_rules(network: Network, x: torch.Tensor, steps: int) -> list[tuple[float, float]]:
    """Completeness error and diffusion index by the demo's rule, and by the trapezoid rule."""
    path = [blurred(x, SIGMA * (1 - step / steps)) for step in range(steps + 1)]
    values, gradients = zip(*(detected(network, each) for each in path), strict=True)
    differences = [after.double() - before.double() for before, after in pairwise(path)]
    ends = [gradient * difference for gradient, difference in zip(gradients[1:], differences, strict=True)]
    starts = [gradient * difference for gradient, difference in zip(gradients[:-1], differences, strict=True)]
    whole = values[-1] - values[0]
    found = []
    for attribution in (sum(ends), (sum(ends) + sum(starts)) / 2):
        error = abs((attribution.sum().item() - whole) / whole)
        found.append((error, diffusion_index(attribution.sum(dim=1).abs())))
    return found


def detected(network: Network, x: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The detector's value and its gradient."""
    x = x.detach().requires_grad_()
    value = detect_edges(network.upscale(x), Window(x=MARGIN, y=MARGIN))
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.item(), gradient


if __name__ == "__main__":
    main()
