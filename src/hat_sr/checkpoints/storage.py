"""Files of tensors: told apart by their content, read without running code, written whole or not at all.

Nothing that a file says of its sizes is believed: what is read is never larger than the file.
"""

import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch
from safetensors import safe_open
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
    b"<?xml": "an XML file, such as OpenVINO's: name it with its ending .xml if it is one that hat-sr exported",
    b"<": "a web page: the download gave the page instead of the file (download it in a browser)",
    b"{": "a JSON file, such as the config.json beside weights",
    b"\x1f\x8b": "a gzip archive: unpack it and name the file of weights in it",
    b"7z\xbc\xaf": "a 7z archive: unpack it and name the file of weights in it",
    b"Rar!": "a RAR archive: unpack it and name the file of weights in it",
    b"\x89HDF": "an HDF5 file (Keras)",
    b"7767517": "a network of ncnn, which keeps no training framework's weights",
    b"\x08": "an ONNX file, perhaps: name it with its ending .onnx if it is one that hat-sr exported",
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
    try:
        with path.open("rb") as file:
            beginning = file.read(64)
    except OSError as error:
        raise WeightsError(f"it cannot be read ({error.strerror})") from error
    if not beginning:
        raise WeightsError("it is empty: download or copy it again")
    if beginning[8:9] == b"{":
        return _read_safetensors(path)
    if beginning.startswith(b"PK"):
        _check_archive(path)
        return _read_pickle(path), {}
    if beginning.startswith(b"\x80"):
        _check_pickle(path.read_bytes())
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
        save_pickle(content, file)


def save_pickle(content: object, file: IO[bytes]) -> None:
    """torch.save, but what the system says against writing, that the disk is full, comes as its OSError."""
    try:
        torch.save(content, file)
    except RuntimeError as error:  # "unexpected pos 768 vs 662": torch's own error covers it
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise WeightsError(f"the folder {path.parent} does not exist: create it first")


def _read_safetensors(path: Path) -> tuple[object, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except Exception as error:  # a header can be wrong in any way at all
        reason = _one_line(error)
        raise WeightsError(
            f"it is a safetensors file cut short or damaged: download or copy it again ({reason})"
        ) from error


def _check_archive(path: Path) -> None:
    """Tell apart what torch.save wrote from the other files that are ZIP archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise WeightsError(
                    "its parts are compressed, which those of torch.save are not: load and save it again"
                )
            pickles = [archive.read(entry) for entry in entries if entry.filename.endswith("/data.pkl")]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, OSError, EOFError) as error:
        raise WeightsError(
            f"it is a .pth file cut short or damaged: download or copy it again ({_one_line(error)})"
        ) from error
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise WeightsError("it is a TorchScript program, not weights: use the file that it was made from")
    if "data.pkl" not in names:
        raise WeightsError("it is a ZIP archive, but not of torch.save: unpack it and name the file of weights in it")
    for content in pickles:
        _check_pickle(content)


def _check_pickle(content: bytes) -> None:
    """Raise WeightsError for a pickle that makes zeros of any number, which torch allows and no weights need."""
    if b"bytearray" in content:
        raise WeightsError("it holds more than tensors (a bytearray): save the network's state_dict() alone")


def _read_pickle(path: Path) -> object:
    try:
        with path.open("rb") as file:  # by its name torch would take a pickle for safetensors
            content: object = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            "it is damaged, or a pickle that needs more than tensors and would run code when opened, which hat-sr does "
            f"not do ({_reason(error)}): where you trust it, load it with the program that wrote it and save the "
            "network's state_dict() alone"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way at all
        reason = _one_line(error)
        raise WeightsError(f"it is a .pth file cut short or damaged: download or copy it again ({reason})") from error
    return content


def _reason(error: pickle.UnpicklingError) -> str:
    """The line of torch's long message that says what was refused."""
    lines = str(error).splitlines() or ["no reason given"]
    return next((line.strip() for line in lines if "WeightsUnpickler error" in line), lines[0]).strip()


def _one_line(error: Exception) -> str:
    """The first line of a message; the name of the error where it has none."""
    return next(iter(str(error).splitlines()), "").strip() or type(error).__name__
