"""What each section of a BasicSR option file is in a recipe: used by `train.options.importing`.

Each function takes its settings out of the file, leaves a note where ours differ, and returns a table of the recipe.
"""

from typing import Any

from hat_sr.train.options.file import OptionFile

PUBLISHED_GPUS = 8
"""GPUs of the published trainings, whose files give a batch size for each."""

OFFICIAL_MODEL: dict[str, Any] = {
    "upscale": 2,
    "in_chans": 3,
    "embed_dim": 96,
    "depths": [6, 6, 6, 6],
    "num_heads": [6, 6, 6, 6],
    "window_size": 7,
    "overlap_ratio": 0.5,
    "compress_ratio": 3,
    "squeeze_factor": 30,
    "conv_scale": 0.01,
    "mlp_ratio": 4.0,
    "img_range": 1.0,
    "drop_path_rate": 0.1,
}
"""What the official class takes for a setting that a file leaves out: not the published sizes."""

NO_EFFECT = "not used here: it changes no result"

_REAL_WORLD = (
    *("*gt_usm", "resize_prob*", "resize_range*", "gaussian_noise_prob*", "noise_range*", "poisson_scale_range*"),
    *("gray_noise_prob*", "jpeg_range*", "second_blur_prob", "gt_size", "queue_size", "network_d.*", "path.*_d"),
    *(
        "datasets.train.blur_*",
        "datasets.train.kernel_*",
        "datasets.train.meta_info",
        "datasets.train.*sinc_prob*",
        "datasets.train.beta?_range*",
    ),
    *("train.optim_d.*", "train.perceptual_opt.*", "train.gan_opt.*", "train.net_d_*"),
)
"""Settings of the official real-world trainings: degradations, discriminator, and their losses."""


def note_other_trainings(file: OptionFile) -> None:
    """Note what makes the file one of another network, or of a real-world training."""
    by_hand = "cannot be carried over: write data.degradation = 'real' and [adversary] into a recipe"
    other = f"{by_hand}; HATModel and SRModel are known"
    file.expect("model_type", ("HATModel", "SRModel"), other, blocks=True)
    other = "cannot be carried over: only HAT is; the recipe takes another network as [network]"
    file.expect("network_g.type", ("HAT",), other, blocks=True)
    for pattern in _REAL_WORLD:
        file.note(pattern, by_hand, blocks=True)


def model_table(file: OptionFile) -> dict[str, Any]:
    """[model] from network_g."""
    model = {name: file.take(f"network_g.{name}", default) for name, default in OFFICIAL_MODEL.items()}
    for name, only in (
        ("patch_size", 1),
        ("qkv_bias", True),
        ("drop_rate", 0),
        ("attn_drop_rate", 0),
        ("ape", False),
        ("patch_norm", True),
        ("upsampler", "pixelshuffle"),
        ("resi_connection", "1conv"),
    ):
        file.expect(f"network_g.{name}", (only,), f"cannot be carried over: only {only!r} is there", blocks=True)
    file.note("network_g.qk_scale", "cannot be carried over: it is always 1 / sqrt(head channels)", blocks=True)
    file.note("network_g.img_size", NO_EFFECT)
    file.expect(
        "network_g.use_checkpoint", (False,), "not used, there neither: activation_checkpointing = true does it"
    )
    file.expect("scale", (model["upscale"],), "cannot be carried over: network_g.upscale is another", blocks=True)
    return model


def weights_to_start_from(file: OptionFile) -> str | None:
    """The file of weights that path names, or None."""
    key = "path.pretrain_network_g"
    if not file.has(key):
        file.note("path.param_key_g", NO_EFFECT)
        file.note("path.strict_load_g", NO_EFFECT)
    elif not file.has("path.param_key_g"):
        file.remark(key, "ours differs: the averaged weights (params_ema) are read if there are any, there the plain")
    file.expect("path.param_key_g", ("params_ema",), "ours differs: params_ema is read if the file has it")
    file.expect(
        "path.strict_load_g",
        (True,),
        "ours differs: weights that do not fit are refused, but for the upsampling of another scale",
    )
    file.note("path.resume_state", "not used here: a training goes on from its own folder (-o)")
    return file.take(key, "") or None


def data_table(file: OptionFile, upscale: int, num_gpus: int | None) -> dict[str, Any]:
    """[data] from datasets.train."""
    train = "datasets.train"
    source = _source(file, upscale)
    hr_size = file.need(f"{train}.gt_size", 0, setting="data.patch_size")
    if hr_size % upscale:
        file.missing["data.patch_size"] = f"gt_size {hr_size} is no multiple of the scale {upscale}"
    per_gpu = file.need(f"{train}.batch_size_per_gpu", 1, setting="data.batch_size")
    for name in ("use_hflip", "use_rot"):
        file.expect(f"{train}.{name}", (True,), "ours differs: patches are always flipped and turned")
    file.expect(f"{train}.use_shuffle", (True,), "ours differs: patches are always drawn at random")
    for name in ("dataset_enlarge_ratio", "prefetch_mode", "num_prefetch_queue", "pin_memory", "persistent_workers"):
        file.note(f"{train}.{name}", NO_EFFECT)
    for name in ("mean", "std", "color"):
        file.note(f"{train}.{name}", "cannot be carried over: training is on plain RGB", blocks=True)
    return {
        "patch_size": hr_size // upscale,
        "batch_size": per_gpu * _count_gpus(file, num_gpus, per_gpu),
        "num_workers": file.take(f"{train}.num_worker_per_gpu", 0),
        "sources": [source],
    }


