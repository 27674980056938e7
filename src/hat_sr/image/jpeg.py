"""What a JPEG file makes of a picture, for training and scoring on what people have."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import torch
from torch import Tensor

from hat_sr.errors import ImageError, InputError
from hat_sr.files import temporary

Subsampling = Literal["4:4:4", "4:2:0"]
"""Colour as fine as brightness, or at half of its width and height, as cameras and most programs write it."""

_ROOM_BESIDE = 1 << 16
"""Bytes that a file may take beyond its pixels'."""

_MEMORY = Path("/dev/shm")
"""Linux keeps files there in memory: on a disk, deleting one takes longer than JPEG does for a patch."""

_MOST_IN_MEMORY = 1 << 24
"""Bytes that a file there may take: containers often have 64 MiB for all."""


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
    room = 2 * image_CHW.numel() + _ROOM_BESIDE
    try:
        with temporary(".jpg", folder=_MEMORY if _is_room_in_memory(room) else None) as path:
            if shutil.disk_usage(path).free < room:  # libjpeg would end the process
                raise ImageError(f"{path}: no room there: set TMPDIR to a folder with some")
            return _written_and_read(path, spec, image_CHW)
    except OSError as error:
        folder = tempfile.gettempdir()
        raise ImageError(f"{folder}: {error.strerror}: set TMPDIR to a folder that can be written to") from error


def _is_room_in_memory(room: int) -> bool:
    """Four times as much, since other processes write there meanwhile."""
    if room > _MOST_IN_MEMORY or not os.access(_MEMORY, os.W_OK):
        return False
    return shutil.disk_usage(_MEMORY).free > 4 * room


def _written_and_read(path: Path, spec: oiio.ImageSpec, image_CHW: Tensor) -> Tensor:
    output = oiio.ImageOutput.create(str(path))
    pixels = np.ascontiguousarray(image_CHW.permute(1, 2, 0).numpy())
    if output is None or not (output.open(str(path), spec) and output.write_image(pixels) and output.close()):
        raise ImageError(f"{path}: cannot be written ({oiio.geterror() if output is None else output.geterror()})")
    opened = oiio.ImageInput.open(str(path))
    decoded = None if opened is None else opened.read_image(oiio.UINT8)
    if opened is None or decoded is None:
        raise ImageError(f"{path}: cannot be read again ({oiio.geterror() if opened is None else opened.geterror()})")
    opened.close()
    return torch.from_numpy(np.asarray(decoded)).permute(2, 0, 1)
