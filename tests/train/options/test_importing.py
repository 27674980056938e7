"""Official option files: what a recipe takes from them, and that nothing of them is dropped in silence."""

import functools
from pathlib import Path

import pytest
import yaml

from hat_sr.errors import ConfigError
from hat_sr.evaluate.dataset import HR_FOLDERS, find_datasets
from hat_sr.model.config import HATConfig
from hat_sr.train.config import DataConfig, LogConfig, OptimConfig, Recipe, SourceConfig
from hat_sr.train.import_options import import_options, write_recipe
from hat_sr.train.option_rules import GROUND_TRUTH
from hat_sr.train.recipe import load_recipe
from train.small import photo, save_png

OPTIONS = Path(__file__).parent
PAIRS = (OPTIONS / "pairs.yml").read_text()
FILES = sorted(OPTIONS.glob("*.yml"))

BY_HAND = "cannot be carried over: write data.degradation = 'real' and [adversary] into a recipe"


def imported(tmp_path, *changes, text=PAIRS, **arguments):
    """What becomes of `text` with each (old, new) of `changes` made in it."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = tmp_path / "options.yml"
    path.write_text(text)
    return import_options(path, **arguments)


@functools.cache
def as_they_are(path):
    return import_options(path)


def noted(result):
    return {note.key: note for note in result.notes}


def leaves(node, prefix=""):
    """(keys joined by dots, line, value's node) of each setting in a YAML mapping."""
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode):
            yield from leaves(value, f"{prefix}{key.value}.")
        else:
            yield f"{prefix}{key.value}", key.start_mark.line + 1, value


SETTINGS = [
    pytest.param(path, key, value, id=f"{path.stem}-{key}")
    for path in FILES
    for key, _, value in leaves(yaml.compose(path.read_text()))
]


def test_every_setting_of_a_training_arrives():
    result = import_options(OPTIONS / "pairs.yml")
    assert result.recipe == Recipe(
        seed=11,
        start_from="earlier/net_g_latest.pth",
        provenance={"title": "small pairs", "recipe": "imported from pairs.yml", "data": "Garden"},
        model=HATConfig(
            upscale=2,
            embed_dim=24,
            depths=(2, 3),
            num_heads=(2, 4),
            window_size=8,
            overlap_ratio=0.25,
            compress_ratio=4,
            squeeze_factor=6,
            conv_scale=0.02,
            mlp_ratio=3.0,
            drop_path_rate=0.05,
        ),
        data=DataConfig(
            sources=(SourceConfig(path="data/garden/hr", kind="pairs", lr_path="data/garden/lr"),),
            patch_size=16,
            batch_size=10,
            num_workers=3,
        ),
        optim=OptimConfig(
            total_steps=100,
            learning_rate=3e-4,
            betas=(0.8, 0.95),
            weight_decay=0.01,
            milestones=(60, 80),
            gamma=0.25,
            warmup_steps=7,
            ema_decay=0.99,
            ema_warmup=False,
        ),
        log=LogConfig(
            report_every=10,
            save_every=25,
            validate_every=50,
            validation_folder="data/Five",
            num_pictures=0,
            tensorboard=True,
        ),
    )
    assert (result.notes, result.missing, result.commands, result.trains) == ((), (), (), True)
    assert result.num_carried == len(list(leaves(yaml.compose(PAIRS))))


def test_what_is_written_is_what_was_imported(tmp_path):
    result = import_options(OPTIONS / "pairs.yml")
    write_recipe(result, tmp_path / "pairs.toml")
    assert load_recipe(tmp_path / "pairs.toml") == result.recipe
    assert "depths = [2, 3]" in (tmp_path / "pairs.toml").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.toml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_setting_is_carried_or_named_with_its_line(path):
    result = import_options(path)
    lines = {key: line for key, line, _ in leaves(yaml.compose(path.read_text()))}
    assert {(note.key, note.line) for note in result.notes} <= set(lines.items())
    assert result.num_carried + len(result.notes) == len(lines)
    for note in result.notes:
        assert f"line {note.line}: {note.key} = " in result.text


