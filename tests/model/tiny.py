"""A network small enough for tests, with parameters at which every part of it matters."""

from goldens.formula import parameters
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT

TINY = {
    "upscale": 2,
    "embed_dim": 12,
    "depths": (2,),
    "num_heads": (2,),
    "window_size": 4,
    "compress_ratio": 3,
    "squeeze_factor": 4,
    "num_feat": 8,
}


def tiny_model(**changes):
    """In float32 and eval mode; `changes` are settings other than TINY's."""
    model = HAT(HATConfig(**{**TINY, **changes})).eval()
    model.load_state_dict(parameters({key: tuple(value.shape) for key, value in model.state_dict().items()}))
    return model
