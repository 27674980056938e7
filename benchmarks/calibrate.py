"""Check resizing and metrics against real MATLAB files and known scores.

    python benchmarks/calibrate.py --data ROOT

ROOT holds the folders Set5, Set14 and BSD100, each with its ground truth in GT and MATLAB's low-resolution images in
LRbic_matlab_new (mirrored borders) or LRbic_matlab_old (clamped borders), in subfolders X2, X3, X4 and X8; what is
missing is skipped and said. Every low-resolution file must equal ours bit for bit, bicubic must score as known to
0.01 dB, and SSIM must equal a slow formula. The exit code is 1 if anything differs.
"""

import argparse
import math
import sys
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from hat_sr.evaluate.dataset import Dataset, Pair, find_datasets
from hat_sr.evaluate.metrics import psnr, ssim, to_uint8
from hat_sr.image.color import rgb_to_y
from hat_sr.image.convert import to_tensor
from hat_sr.image.io import read_image
from hat_sr.image.resize import Border, imresize, resize

SETS = ("Set5", "Set14", "BSD100")
SCALES = (2, 3, 4, 8)
FOLDERS: dict[str, Border] = {"LRbic_matlab_new": "mirror", "LRbic_matlab_old": "clamp"}

# These were made by MATLAB from floating-point images and rounded once, not after each pass as for uint8 images.
ROUNDED_ONCE = {("Set5", "LRbic_matlab_new", 8)}

# PSNR-Y of bicubic at ×2, ×3, ×4: the ground truth shrunk and enlarged again, mirrored borders, rounded to 8 bits.
BICUBIC_PSNR = {
    "Set5": {2: 33.67, 3: 30.40, 4: 28.43},
    "Set14": {2: 30.32, 3: 27.63, 4: 26.09},
    "BSD100": {2: 29.56, 3: 27.21, 4: 25.96},
}


def main() -> int:
    """Run every check that the data allows; 0 if all agree, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds Set5, Set14 and BSD100")
    root = parser.parse_args().data
    results = []
    for name in SETS:
        if not (root / name).is_dir():
            print(f"{name}: skipped, no such folder")
            continue
        results += [_check_files(root / name, folder, scale) for folder in FOLDERS for scale in SCALES]
        results += [_check_psnr(root / name, scale, expected) for scale, expected in BICUBIC_PSNR[name].items()]
    if (root / "Set5").is_dir():
        results.append(_check_ssim(root / "Set5"))
    if not results:
        print("nothing was checked")
        return 1
    print("all agree" if all(results) else "SOMETHING DIFFERS")
    return 0 if all(results) else 1


def _check_files(folder: Path, lr_folder: str, scale: int) -> bool:
    if not (folder / lr_folder / f"X{scale}").is_dir():
        print(f"{folder.name} {lr_folder} ×{scale}: skipped, no such folder")
        return True
    (dataset,) = find_datasets(folder, scale, lr=lr_folder)
    once = (folder.name, lr_folder, scale) in ROUNDED_ONCE
    different = []
    for pair in dataset.pairs:
        hr = _cropped(pair, scale)
        if once:
            ours = _rounded(resize(hr.double(), (hr.shape[-2] // scale, hr.shape[-1] // scale)))
        else:
            ours = imresize(hr, 1 / scale, border=FOLDERS[lr_folder])
        if pair.lr is None or not torch.equal(ours, _read(pair.lr)):
            different.append(pair.name)
    note = f"{FOLDERS[lr_folder]} border" + (", rounded once" if once else "")
    verdict = f"differ: {', '.join(different)}" if different else "all equal"
    print(f"{folder.name} {lr_folder} ×{scale} ({note}): {len(dataset.pairs)} files, {verdict}")
    return not different


def _check_psnr(folder: Path, scale: int, expected: float) -> bool:
    (dataset,) = find_datasets(folder, scale, lr="mirror")
    mean = fmean(psnr(*_bicubic(pair, dataset), crop_border=scale) for pair in dataset.pairs)
    # Half a digit on the last one given, so that 28.425 to 28.435 pass as 28.43.
    agrees = abs(mean - expected) <= 0.005
    print(f"{folder.name} ×{scale}: bicubic {mean:.4f} dB, known {expected:.2f}: {'agrees' if agrees else 'DIFFERS'}")
    return agrees


def _check_ssim(folder: Path) -> bool:
    (dataset,) = find_datasets(folder, 4, lr="mirror")
    worst = 0.0
    for pair in dataset.pairs:
        sr, hr = (image[..., :40, :48] for image in _bicubic(pair, dataset))
        worst = max(worst, abs(ssim(sr, hr, crop_border=4) - _slow_ssim(sr, hr, 4)))
    agrees = worst < 1e-9
    print(f"SSIM against a slow formula: differs by at most {worst:.1e}: {'agrees' if agrees else 'DIFFERS'}")
    return agrees


def _slow_ssim(sr: Tensor, hr: Tensor, border: int) -> float:
    """SSIM as its paper has it, one window at a time."""
    x, y = (rgb_to_y(image.double() / 255)[0, 0, border:-border, border:-border] * 255 for image in (sr, hr))
    window = torch.tensor(
        [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)],
        dtype=torch.float64,
    )
    window /= window.sum()
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            numerator = (2 * mean_a * mean_b + 2.55**2) * (2 * covariance + 7.65**2)
            denominator = (mean_a**2 + mean_b**2 + 2.55**2) * (variance_a + variance_b + 7.65**2)
            values.append((numerator / denominator).item())
    return fmean(values)


def _bicubic(pair: Pair, dataset: Dataset) -> tuple[Tensor, Tensor]:
    hr = _cropped(pair, dataset.scale)
    return imresize(imresize(hr, 1 / dataset.scale), dataset.scale), hr


def _cropped(pair: Pair, scale: int) -> Tensor:
    hr = _read(pair.hr)
    return hr[..., : hr.shape[-2] // scale * scale, : hr.shape[-1] // scale * scale]


def _rounded(codes: Tensor) -> Tensor:
    return (codes + 0.5).floor().clamp(0, 255).to(torch.uint8)


def _read(path: Path) -> Tensor:
    return to_uint8(to_tensor(read_image(path).color))


if __name__ == "__main__":
    sys.exit(main())
