"""`hat-sr info` and `hat-sr models`."""

import dataclasses

from hat_sr.checkpoints.checkpoint import build_model
from hat_sr.checkpoints.named import PUBLISHED, WHERE_PUBLISHED, bundled_names, read_source
from hat_sr.checkpoints.wrappers import shown
from hat_sr.model.config import HATConfig
from hat_sr.model.cost import multiply_adds


def info(source: str, /) -> None:
    """Show what a file of weights holds: config, size, cost, where it comes from.

    Parameters
    ----------
    source
        A bundled name (see hat-sr models), a file, .safetensors or .pth, or hf://OWNER/REPO on the Hugging Face Hub.
    """
    checkpoint = read_source(source)
    build_model(checkpoint)  # a file whose tensors are not the config's is refused, not described
    print(f"{checkpoint.path.name}: HAT ×{checkpoint.config.upscale}, {checkpoint.format} format")
    if checkpoint.format == "official":
        print("(config inferred from the tensors; conv_scale, img_range and mean are the published ones)")
    print(f"\nparameters     {checkpoint.num_parameters:,}")
    print(f"multiply-adds  {_multiply_adds(checkpoint.config)}\n")
    for field in dataclasses.fields(checkpoint.config):
        print(f"{field.name:22}{getattr(checkpoint.config, field.name)}")
    if checkpoint.provenance:
        print()
        for name, value in checkpoint.provenance.items():
            print(f"{shown(name):22}{shown(value, width=500)}")


def models() -> None:
    """List the networks in the package, and the published ones with where to find them."""
    print("In the package:")
    for name in bundled_names():
        checkpoint = read_source(name)
        title = f"; {checkpoint.provenance['title']}" if "title" in checkpoint.provenance else ""
        print(f"  {name:36}×{checkpoint.config.upscale}  {checkpoint.num_parameters / 1e6:.2f} M parameters{title}")
    print("\nPublished by HAT's authors (download, then give the path of the .pth file):")
    for model in PUBLISHED:
        config = model.config
        shape = f"embed_dim {config.embed_dim}, {len(config.depths)} groups of {config.depths[0]}"
        print(f"  {model.name:36}×{config.upscale}  {shape}; {model.training}")
    for place in WHERE_PUBLISHED:
        print(f"  at {place}")


def _multiply_adds(config: HATConfig) -> str:
    """Of a 64×64 input, or the next size that the windows fit into."""
    side = -(-64 // config.window_size) * config.window_size
    return f"{multiply_adds(config, side, side) / 1e9:.2f} G for a {side}×{side} input"
