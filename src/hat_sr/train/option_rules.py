"""What becomes of each setting of an official (BasicSR) option file: a table, one function for each section.

Facts about those files: github.com/XPixelGroup/HAT, options/ and the classes that read them.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hat_sr.train.option_file import OptionFile, Rule

PUBLISHED_GPUS = 8
"""GPUs of the published trainings, whose files give a batch size for each."""

GROUND_TRUTH = ("gt", "hr", "original")
"""Subfolders of a benchmark that `evaluate.dataset` takes for the ground truth; their parent is the benchmark. Not
imported from there: the command starts without torch."""

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

_FIXED_MODEL: dict[str, object] = {
    "patch_size": 1,
    "qkv_bias": True,
    "drop_rate": 0,
    "attn_drop_rate": 0,
    "ape": False,
    "patch_norm": True,
    "upsampler": "pixelshuffle",
    "resi_connection": "1conv",
}
"""Settings of the official class that every published HAT has alike."""

_REAL_WORLD = (
    "*gt_usm resize_prob* resize_range* gaussian_noise_prob* noise_range* poisson_scale_range* gray_noise_prob* "
    "jpeg_range* second_blur_prob gt_size queue_size network_d.* path.*_d datasets.train.blur_* "
    "datasets.train.kernel_* datasets.train.meta_info datasets.train.*sinc_prob* datasets.train.beta?_range* "
    "train.optim_d.* train.perceptual_opt.* train.gan_opt.* train.net_d_*"
)
"""Settings of the official real-world trainings: degradations, discriminator, and their losses."""

_SECTIONS = "datasets network_g path train val logger tile dist_params"

_NO_EFFECT = "not used here: it changes no result"
_NO = "cannot be carried over: "
_DIFFERS = "ours differs: "


def training_rules(file: OptionFile, path: Path, num_gpus: int | None) -> list[Rule]:
    """What becomes of the settings of a training; num_gpus as for `import_options.import_options`."""
    rules = [*_training(file, path, num_gpus), *_weights(file), *_network(file), *_data(file)]
    return [*rules, *_optimizer(file), *_validation(file), *_sections()]


def test_rules(file: OptionFile) -> list[Rule]:
    """What becomes of the settings of a test; what it asks for is in `test_commands`."""
    return [*_weights(file), *_network(file), *_test(file), *_sections()]


def _sections() -> list[Rule]:
    return _named(f"{_NO}a section with settings is expected", _SECTIONS, blocks=True)


def _take(key: str, to: str, default: Any, how: Callable[[Any], Any] | None = None) -> Rule:
    """A setting that becomes one of the recipe's, which is `default` without it."""
    return Rule(key=key, to=to, like=default, default=default, how=how)


def _need(key: str, to: str, like: Any, how: Callable[[Any], Any] | None = None) -> Rule:
    """A setting that becomes one of the recipe's, which must be there and of the type of `like`."""
    return Rule(key=key, to=to, like=like, needed=True, how=how)


def _only(why: str, accepted: Mapping[str, Sequence[object]], section: str = "", *, blocks: bool = True) -> list[Rule]:
    """Settings without a counterpart: `accepted` are the values that change nothing, by key in `section`."""
    return [Rule(key=f"{section}{key}", accepted=values, why=why, blocks=blocks) for key, values in accepted.items()]


def _named(why: str, keys: str, section: str = "", *, blocks: bool = False) -> list[Rule]:
    """Settings that are named with the reason, whatever their value; their keys in `section` with spaces between."""
    return _only(why, dict.fromkeys(keys.split(), ()), section, blocks=blocks)


def _network(file: OptionFile) -> list[Rule]:
    """model_type, scale, network_g."""
    by_hand = f"{_NO}write data.degradation = 'real' and [adversary] into a recipe"
    upscale = file.value("network_g.upscale", OFFICIAL_MODEL["upscale"])
    return [
        *_only(f"{by_hand}; HATModel and SRModel are known", {"model_type": ("HATModel", "SRModel")}),
        *_named(by_hand, _REAL_WORLD, blocks=True),
        *_only(f"{_NO}network_g.upscale is another", {"scale": (upscale,)}),
        *_only(f"{_NO}only HAT is; the recipe takes another network as [network]", {"network_g.type": ("HAT",)}),
        *(_take(f"network_g.{name}", f"model.{name}", default) for name, default in OFFICIAL_MODEL.items()),
        *(
            rule
            for name, only in _FIXED_MODEL.items()
            for rule in _only(f"{_NO}only {only!r} is there", {name: (only,)}, "network_g.")
        ),
        *_named(f"{_NO}it is always 1 / sqrt(head channels)", "network_g.qk_scale", blocks=True),
        *_named(_NO_EFFECT, "network_g.img_size"),
        *_only(
            "not used, there neither: activation_checkpointing = true does it",
            {"network_g.use_checkpoint": (False,)},
            blocks=False,
        ),
    ]