@pytest.mark.parametrize(("path", "key", "value"), SETTINGS)
def test_no_setting_is_dropped_in_silence(tmp_path, path, key, value):
    """A setting made nonsense changes the recipe or the commands, or is named."""
    text = path.read_text()
    start, end = value.start_mark.index, value.end_mark.index
    before = as_they_are(path)
    after = imported(tmp_path, text=f"{text[:start]}strange{text[end:]}")
    named = noted(after).get(key)
    carried = (after.text.partition("\n\n")[2], after.commands) != (before.text.partition("\n\n")[2], before.commands)
    assert carried or named is not None


@pytest.mark.parametrize("section", ["", "datasets.train.", "network_g.", "path.", "train.", "train.optim_g.", "val."])
def test_an_unknown_setting_is_named(tmp_path, section):
    tree = yaml.safe_load(PAIRS)
    table = tree
    for name in section.split(".")[:-1]:
        table = table[name]
    table["zzz"] = 5
    result = imported(tmp_path, text=yaml.safe_dump(tree))
    note = noted(result)[f"{section}zzz"]
    assert (note.value, note.blocks) == ("5", False)
    assert "not known here" in note.why
    assert result.recipe is not None


@pytest.mark.parametrize(
    ("change", "key", "meant"),
    [
        (("ema_decay:", "ema_deca:"), "train.ema_deca", "train.ema_decay"),
        (("    weight_decay:", "    weight_decy:"), "train.optim_g.weight_decy", "train.optim_g.weight_decay"),
        (("\nlogger:", "\nloger:"), "loger.print_freq", "logger"),
        (("drop_path_rate:", "drop_path:"), "network_g.drop_path", "network_g.drop_path_rate"),
    ],
    ids=str,
)
def test_a_slip_of_the_pen_makes_no_recipe(tmp_path, change, key, meant):
    result = imported(tmp_path, change)
    assert result.recipe is None
    assert noted(result)[key].blocks
    assert f"did you mean {meant}?" in noted(result)[key].why


