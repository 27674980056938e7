"""The options that `hat-sr upscale` and `hat-sr batch` have in common.

In a module that does not reach OpenImageIO: cyclopts keeps the class to the end, and OpenImageIO would complain then.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from hat_sr.inference.device import Precision
from hat_sr.model.zoo import AUTO


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What becomes of each picture, and of what an earlier run has done.

    Parameters
    ----------
    scale
        Factor, at least 1, whole or not: 2, 2x, 1.5. Default: the model's, 4 if none is named.
    size
        Size of the result in pixels instead: WxH (exactly, stretched if need be), Wx or xH; not smaller than the image.
    model
        A bundled name (see hat-sr models), a file of weights, .safetensors or .pth, hf://OWNER/REPO for one on the
        Hugging Face Hub, of HAT or with the extra baselines of another network, an exported HAT, .onnx or .xml, or
        bicubic. auto is the bundled one that suits scale or size, and for noisy pictures, JPEG and other files
        compressed with loss the one for photos.
    tile
        Run the image whole if it fits into memory (auto), always (off), or in tiles of at most so many pixels a side,
        which changes the result a little.
    memory
        How much to plan with, such as 4GiB: the image runs whole in bands of rows that fit, else in tiles. If picture
        and result are too large even for that, they stay on disk: strip by strip, and the same call goes on where it
        was stopped. Default: a share of what is free.
    precision
        auto is what is fastest: fp16 on CUDA, bf16 on a CPU with AVX512-BF16 or AMX, else fp32. The picture itself is
        kept in fp32 always. In another runtime auto is fp32; openvino has bf16, too, for all of the network.
    device
        auto, cpu, cuda, cuda:1, mps, xpu.
    self_ensemble
        Mean over the eight flips and turns: a little better, eight times slower.
    format
        jpg, png, tif, webp, bmp or exr. Default: the input's, png where such files are not written.
    quality
        1 to 100, of JPEG (default 95) and WebP (default lossless).
    keep_dpi
        Leave the resolution in print as it is in the file, so that results print larger. Default: it is multiplied by
        the scale, and they print at the same size.
    overwrite
        Replace results that are already there.
    skip_existing
        Leave out inputs whose results are already there, whatever made them.
    retry_failed
        Try again, too, what failed before though the file is the same.
    """

    scale: str | None = None
    size: str | None = None
    model: Annotated[str, Parameter(alias="-m")] = AUTO
    tile: Literal["auto", "off"] | int = "auto"
    memory: str | None = None
    precision: Precision = "auto"
    device: str = "auto"
    self_ensemble: Annotated[bool, Parameter(negative="")] = False
    format: str | None = None
    quality: Annotated[int | None, Parameter(validator=Number(gte=1, lte=100))] = None
    keep_dpi: Annotated[bool, Parameter(negative="")] = False
    overwrite: Annotated[bool, Parameter(negative="")] = False
    skip_existing: Annotated[bool, Parameter(negative="")] = False
    retry_failed: Annotated[bool, Parameter(negative="")] = False
