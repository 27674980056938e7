"""ONNX Runtime, on the CPU."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hat_sr.errors import WeightsError, require

_NO_LOG = 4
"""Errors are raised: they need not be printed, too."""


def load(source: Path | bytes, precision: str) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    """A network as a function, and the metadata of its file. It computes in what the file says; see `Session.run`.

    Raises WeightsError for what is no ONNX file, MissingExtraError.
    """
    onnxruntime = require("onnxruntime", extra="export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _NO_LOG
    # For images of many sizes: with it the second run of a size takes twice the memory of the first.
    options.enable_mem_pattern = False
    try:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base
        name = "these bytes" if isinstance(source, bytes) else source
        raise WeightsError(f"{name}: no network that ONNX Runtime can open ({error})") from error
    inputs = [one.name for one in session.get_inputs()]
    if len(inputs) != 1:
        raise WeightsError(
            f"{source if isinstance(source, Path) else 'it'}: it has {len(inputs)} inputs, not one image"
        )

    def run(x: Tensor) -> Tensor:
        try:
            (out,) = session.run(None, {inputs[0]: x.contiguous().numpy()})
            return torch.from_numpy(out)
        except Exception as error:
            raise RuntimeError(f"ONNX Runtime: {error}") from error

    return run, dict(session.get_modelmeta().custom_metadata_map)