@pytest.mark.parametrize(
    ("change", "key", "why"),
    [
        (("use_hflip: true", "use_hflip: false"), "datasets.train.use_hflip", "always flipped"),
        (("use_shuffle: true", "use_shuffle: false"), "datasets.train.use_shuffle", "at random"),
        (("loss_weight: 1.0", "loss_weight: 2.0"), "train.pixel_opt.loss_weight", "hardly any effect"),
        (("gt_size: 32", "gt_size: 32\n    meta_info_file: list.txt"), "datasets.train.meta_info_file", "every image"),
        (("param_key_g: params_ema", "param_key_g: params"), "path.param_key_g", "params_ema is read"),
        (("  param_key_g: params_ema\n", ""), "path.pretrain_network_g", "there the plain"),
        (("resume_state: ~", "resume_state: 5.state"), "path.resume_state", "its own folder"),
        (("save_img: false", "save_img: true"), "val.save_img", "num_pictures"),
        (("type: calculate_psnr", "type: calculate_niqe"), "val.metrics.psnr.type", "PSNR and SSIM on Y"),
        (("project: ~", "project: p"), "logger.wandb.project", "no result"),
    ],
    ids=str,
)
def test_what_differs_is_named(tmp_path, change, key, why):
    result = imported(tmp_path, change)
    assert why in noted(result)[key].why
    assert not noted(result)[key].blocks
    assert result.recipe is not None


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("model_type: HATModel", "model_type: SwinIRModel"), "model_type"),
        (("type: HAT\n", "type: RCAN\n"), "network_g.type"),
        (("upsampler: pixelshuffle", "upsampler: nearest+conv"), "network_g.upsampler"),
        (("resi_connection: 1conv", "resi_connection: identity"), "network_g.resi_connection"),
        (("scale: 2\nnum_gpu", "scale: 4\nnum_gpu"), "scale"),
        (("type: L1Loss", "type: CharbonnierLoss"), "train.pixel_opt.type"),
        (("type: Adam", "type: AdamW"), "train.optim_g.type"),
        (("type: MultiStepLR", "type: StepLR"), "train.scheduler.type"),
        (("gamma: 0.25", "gamma: 0.25\n    restarts: [0, 50]"), "train.scheduler.restarts"),
        (("lr: 3e-4", "lr: fast"), "train.optim_g.lr"),
        (("depths: [2, 3]", "depths: [2, true]"), "network_g.depths"),
        (("total_iter: !!float 1e2", "total_iter: 1.5"), "train.total_iter"),
        (("total_iter: !!float 1e2", "total_iter: .nan"), "train.total_iter"),
        (("filename_tmpl: '{}x2'", "filename_tmpl: 'low_{}'"), "datasets.train.filename_tmpl"),
        (("gt_size: 32", "gt_size: 32\n    mean: [0.5, 0.5, 0.5]"), "datasets.train.mean"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_makes_no_recipe(tmp_path, change, key):
    result = imported(tmp_path, change)
    assert result.recipe is None
    assert noted(result)[key].blocks
    assert noted(result)[key].why.startswith("cannot be carried over")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([("total_iter: !!float 1e2", "")], "optim.total_steps must be given by you: the file has no train.total_iter"),
        ([("    lr: 3e-4\n", "")], "optim.learning_rate must be given by you: the file has no train.optim_g.lr"),
        ([("    gt_size: 32\n", "")], "data.patch_size must be given by you: the file has no datasets.train.gt_size"),
        ([("gt_size: 32", "gt_size: 33")], "datasets.train.gt_size must be a multiple of the scale 2, not 33"),
        ([("gt_size: 32", "gt_size: 36")], "patch_size 18 must be a multiple of model.window_size 8"),
        ([("num_gpu: 2\n", "")], "data.batch_size must be given by you: the file has no num_gpu"),
        ([("dataroot_gt: data/garden/hr", "")], "data.sources must be given by you"),
        ([("num_heads: [2, 4]", "num_heads: [2, 5]")], "num_heads 5 must divide embed_dim 24"),
        ([("  upscale: 2", "  upscale: 0"), ("scale: 2\nnum", "scale: 0\nnum"), ("{}x2", "{}")], "upscale 0"),
    ],
    ids=str,
)
def test_what_is_missing_or_cannot_be_makes_no_recipe(tmp_path, changes, says):
    result = imported(tmp_path, *changes)
    assert result.recipe is None
    assert any(says in reason for reason in result.missing)


def test_what_is_missing_is_not_made_up(tmp_path):
    result = imported(tmp_path, ("    lr: 3e-4\n", ""), ("    gt_size: 32\n", ""))
    assert "learning_rate" not in result.text
    assert "patch_size" not in result.text
    assert "total_steps = 100" in result.text


def test_what_a_file_leaves_out_is_what_the_official_classes_take(tmp_path):
    text = PAIRS
    for line in ("  compress_ratio: 4\n", "  conv_scale: 0.02\n", "  mlp_ratio: 3\n", "  drop_path_rate: 0.05\n"):
        assert line in text
        text = text.replace(line, "")
    recipe = imported(tmp_path, ("ema_decay: 0.99", "ema_decay: ~"), ("    gamma: 0.25\n", ""), text=text).recipe
    assert (recipe.model.compress_ratio, recipe.model.conv_scale, recipe.model.mlp_ratio) == (3, 0.01, 4.0)
    assert (recipe.model.drop_path_rate, recipe.optim.ema_decay, recipe.optim.gamma) == (0.1, 0.0, 0.1)


def test_mse(tmp_path):
    result = imported(tmp_path, ("type: L1Loss", "type: MSELoss"))
    assert (result.recipe.optim.loss, result.notes) == ("mse", ())