def _weights(file: OptionFile) -> list[Rule]:
    """path."""
    rules = _named("not used here: a training goes on from its own folder (-o)", "path.resume_state")
    if "path.pretrain_network_g" not in file.values:
        return [*rules, *_named(_NO_EFFECT, "param_key_g strict_load_g", "path.")]
    plain = f"{_DIFFERS}the averaged weights (params_ema) are read if there are any, there the plain"
    unfit = f"{_DIFFERS}weights that do not fit are refused, but for the upsampling of another scale"
    return [
        *rules,
        Rule(
            key="path.pretrain_network_g",
            to="start_from",
            like="",
            accepted=None if "path.param_key_g" in file.values else (),
            why=plain,
        ),
        *_only(f"{_DIFFERS}params_ema is read if the file has it", {"path.param_key_g": ("params_ema",)}, blocks=False),
        *_only(unfit, {"path.strict_load_g": (True,)}, blocks=False),
    ]


def _training(file: OptionFile, path: Path, num_gpus: int | None) -> list[Rule]:
    """name, manual_seed, num_gpu and the batch size of each."""
    per_gpu = "datasets.train.batch_size_per_gpu"
    gpus = [_need("num_gpu", "data.batch_size", 1)]
    count = max(file.value("num_gpu", 1), 1)
    if num_gpus is not None:
        gpus = _only(f"not used: {num_gpus} GPUs were asked for", {"num_gpu": ("auto", num_gpus)}, blocks=False)
        count = num_gpus
    elif file.values.get("num_gpu") == "auto":
        batch = f"{PUBLISHED_GPUS} GPUs × {file.values.get(per_gpu)}"
        gpus = _named(f"{_DIFFERS}batch_size is of all GPUs, here {batch} as published; or give --num-gpus", "num_gpu")
        count = PUBLISHED_GPUS
    return [
        _take("manual_seed", "seed", 0),
        _take("name", "provenance.title", path.stem),
        _take("datasets.train.name", "provenance.data", "see data.sources"),
        *gpus,
        _need(per_gpu, "data.batch_size", 1, lambda batch_size: batch_size * count),
    ]


def _data(file: OptionFile) -> list[Rule]:
    """datasets.train."""
    scale, train = _scale(file), "datasets.train."
    always = f"{_DIFFERS}patches are always"

    def patch_size(hr_size: int) -> int:
        if hr_size % scale:
            raise ValueError(f"a multiple of the scale {scale}")
        return hr_size // scale

    return [
        _need(f"{train}gt_size", "data.patch_size", 0, patch_size),
        _take(f"{train}num_worker_per_gpu", "data.num_workers", 0),
        *_source(file),
        *_only(f"{always} flipped and turned", {"use_hflip": (True,), "use_rot": (True,)}, train, blocks=False),
        *_only(f"{always} drawn at random", {"use_shuffle": (True,)}, train, blocks=False),
        *_named(_NO_EFFECT, "dataset_enlarge_ratio prefetch_mode num_prefetch_queue", train),
        *_named(_NO_EFFECT, "pin_memory persistent_workers", train),
        *_named(f"{_NO}training is on plain RGB", "mean std color", train, blocks=True),
    ]


def _source(file: OptionFile) -> list[Rule]:
    """The images of datasets.train."""
    train = "datasets.train."
    lmdb = file.values.get(f"{train}io_backend.type") == "lmdb"
    kind, hr_path = file.values.get(f"{train}type"), file.values.get(f"{train}dataroot_gt")
    source = {"path": hr_path, "kind": "lmdb" if lmdb else "folder"}
    kinds = ("PairedImageDataset", "ImageNetPairedDataset")
    of_type = _only(f"{_NO}only {' and '.join(kinds)} are known", {f"{train}type": kinds})
    lr = _named(f"{_DIFFERS}LR is made from dataroot_gt by MATLAB's bicubic", f"{train}dataroot_lq")
    if kind == "PairedImageDataset" and not lmdb:
        lr = [_need(f"{train}dataroot_lq", "data.sources", "", lambda lr: [source | {"kind": "pairs", "lr_path": lr}])]
    elif kind == "ImageNetPairedDataset":
        small = f"{_DIFFERS}images smaller than a patch are left out, there enlarged; LR is rounded to 8 bits"
        of_type = _named(small, f"{train}type")
        lr = _named("not used, there neither: LR is made from dataroot_gt", f"{train}dataroot_lq")
    names = f"{_NO}LR files have the name of HR files, perhaps with x2, x3, x4 behind it"
    return [
        _need(f"{train}dataroot_gt", "data.sources", "", lambda _: [source]),
        *of_type,
        *lr,
        *_only(f"{_NO}images are read from folders (disk) and lmdb", {"io_backend.type": ("disk", "lmdb")}, train),
        *_only(names, {"filename_tmpl": ("{}", f"{{}}x{_scale(file)}")}, train),
        *_named(f"{_DIFFERS}every image in dataroot_gt is read, not those of a list", "meta_info_file", train),
    ]


