"""An experiment of tiny networks on made-up photographs."""

from pathlib import Path

from train.small import make_photos, photo, save_png

TEXT = """
title = "Small"
sets = ["Set5", "other"]

[recipe.model]
upscale = 2
embed_dim = 12
depths = [2]
num_heads = [2]
window_size = 4
compress_ratio = 3
squeeze_factor = 4
num_feat = 8

[recipe.data]
patch_size = 8
batch_size = 2
sources = [{ path = "photos" }]

[recipe.optim]
total_steps = 4
learning_rate = 1e-3

[recipe.log]
report_every = 1
save_every = 2
validate_every = 2
num_pictures = 0

[[groups]]
name = "width"
arms = ["plain", "wide"]

[[groups]]
name = "start"
arms = ["plain", "tuned"]

[[arms]]
name = "plain"
seeds = [0, 1]

[[arms]]
name = "wide"
changes = { model = { num_feat = 16 } }

[[arms]]
name = "start"
compared = false
tasks = [{}, { model = { upscale = 3 } }, { model = { upscale = 1 }, data = { degradation = { preset = "mild" } } }]

[[arms]]
name = "tuned"
after = "start"
changes = { optim = { total_steps = 2 } }

[scale_up.recipe.optim]
total_steps = 6

[scale_up.changes.plain.model]
embed_dim = 24
"""


def write_experiment(root: Path) -> Path:
    """The experiment's file, in `root`."""
    path = root / "small.toml"
    path.write_text(TEXT)
    return path


def make_data(root: Path) -> Path:
    """Photographs in `root`/photos, and sets of one or two images in `root`/benchmarks; returns `root`."""
    make_photos(root)
    for name, count in (("Set5", 2), ("other", 1)):
        for number in range(count):
            save_png(root / "benchmarks" / name / f"{number}.png", photo(36, 40, 7 + number))
    return root