def _source(file: OptionFile, upscale: int) -> dict[str, Any]:
    train = "datasets.train"
    lmdb = file.peek(f"{train}.io_backend.type") == "lmdb"
    other = "cannot be carried over: images are read from folders (disk) and lmdb"
    file.expect(f"{train}.io_backend.type", ("disk", "lmdb"), other, blocks=True)
    source = {
        "path": file.need(f"{train}.dataroot_gt", ".", setting="data.sources"),
        "kind": "lmdb" if lmdb else "folder",
    }
    lr_key, kind = f"{train}.dataroot_lq", file.peek(f"{train}.type")
    if kind == "PairedImageDataset" and not lmdb:
        source |= {"kind": "pairs", "lr_path": file.need(lr_key, ".", setting="data.sources")}
    elif kind == "ImageNetPairedDataset":
        differs = "ours differs: images smaller than a patch are left out, there enlarged; LR is rounded to 8 bits"
        file.remark(f"{train}.type", differs)
        file.note(lr_key, "not used, there neither: LR is made from dataroot_gt")
    else:
        file.note(lr_key, "ours differs: LR is made from dataroot_gt by MATLAB's bicubic")
    accepted = ("PairedImageDataset", "ImageNetPairedDataset")
    other = f"cannot be carried over: only {' and '.join(accepted)} are known"
    file.expect(f"{train}.type", accepted, other, blocks=True)
    file.note(f"{train}.meta_info_file", "ours differs: every image in dataroot_gt is read, not those of a list")
    other = "cannot be carried over: LR files have the name of HR files, perhaps with x2, x3, x4 behind it"
    file.expect(f"{train}.filename_tmpl", ("{}", f"{{}}x{upscale}"), other, blocks=True)
    return source


def _count_gpus(file: OptionFile, num_gpus: int | None, per_gpu: int) -> int:
    if num_gpus is not None:
        file.expect("num_gpu", ("auto", num_gpus), f"not used: {num_gpus} GPUs were asked for")
        return num_gpus
    if file.peek("num_gpu") == "auto":
        batch = f"{PUBLISHED_GPUS} GPUs × {per_gpu}"
        file.note("num_gpu", f"ours differs: batch_size is of all GPUs, here {batch} as published; or give --num-gpus")
        return PUBLISHED_GPUS
    return max(file.need("num_gpu", 1, setting="data.batch_size"), 1)


_LOSSES = {"L1Loss": "l1", "MSELoss": "mse"}
"""The official names of `optim.loss`."""


def optim_table(file: OptionFile) -> dict[str, Any]:
    """[optim] from train."""
    total_steps = file.need("train.total_iter", 1, setting="optim.total_steps")
    file.expect("train.optim_g.type", ("Adam",), "cannot be carried over: only Adam is there", blocks=True)
    if not file.has("train.pixel_opt.type"):
        file.missing["the loss"] = "the file has no train.pixel_opt.type"
    known = ", ".join(_LOSSES)
    loss = file.peek("train.pixel_opt.type")
    file.expect("train.pixel_opt.type", tuple(_LOSSES), f"cannot be carried over: known are {known}", blocks=True)
    factor = "ours differs: the mean, times 1; with Adam a factor has hardly any effect"
    file.expect("train.pixel_opt.loss_weight", (1,), factor)
    file.expect("train.pixel_opt.reduction", ("mean",), factor)
    return {
        "total_steps": total_steps,
        "loss": _LOSSES.get(str(loss), "l1"),
        "learning_rate": file.need("train.optim_g.lr", 1.0, setting="optim.learning_rate"),
        "betas": file.take("train.optim_g.betas", [0.9, 0.999]),
        "weight_decay": file.take("train.optim_g.weight_decay", 0.0),
        "warmup_steps": max(file.take("train.warmup_iter", -1), 0),
        "ema_decay": file.take("train.ema_decay", 0.0),
        "ema_warmup": False,
        **_schedule(file, total_steps),
    }


def _schedule(file: OptionFile, total_steps: int) -> dict[str, Any]:
    scheduler = "train.scheduler"
    kind = file.peek(f"{scheduler}.type")
    if kind is None:
        file.missing["optim.schedule"] = f"the file has no {scheduler}.type"
    if kind == "CosineAnnealingRestartLR":
        file.take(f"{scheduler}.type", "")
        whole = "cannot be carried over: a cosine falls once, to 0, over all steps"
        for name, only in (("periods", [total_steps]), ("restart_weights", [1]), ("eta_min", 0)):
            file.expect(f"{scheduler}.{name}", (only,), whole, blocks=True)
        return {"schedule": "cosine"}
    other = "cannot be carried over: MultiStepLR and CosineAnnealingRestartLR are known"
    file.expect(f"{scheduler}.type", ("MultiStepLR", "MultiStepRestartLR"), other, blocks=True)
    for name, only in (("restarts", 0), ("restart_weights", 1)):
        file.expect(f"{scheduler}.{name}", ([only],), "cannot be carried over: there are no restarts", blocks=True)
    return {
        "schedule": "steps",
        "milestones": file.take(f"{scheduler}.milestones", [0]) if file.has(f"{scheduler}.milestones") else [],
        "gamma": file.take(f"{scheduler}.gamma", 0.1),
    }