def _optimizer(file: OptionFile) -> list[Rule]:
    """train."""
    factor = f"{_DIFFERS}the mean, times 1; with Adam a factor has hardly any effect"
    return [
        _need("train.total_iter", "optim.total_steps", 1),
        _need("train.pixel_opt.type", "optim.loss", "", _one_of({"L1Loss": "l1", "MSELoss": "mse"})),
        *_only(factor, {"loss_weight": (1,), "reduction": ("mean",)}, "train.pixel_opt.", blocks=False),
        *_only(f"{_NO}only Adam is there", {"train.optim_g.type": ("Adam",)}),
        _need("train.optim_g.lr", "optim.learning_rate", 1.0),
        _take("train.optim_g.betas", "optim.betas", [0.9, 0.999]),
        _take("train.optim_g.weight_decay", "optim.weight_decay", 0.0),
        _take("train.warmup_iter", "optim.warmup_steps", -1, lambda steps: max(steps, 0)),
        _take("train.ema_decay", "optim.ema_decay", 0.0),
        *_schedule(file),
    ]


def _schedule(file: OptionFile) -> list[Rule]:
    """train.scheduler."""
    scheduler = "train.scheduler."
    kinds = {"MultiStepLR": "steps", "MultiStepRestartLR": "steps", "CosineAnnealingRestartLR": "cosine"}
    rules = [_need(f"{scheduler}type", "optim.schedule", "", _one_of(kinds))]
    if file.values.get(f"{scheduler}type") == "CosineAnnealingRestartLR":
        once = {"periods": ([file.value("train.total_iter", 1)],), "restart_weights": ([1],), "eta_min": (0,)}
        return [*rules, *_only(f"{_NO}a cosine falls once, to 0, over all steps", once, scheduler)]
    return [
        *rules,
        *_only(f"{_NO}there are no restarts", {"restarts": ([0],), "restart_weights": ([1],)}, scheduler),
        Rule(key=f"{scheduler}milestones", to="optim.milestones", like=[0], default=[]),
        _take(f"{scheduler}gamma", "optim.gamma", 0.1),
    ]


def _one_of(names: dict[str, str]) -> Callable[[str], str]:
    """The official name → ours."""

    def ours(name: str) -> str:
        if name not in names:
            raise ValueError(" or ".join(names))
        return names[name]

    return ours


def _validation(file: OptionFile) -> list[Rule]:
    """logger, val and the validation sets, of a training; what is not said there keeps our default."""
    pictures = f"{_DIFFERS}results of log.num_pictures images are written, not of all"
    others = "not used here: there is one validation set; hat-sr benchmark scores the others"
    sets, scored = [], False
    for phase in _phases(file, "val"):
        sets += _named(others, f"{phase}.*") if scored else _benchmark(file, phase, to="log.validation_folder")
        scored = scored or _is_benchmark(file, phase)
    return [
        Rule(key="logger.print_freq", to="log.report_every", like=1),
        Rule(key="logger.save_checkpoint_freq", to="log.save_every", like=1),
        Rule(key="val.val_freq", to="log.validate_every", like=1),
        _take("logger.use_tb_logger", "log.tensorboard", False),
        Rule(
            key="val.save_img",
            to="log.num_pictures",
            how=lambda saved: None if saved else 0,
            accepted=(False,),
            why=pictures,
        ),
        *_metrics(file),
        *sets,
        *_named(_NO_EFFECT, "logger.wandb.* dist_params.* find_unused_parameters val.pbar val.suffix"),
    ]