def test_cosine(tmp_path):
    cosine = (
        "type: MultiStepLR\n    milestones: [60, 80]\n    gamma: 0.25",
        "type: CosineAnnealingRestartLR\n    periods: [100]\n    restart_weights: [1]\n    eta_min: 0",
    )
    result = imported(tmp_path, cosine)
    assert (result.recipe.optim.schedule, result.recipe.optim.milestones, result.notes) == ("cosine", (), ())
    for old, new in (("[100]", "[50, 50]"), ("eta_min: 0", "eta_min: !!float 1e-7"), ("[1]", "[0.5]")):
        result = imported(tmp_path, (cosine[0], cosine[1].replace(old, new)))
        assert result.recipe is None
        assert [note.blocks for note in result.notes] == [True]


def test_images_in_class_folders_and_databases(tmp_path):
    imagenet = (
        "PairedImageDataset\n    dataroot_gt: data/garden",
        "ImageNetPairedDataset\n    dataroot_gt: data/garden",
    )
    result = imported(tmp_path, imagenet)
    assert result.recipe.data.sources == (SourceConfig(path="data/garden/hr"),)
    assert set(noted(result)) == {"datasets.train.type", "datasets.train.dataroot_lq"}
    lmdb = ("type: disk\n    gt_size", "type: lmdb\n    gt_size")
    for changes in ([imagenet, lmdb], [lmdb]):
        result = imported(tmp_path, *changes)
        assert result.recipe.data.sources == (SourceConfig(path="data/garden/hr", kind="lmdb"),)
        assert "LR is made" in noted(result)["datasets.train.dataroot_lq"].why


@pytest.mark.parametrize(
    ("in_file", "num_gpus", "batch_size", "named"),
    [
        ("2", None, 10, False),
        ("0", None, 5, False),
        ("auto", None, 40, True),
        ("auto", 3, 15, False),
        ("2", 3, 15, True),
    ],
)
def test_batch_of_all_gpus(tmp_path, in_file, num_gpus, batch_size, named):
    result = imported(tmp_path, ("num_gpu: 2", f"num_gpu: {in_file}"), num_gpus=num_gpus)
    assert result.recipe.data.batch_size == batch_size
    assert ("num_gpu" in noted(result)) == named


@pytest.mark.parametrize("folder", ["GT", "HR", "original", "GTmod2", "images"])
def test_the_validation_folder_is_a_benchmark(tmp_path, folder):
    save_png(tmp_path / "Five" / folder / "a.png", photo(32, 32))
    result = imported(tmp_path, ("data/Five/GT", f"{tmp_path}/Five/{folder}"))
    (dataset,) = find_datasets(Path(result.recipe.log.validation_folder), 2)
    assert [pair.name for pair in dataset.pairs] == ["a"]


def test_further_validation_sets_are_named(tmp_path):
    more = "  val_2:\n    type: PairedImageDataset\n    dataroot_gt: data/Ten\n    io_backend:\n      type: disk\n"
    result = imported(tmp_path, ("\nnetwork_g:", f"{more}\nnetwork_g:"))
    assert result.recipe.log.validation_folder == "data/Five"
    assert set(noted(result)) == {f"datasets.val_2.{key}" for key in ("type", "dataroot_gt", "io_backend.type")}


def test_a_real_world_training_is_named_line_by_line():
    result = import_options(OPTIONS / "real.yml")
    assert result.recipe is None
    notes = noted(result)
    for key in ("gt_usm", "jpeg_range2", "datasets.train.kernel_list2", "network_d.num_feat", "train.gan_opt.type"):
        assert (notes[key].why, notes[key].blocks) == (BY_HAND, True)
    assert notes["model_type"].blocks
    assert notes["datasets.train.type"].blocks
    assert "total_steps = 20" in result.text
    assert "embed_dim = 12" in result.text


