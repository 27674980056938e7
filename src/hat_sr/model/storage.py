"""Files of tensors: told apart by their content, read without running code, written whole or not at all."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hat_sr.errors import WeightsError
from hat_sr.files import replacing

_BEGINNINGS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"II*\x00": "a TIFF image",
    b"MM\x00*": "a TIFF image",
    b"BM": "a BMP image",
    b"RIFF": "a WebP image or other media",
    b"version https://git-lfs": "a Git LFS pointer, not the file it stands for (run git lfs pull)",
    b"<": "a web page: the download gave the page instead of the file (download it in a browser)",
}


def read_file(path: Path) -> tuple[object, dict[str, str]]:
    """What the file holds, on the CPU, and its metadata (safetensors only, else empty).

    Reads safetensors and what `torch.save` wrote, whatever the file's name. A pickle may hold nothing but tensors and
    plain containers. Raises WeightsError, without the path, for anything else.
    """
    if path.is_dir():
        raise WeightsError("it is a folder: name a file in it")
    if not path.is_file():
        raise WeightsError("there is no such file")
    with path.open("rb") as file:
        beginning = file.read(64)
    if not beginning:
        raise WeightsError("it is empty: download or copy it again")
    if beginning[8:9] == b"{":
        return _read_safetensors(path)
    if beginning.startswith(b"PK"):
        _check_archive(path)
        return _read_pickle(path), {}
    if beginning.startswith(b"\x80"):
        return _read_pickle(path), {}
    kind = next((kind for start, kind in _BEGINNINGS.items() if beginning.lstrip().startswith(start)), None)
    raise WeightsError(f"it is {kind or 'of an unknown kind'}: weights are a .safetensors file or a .pth of torch.save")


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write contiguous tensors and metadata; the same content gives the same bytes as long as metadata has one key."""
    _check_folder(path)
    content = save(dict(tensors), metadata)
    with replacing(path) as part:
        part.write_bytes(content)


def write_pickle(path: Path, content: Mapping[str, object]) -> None:
    """Write with torch.save."""
    _check_folder(path)
    with replacing(path) as part, part.open("wb") as file:
        torch.save(content, file)


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise WeightsError(f"the folder {path.parent} does not exist: create it first")


def _read_safetensors(path: Path) -> tuple[object, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"it is a safetensors file cut short or damaged: download or copy it again ({error})") from (
            error
        )


def _check_archive(path: Path) -> None:
    """Tell apart what torch.save wrote from the other files that are ZIP archives."""
    if not zipfile.is_zipfile(path):
        raise WeightsError("it is a .pth file cut short (its end is missing): download or copy it again")
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in names:
        raise WeightsError("it is a TorchScript program, not weights: use the file that it was made from")
    if "data.pkl" not in names:
        raise WeightsError("it is a ZIP archive, but not of torch.save: unpack it and name the file of weights in it")


def _read_pickle(path: Path) -> object:
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            "it is damaged, or a pickle that needs more than tensors and would run code when opened, which hat-sr does "
            f"not do ({_reason(error)}): where you trust it, load it with the program that wrote it and save the "
            "network's state_dict() alone"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way at all
        raise WeightsError(f"it is a .pth file cut short or damaged: download or copy it again ({error})") from error
    return content


def _reason(error: pickle.UnpicklingError) -> str:
    """The line of torch's long message that says what was refused."""
    lines = str(error).splitlines() or ["no reason given"]
    return next((line.strip() for line in lines if "WeightsUnpickler error" in line), lines[0]).strip()