def _test(file: OptionFile) -> list[Rule]:
    """A test but for its network; what it asks for is in `test_commands`."""
    no_pictures = "not used here: hat-sr benchmark writes no images; hat-sr upscale does"
    rules = [
        Rule(key="name", like=""),
        Rule(key="tile.tile_size", like=0),
        *_named(f"{_DIFFERS}by how much tiles overlap is hat-sr's choice", "tile.tile_pad"),
        *_only(no_pictures, {"val.save_img": (False,)}, blocks=False),
        *_metrics(file),
        *_named(_NO_EFFECT, "num_gpu manual_seed val.suffix val.pbar"),
    ]
    from_folder = f"{_DIFFERS}images are read from a folder"
    for phase in _phases(file, "test"):
        if _is_folder(file, phase):
            rules += [Rule(key=f"{phase}.type"), Rule(key=f"{phase}.dataroot_lq", like="")]
            rules += _only(from_folder, {f"{phase}.io_backend.type": ("disk",)}, blocks=False)
            rules += _named(_NO_EFFECT, f"{phase}.name")
        else:
            rules += _benchmark(file, phase)
    return rules


def test_commands(file: OptionFile, stem: str) -> tuple[str, ...]:
    """The lines for a shell that score, or enlarge, the data sets of a test."""
    options = ["--model", file.value("path.pretrain_network_g", "WEIGHTS")]
    if "tile.tile_size" in file.values:
        options += ["--tile", str(file.value("tile.tile_size", 0))]
    commands = []
    for phase in _phases(file, "test"):
        if _is_folder(file, phase):
            folder = file.value(f"{phase}.dataroot_lq", "IMAGES")
            commands.append(["hat-sr", "upscale", folder, "-o", f"results/{file.value('name', stem)}", *options])
        elif _is_benchmark(file, phase):
            root = _above(file.value(f"{phase}.dataroot_gt", "."))
            commands.append(["hat-sr", "benchmark", "--data", root, "--scale", str(_scale(file)), *options])
    return tuple(shlex.join(command) for command in commands)


def _metrics(file: OptionFile) -> list[Rule]:
    """val.metrics."""
    rules = []
    for metric in file.groups("val.metrics"):
        if file.values.get(f"{metric}.type") not in ("calculate_psnr", "calculate_ssim"):
            rules += _named("not used here: images are scored by PSNR and SSIM on Y", f"{metric}.*")
            continue
        rules.append(Rule(key=f"{metric}.type"))
        for name, only in {"crop_border": _scale(file), "test_y_channel": True, "better": "higher"}.items():
            why = f"{_DIFFERS}always {only}, as papers report it"
            rules += _only(why, {f"{metric}.{name}": (only,)}, blocks=False)
    return rules


def _benchmark(file: OptionFile, phase: str, *, to: str = "") -> list[Rule]:
    """A data set with ground truth; the recipe's setting `to` becomes the folder that the benchmark is in."""
    if not _is_benchmark(file, phase):
        why = "not used here: only folders with ground truth (PairedImageDataset, disk) are scored"
        return _named(why, f"{phase}.*")
    folder = file.value(f"{phase}.dataroot_gt", ".")
    lr = "made from the ground truth by MATLAB's bicubic"
    if _above(folder) != str(PurePosixPath(folder)):
        lr = "looked for beside the ground truth, else made from it"
    return [
        Rule(key=f"{phase}.type"),
        Rule(key=f"{phase}.io_backend.type"),
        _take(f"{phase}.dataroot_gt", to, ".", _above),
        *_named(_NO_EFFECT, f"{phase}.name"),
        *_named(f"{_DIFFERS}LR is {lr}", f"{phase}.dataroot_lq"),
    ]


def _scale(file: OptionFile) -> int:
    return max(int(file.value("network_g.upscale", OFFICIAL_MODEL["upscale"])), 1)


def _phases(file: OptionFile, kind: str) -> list[str]:
    """The data sets of a kind, "val" or "test", such as datasets.val_1."""
    return [phase for phase in file.groups("datasets") if phase.split(".")[1].split("_")[0] == kind]


def _is_benchmark(file: OptionFile, phase: str) -> bool:
    paired = file.values.get(f"{phase}.type") == "PairedImageDataset"
    return paired and file.values.get(f"{phase}.io_backend.type") == "disk"


def _is_folder(file: OptionFile, phase: str) -> bool:
    return file.values.get(f"{phase}.type") == "SingleImageDataset"


def _above(folder: str) -> str:
    """The benchmark whose ground truth is in `folder`."""
    hr = PurePosixPath(folder)
    return str(hr.parent if hr.name.lower() in GROUND_TRUTH else hr)
