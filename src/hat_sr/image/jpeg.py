"""What a JPEG file makes of a picture, for training and scoring on what people have."""

import os
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import torch
from torch import Tensor

from hat_sr.errors import ImageError, InputError

Subsampling = Literal["4:4:4", "4:2:0"]
"""Colour as fine as brightness, or at half of its width and height, as cameras and most programs write it."""


def through_jpeg(image_CHW: Tensor, *, quality: int, subsampling: Subsampling = "4:2:0") -> Tensor:
    """The picture written as a JPEG file (libjpeg's `quality`, 1 to 100) and read again.

    image_CHW: (3, H, W) uint8 RGB. Returns the same shape and dtype. Raises InputError for another image or quality,
    ImageError if the file, in the folder for temporary ones, cannot be written.
    """
    if image_CHW.dtype != torch.uint8 or image_CHW.dim() != 3 or len(image_CHW) != 3 or image_CHW.numel() == 0:
        raise InputError(f"got {tuple(image_CHW.shape)} of {image_CHW.dtype}: (3, H, W) of uint8 is accepted")
    if not 1 <= quality <= 100:
        raise InputError(f"quality {quality}: 1 to 100 is accepted")
    height, width = image_CHW.shape[1:]
    spec = oiio.ImageSpec(width, height, 3, oiio.UINT8)
    spec.attribute("compression", f"jpeg:{quality}")
    spec.attribute("jpeg:subsampling", subsampling)
    # OpenImageIO writes and reads nothing but files from Python.
    handle, path = tempfile.mkstemp(prefix="hat-sr-", suffix=".jpg")
    os.close(handle)
    try:
        output = oiio.ImageOutput.create(path)
        pixels = np.ascontiguousarray(image_CHW.permute(1, 2, 0).numpy())
        if output is None or not (output.open(path, spec) and output.write_image(pixels) and output.close()):
            reason = oiio.geterror() if output is None else output.geterror()
            raise ImageError(f"{path}: cannot be written ({reason}): set TMPDIR to a folder with room")
        opened = oiio.ImageInput.open(path)
        if opened is None:
            raise ImageError(f"{path}: cannot be read again ({oiio.geterror()}): set TMPDIR to a folder with room")
        decoded = np.asarray(opened.read_image(oiio.UINT8))
        opened.close()
    finally:
        Path(path).unlink()
    return torch.from_numpy(decoded).permute(2, 0, 1)