def test_a_test_file_becomes_commands():
    result = import_options(OPTIONS / "scores.yml")
    options = "--model ./weights/small.pth --tile 96"
    assert result.commands == (
        f"hat-sr benchmark --data data/Five/GTmod2 --scale 2 {options}",
        f"hat-sr benchmark --data 'data/my ten' --scale 2 {options}",
        f"hat-sr upscale photos -o 'results/small scores' {options}",
    )
    assert (result.recipe, result.trains) == (None, False)
    assert result.missing == (
        "data and optim must be given by you: it is the option file of a test, which has no training in it",
    )
    assert not any(note.blocks for note in result.notes)
    assert "[model]" in result.text
    assert "[optim]" not in result.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no settings"),
        (b"- a\n- b\n", "holds no settings"),
        (b"just words", "holds no settings"),
        (b"a: [1, 2", "not valid YAML.*line"),
        (b"a: 1\n b: 2\n", "not valid YAML.*line 2"),
        (b"a: 1\n---\nb: 2\n", "not valid YAML"),
        (b"a: 1\nb: 2\na: 3\n", "sets a in line 1 and again in line 3"),
        (b"a.b: 1\n", "has a dot in the name 'a.b', line 1"),
        (b"a: !!float fast", "not what its tag says.*fast"),
        (b"a: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not text"),
        (b"a: \x00", "not valid YAML"),
        (b"a: &a\n  b: *a\n", "nested without end"),
        (b"[" * 20000, "nested without end"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_what_is_no_option_file(tmp_path, content, says):
    path = tmp_path / "options.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{path} .*{says}|{path} {says}") as caught:
        import_options(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "no.yml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            import_options(path)


@pytest.mark.parametrize("section", ["train", "datasets", "network_g", "val"])
def test_a_section_that_holds_no_settings(tmp_path, section):
    tree = yaml.safe_load(PAIRS)
    for empty in (None, {}):
        tree[section] = empty
        result = imported(tmp_path, text=yaml.safe_dump(tree))
        assert section not in noted(result)
        assert (result.recipe is None) == (section != "val")
    tree[section] = 5
    result = imported(tmp_path, text=yaml.safe_dump(tree))
    assert noted(result)[section].blocks


def test_strange_text_stays_in_its_comment(tmp_path):
    strange = '"zz [x]\\n[model] \\x07"'
    result = imported(tmp_path, ("scale: 2\nnum_gpu", f"{strange}: {strange}\nscale: 2\nnum_gpu"))
    assert result.recipe is not None
    (note,) = result.notes
    assert (note.key, note.value) == ("zz [x] [model]  ", "zz [x] [model]  ")


def test_a_recipe_is_written_only_where_there_is_room(tmp_path):
    result = import_options(OPTIONS / "pairs.yml")
    (tmp_path / "mine.toml").write_text("mine")
    with pytest.raises(ConfigError, match=r"mine\.toml exists"):
        write_recipe(result, tmp_path / "mine.toml")
    assert (tmp_path / "mine.toml").read_text() == "mine"
    with pytest.raises(ConfigError, match="does not exist: create it first"):
        write_recipe(result, tmp_path / "no" / "r.toml")
    with pytest.raises(ConfigError, match="not a whole recipe"):
        write_recipe(import_options(OPTIONS / "scores.yml"), tmp_path / "s.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_folders_of_ground_truth_are_those_of_the_benchmark():
    assert GROUND_TRUTH == HR_FOLDERS


@pytest.mark.parametrize("kind", ["lists", "mappings", "itself", "size"])
def test_a_file_that_unfolds_without_end(tmp_path, kind):
    """Ten aliases of ten aliases of …: a few lines that stand for more values than fit into any memory."""
    lines = ["a0: &a0 [1, 2]"] if kind == "lists" else ["a0: &a0 {x: 1}"]
    for number in range(1, 30):
        if kind == "lists":
            lines.append(f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]")
        else:
            lines.append(f"a{number}: &a{number} {{{', '.join(f'k{one}: *a{number - 1}' for one in range(10))}}}")
    if kind == "itself":
        lines = ["a: &a", "  b: *a"]
    if kind == "size":
        lines = ["a: b"] * 300_000
    (tmp_path / "bomb.yml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"no option file|nested without end"):
        import_options(tmp_path / "bomb.yml")
