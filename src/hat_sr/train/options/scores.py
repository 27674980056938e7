"""What a BasicSR option file says of scores, reports and test sets: used by `train.options.importing`.

As in `train.options.sections`, each function takes its settings out of the file and notes where ours differ.
"""

import shlex
from pathlib import PurePosixPath
from typing import Any

from hat_sr.train.options.file import OptionFile
from hat_sr.train.options.sections import NO_EFFECT

GROUND_TRUTH = ("gt", "hr", "original")
"""Subfolders of a benchmark that `evaluate.dataset` takes for the ground truth; their parent is the benchmark. Not
imported from there: the command starts without torch."""


def log_table(file: OptionFile, upscale: int) -> dict[str, Any]:
    """[log] from logger, val and the first validation set; what is not said there keeps our default."""
    log: dict[str, Any] = {}
    for key, name in (
        ("logger.print_freq", "report_every"),
        ("logger.save_checkpoint_freq", "save_every"),
        ("val.val_freq", "validate_every"),
    ):
        if file.has(key):
            log[name] = file.take(key, 1)
    log["tensorboard"] = file.take("logger.use_tb_logger", False)
    if file.peek("val.save_img") is False:
        log["num_pictures"] = 0
    file.expect("val.save_img", (False,), "ours differs: results of log.num_pictures images are written, not of all")
    _note_metrics(file, upscale)
    for phase in _phases(file, "val"):
        if "validation_folder" in log:
            file.note(f"{phase}.*", "not used here: there is one validation set; hat-sr benchmark scores the others")
        elif folder := _benchmark(file, phase):
            log["validation_folder"] = folder
    for pattern in ("logger.wandb.*", "dist_params.*", "find_unused_parameters", "val.pbar", "val.suffix"):
        file.note(pattern, NO_EFFECT)
    return log


def _note_metrics(file: OptionFile, upscale: int) -> None:
    for name in {key.split(".")[2] for key in file.keys if key.startswith("val.metrics.") and key.count(".") > 2}:
        metric = f"val.metrics.{name}"
        if file.peek(f"{metric}.type") not in ("calculate_psnr", "calculate_ssim"):
            file.note(f"{metric}.*", "not used here: images are scored by PSNR and SSIM on Y")
            continue
        file.take(f"{metric}.type", "")
        for key, only in (("crop_border", upscale), ("test_y_channel", True), ("better", "higher")):
            file.expect(f"{metric}.{key}", (only,), f"ours differs: always {only}, as papers report it")


def _phases(file: OptionFile, kind: str) -> list[str]:
    """The data sets of a kind, "val" or "test", such as datasets.val_1."""
    names = {key.split(".")[1]: None for key in file.keys if key.startswith("datasets.") and key.count(".") > 1}
    return [f"datasets.{name}" for name in names if name.split("_")[0] == kind]


def _benchmark(file: OptionFile, phase: str) -> str | None:
    """The folder that the benchmark of a data set is in; None, noting why, if it is none."""
    if file.peek(f"{phase}.type") != "PairedImageDataset" or file.peek(f"{phase}.io_backend.type") != "disk":
        file.note(f"{phase}.*", "not used here: only folders with ground truth (PairedImageDataset, disk) are scored")
        return None
    file.take(f"{phase}.type", "")
    file.take(f"{phase}.io_backend.type", "")
    file.note(f"{phase}.name", NO_EFFECT)
    hr = PurePosixPath(file.take(f"{phase}.dataroot_gt", "."))
    if hr.name.lower() in GROUND_TRUTH:
        file.note(f"{phase}.dataroot_lq", "ours differs: LR is looked for beside the ground truth, else made from it")
        return str(hr.parent)
    file.note(f"{phase}.dataroot_lq", "ours differs: LR is made from the ground truth by MATLAB's bicubic")
    return str(hr)


def test_commands(file: OptionFile, name: str, upscale: int, weights: str | None) -> tuple[str, ...]:
    """The lines for a shell that score, or enlarge, the data sets of a test."""
    model = ["--model", weights or "WEIGHTS"]
    tile = ["--tile", str(file.take("tile.tile_size", 0))] if file.has("tile.tile_size") else []
    file.note("tile.tile_pad", "ours differs: by how much tiles overlap is hat-sr's choice")
    commands = []
    for phase in _phases(file, "test"):
        if file.peek(f"{phase}.type") == "SingleImageDataset":
            file.take(f"{phase}.type", "")
            file.expect(f"{phase}.io_backend.type", ("disk",), "ours differs: images are read from a folder")
            file.note(f"{phase}.name", NO_EFFECT)
            folder = file.take(f"{phase}.dataroot_lq", "IMAGES")
            commands.append(["hat-sr", "upscale", folder, "-o", f"results/{name}", *model, *tile])
        elif benchmark := _benchmark(file, phase):
            commands.append(["hat-sr", "benchmark", "--data", benchmark, "--scale", str(upscale), *model, *tile])
    file.expect("val.save_img", (False,), "not used here: hat-sr benchmark writes no images; hat-sr upscale does")
    _note_metrics(file, upscale)
    for pattern in ("num_gpu", "manual_seed", "val.suffix", "val.pbar"):
        file.note(pattern, NO_EFFECT)
    return tuple(shlex.join(command) for command in commands)
