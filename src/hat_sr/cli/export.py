"""`hat-sr export`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from hat_sr.checkpoints.checkpoint import build_model
from hat_sr.checkpoints.named import read_source
from hat_sr.cli.progress import status
from hat_sr.errors import ConfigError
from hat_sr.export import Stored, export_model


def export(
    model: str,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    precision: Stored = "fp32",
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a network as a file for ONNX Runtime or OpenVINO, and compare it with torch: kept if it agrees.

    Parameters
    ----------
    model
        A bundled name (see hat-sr models) or a file of weights, .safetensors or .pth.
    output
        The file: NAME.onnx, or NAME.xml for OpenVINO, which puts its weights into NAME.bin beside it.
    precision
        fp16 stores weights in half the size. An ONNX file then computes in fp16, too.
    overwrite
        Replace a file that is already there.
    """
    files = [output, output.with_suffix(".bin")] if output.suffix.lower() == ".xml" else [output]
    for file in files:
        if file.exists() and not overwrite:
            raise ConfigError(f"{file} is already there: use --overwrite or another --output")
    checkpoint = read_source(model)
    size = f"{checkpoint.num_parameters / 1e6:.2f} M parameters"
    with status(Console(stderr=True), f"exporting {model}, {size} (minutes for published sizes)"):
        difference = export_model(
            build_model(checkpoint), output, precision=precision, provenance=checkpoint.provenance
        )
    written = " and ".join(f"{file} ({file.stat().st_size / 1e6:.1f} MB)" for file in files)
    print(f"{written}: at most {difference:.1g} from torch")
