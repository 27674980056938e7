"""Write hashes.tsv: what the images look like that the bundled networks were trained on, and those of benchmarks.

    python make_hashes.py DATA BENCHMARKS

DATA holds the folders that recipes/hat-xs-x4.toml and hat-xs-x4-real.toml name, BENCHMARKS a folder GT in each
of Set5, Set14 and BSD100. Lines of photos are those of its edition before 2026-11-30.
"""

import sys
from pathlib import Path

from hat_sr.train.config import SourceConfig
from hat_sr.train.data.check import check_source

TRAINING = ("T91", "BSDS400", "photos", "photos2k")
BENCHMARKS = ("Set5/GT", "Set14/GT", "BSD100/GT")

if __name__ == "__main__":
    data, benchmarks = map(Path, sys.argv[1:])
    with Path(__file__).with_name("hashes.tsv").open("w", encoding="utf-8") as file:
        for root, folders, num_views in ((data, TRAINING, 1), (benchmarks, BENCHMARKS, 8)):
            for folder in folders:
                check = check_source(SourceConfig(path=folder), root, scale=1, num_views=num_views)
                for name, hashes in zip(check.names, check.hashes, strict=True):
                    file.write("\t".join([f"{folder}/{name}", *(f"{one:016x}" for one in hashes)]) + "\n")
