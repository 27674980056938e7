"""Self-ensemble: the mean over the eight ways to turn and mirror an image (EDSR, arXiv 1707.02921, section 3.4)."""

from torch import Tensor

from hat_sr.inference.upscale import Upscale


def self_ensemble(upscale: Upscale) -> Upscale:
    """An Upscale that runs `upscale` eight times, on the image turned by 0–270° and mirrored, and takes the mean.

    `upscale` must take H×W and W×H alike.
    """

    def run(x: Tensor) -> Tensor:
        total = upscale(x)
        for number in range(1, 8):
            mirrored, turns = divmod(number, 4)
            view = (x.flip(-1) if mirrored else x).rot90(turns, (-2, -1))
            out = upscale(view).rot90(-turns, (-2, -1))
            total = total + (out.flip(-1) if mirrored else out)
        return total / 8

    return run
