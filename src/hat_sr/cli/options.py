"""The options of `hat-sr upscale`.

In a module that does not reach OpenImageIO: cyclopts keeps the class to the end, and OpenImageIO would complain then.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from hat_sr.checkpoints.named import AUTO
from hat_sr.inference.device import Precision, RuntimeName


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Who does the work.

    Parameters
    ----------
    engine
        local: one file after the other, in this process. ray: by workers on a Ray cluster.
    address
        Of the cluster: auto for the one this machine belongs to, HOST:PORT, ray://HOST:10001. Default: one on this
        machine, for as long as the command runs.
    workers
        How many there are, each with a network of its own.
    cpus
        Cores of each worker.
    gpus
        Of each worker; parts such as 0.5 are shared.
    """

    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    workers: Annotated[int, Parameter(validator=Number(gte=1))] = 1
    cpus: Annotated[float, Parameter(validator=Number(gt=0))] = 1.0
    gpus: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """How pictures are enlarged, and what happens to existing results.

    Parameters
    ----------
    scale
        Factor of at least 1, such as 2, 2x or 1.5. Default: the model's, or 4 without --model.
    size
        Size of the result in pixels, instead of --scale: WxH (exact, stretched if the proportions differ), Wx or xH;
        not smaller than the image.
    model
        A bundled name (see hat-sr models), a file of weights (.safetensors or .pth), hf://OWNER/REPO on the Hugging
        Face Hub, an exported HAT (.onnx or .xml), or bicubic. Weights are HAT's, or with the extra baselines another
        network's. auto is the bundled network for photos if the picture is noisy or compressed with loss (JPEG), else
        the bundled one for the factor.
    tile
        auto: the image runs whole if it fits into memory, else in tiles. off: always whole. A number: tiles of at most
        so many pixels a side. Tiles change the result a little.
    memory
        Memory to plan with, such as 4GiB. An image runs whole, in bands of rows that fit, else in tiles. If picture and
        result do not fit either, they are made on disk, strip by strip; stopped, the same call goes on. Default: a
        share of the free memory.
    precision
        auto is fp16 on CUDA, bf16 on a CPU with AVX512-BF16 or AMX, else fp32. First and last layers are in fp32 in any
        case. In other runtimes auto is fp32; openvino also has bf16, for the whole network.
    device
        auto, cpu, cuda, cuda:1, mps, xpu.
    runtime
        torch, or a runtime on the CPU, for which weights are exported at each call (hat-sr export does it once). auto
        is torch, or for an exported file its own runtime.
    self_ensemble
        Mean over the eight flips and turns: a little better, eight times slower.
    format
        jpg, png, tif, webp, bmp or exr. Default: the input's, png where such files are not written.
    quality
        1 to 100, of JPEG (default 95) and WebP (default lossless).
    keep_dpi
        Keep the resolution in print (dpi) of the file, so that results print larger. Default: it is multiplied by the
        scale, so that results print at the same size.
    overwrite
        Replace results that are already there.
    skip_existing
        Leave out inputs whose results exist, whatever made them.
    retry_failed
        Also try files again that failed before and have not changed since.
    """

    scale: str | None = None
    size: str | None = None
    model: Annotated[str, Parameter(alias="-m")] = AUTO
    tile: Literal["auto", "off"] | int = "auto"
    memory: str | None = None
    precision: Precision = "auto"
    device: str = "auto"
    runtime: RuntimeName = "auto"
    self_ensemble: Annotated[bool, Parameter(negative="")] = False
    format: str | None = None
    quality: Annotated[int | None, Parameter(validator=Number(gte=1, lte=100))] = None
    keep_dpi: Annotated[bool, Parameter(negative="")] = False
    overwrite: Annotated[bool, Parameter(negative="")] = False
    skip_existing: Annotated[bool, Parameter(negative="")] = False
    retry_failed: Annotated[bool, Parameter(negative="")] = False
