"""Print the table of known benchmark images, src/hat_sr/evaluate/sets.tsv.

    python benchmarks/known_sets.py --data ROOT > src/hat_sr/evaluate/sets.tsv

ROOT holds the folders Set5, Set14 and BSD100 with their whole ground truth, not cut to a multiple of anything.
"""

import argparse
from pathlib import Path

from hat_sr.evaluate.dataset import find_datasets
from hat_sr.evaluate.pairs import read_rgb
from hat_sr.evaluate.sets import pixel_digest


def main() -> None:
    """Print a line for each image: set, name, height, width, hash of its pixels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds Set5, Set14 and BSD100")
    root = parser.parse_args().data
    for name in ("Set5", "Set14", "BSD100"):
        (dataset,) = find_datasets(root / name, 1)
        for pair in dataset.pairs:
            pixels = read_rgb(pair.hr)
            print(name, pair.name, *pixels.shape[-2:], pixel_digest(pixels), sep="\t")


if __name__ == "__main__":
    main()
