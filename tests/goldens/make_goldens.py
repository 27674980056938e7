"""Make goldens.safetensors: outputs of spandrel's HAT, an implementation independent of ours, for tiny networks.

Run in an environment of its own, from the repository's root:

    python3 -m venv ENV && ENV/bin/pip install torch==2.13.0 numpy safetensors einops typing_extensions
    ENV/bin/pip install --no-deps spandrel==0.4.2 torchvision
    OMP_NUM_THREADS=1 ENV/bin/python tests/goldens/make_goldens.py tests/goldens/goldens.safetensors

(spandrel imports torchvision for networks other than HAT. Where torchvision cannot be installed, an empty package of
that name with InterpolationMode, normalize and rotate in `transforms/functional.py` is enough.)

Parameters and inputs come from formula.py; stored are the outputs, and in the metadata each network's settings, the
input's shape and a hash of the parameters. The script refuses a network in which some part hardly matters: each kind
of parameter is set to zero in turn, and the output must move.
"""

import importlib.metadata
import json
import re
import sys
from pathlib import Path

import torch
from formula import digest, image, parameters
from safetensors.torch import save_file
from spandrel.architectures.HAT import HAT

TINY = {
    "in_chans": 3,
    "embed_dim": 12,
    "depths": [2],
    "num_heads": [2],
    "window_size": 8,
    "overlap_ratio": 0.5,
    "compress_ratio": 3,
    "squeeze_factor": 4,
    "mlp_ratio": 2.0,
    "num_feat": 8,
}

CASES: dict[str, tuple[dict[str, object], tuple[int, int, int, int]]] = {
    "x1": ({"upscale": 1}, (1, 3, 16, 24)),
    "x2": ({"upscale": 2, "depths": [3, 2], "num_heads": [2, 3]}, (2, 3, 8, 16)),
    "x3": ({"upscale": 3}, (1, 3, 16, 8)),
    "x4": ({"upscale": 4, "num_feat": 16}, (1, 3, 8, 16)),
    "x8": ({"upscale": 8}, (1, 3, 8, 8)),
    "gray-x2": ({"upscale": 2, "in_chans": 1}, (1, 1, 24, 16)),
    "many-channels": ({"upscale": 1, "in_chans": 7}, (1, 7, 16, 16)),
    "overlap-0.25": ({"upscale": 2, "overlap_ratio": 0.25}, (1, 3, 16, 16)),
    "window-16": ({"upscale": 2, "window_size": 16}, (1, 3, 32, 16)),
    "window-16-overlap-0.25": ({"upscale": 1, "window_size": 16, "overlap_ratio": 0.25}, (1, 3, 16, 32)),
    "mlp-4": ({"upscale": 1, "mlp_ratio": 4.0, "depths": [4]}, (1, 3, 16, 16)),
    "published-width": (
        {
            "upscale": 2,
            "embed_dim": 180,
            "num_heads": [6],
            "window_size": 16,
            "squeeze_factor": 30,
            "num_feat": 64,
        },
        (1, 3, 32, 32),
    ),
}

PARTS = (
    r"blocks\..*\.relative_position_bias_table",
    r"overlap_attn\.relative_position_bias_table",
    r"blocks\..*\.qkv\.weight",
    r"overlap_attn\.qkv\.weight",
    r"cab\.0\.weight",
    r"attention\.3\.weight",
    r"blocks\..*\.fc2\.weight",
    r"overlap_attn\.mlp\.fc2\.weight",
    r"layers\.\d\.conv\.weight",
    r"conv_after_body\.weight",
    r"patch_embed\.norm\.weight",
)


def run(settings: dict[str, object], state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The output of spandrel's HAT in float32."""
    network = HAT(**settings).eval()
    network.load_state_dict(state, strict=False)
    with torch.no_grad():
        return network(x)


def effect(part: str, settings: dict[str, object], state: dict[str, torch.Tensor], x: torch.Tensor) -> float:
    """How far the output moves, at most, when all parameters of one kind (a pattern of names) are 0."""
    without = {name: value * 0 if re.search(part, name) else value for name, value in state.items()}
    return (run(settings, without, x) - run(settings, state, x)).abs().max().item()


def main(path: Path) -> None:
    outputs, cases = {}, {}
    for name, (changes, shape) in CASES.items():
        settings = {**TINY, **changes}
        state = parameters({k: tuple(v.shape) for k, v in HAT(**settings).named_parameters()})
        x = image(shape)
        outputs[name] = run(settings, state, x)
        cases[name] = {"config": settings, "input": shape, "parameters": digest(state)}
        effects = {part: effect(part, settings, state, x) for part in PARTS}
        print(f"{name}: mean {outputs[name].mean():.3f}, std {outputs[name].std():.3f}")
        print("   ", ", ".join(f"{part} {size:.1e}" for part, size in effects.items()))
        if min(effects.values()) < 1e-3:
            raise SystemExit(f"{name}: a part hardly matters: {effects}")
    versions = {package: importlib.metadata.version(package) for package in ("spandrel", "torch")}
    save_file(outputs, path, metadata={"goldens": json.dumps({"made with": versions, "cases": cases}, sort_keys=True)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
