import pytest

from hat_sr.degradation.config import PRESETS, DegradationConfig, PassConfig, expanded
from hat_sr.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"jpeg_quality": (95, 50)}, r"jpeg_quality \[95, 50\] must be two numbers from 1 to 100"),
        ({"jpeg_quality": (0, 50)}, "jpeg_quality"),
        ({"gaussian_sigma": (0.0, 300.0)}, "gaussian_sigma"),
        ({"sigma": (-1.0, 0.5)}, "sigma"),
        ({"blur": 1.5}, "blur 1.5 is a share"),
        ({"gaussian": 0.6, "poisson": 0.6}, "their sum is at most 1"),
        ({"kernels": (1.0, 0.25, 0.0, 0.0, 0.0, 0.0)}, "add up to 1"),
        ({"resize_factor": (1.1, 1.5)}, "must reach"),
        ({"kernel_size": (8, 20)}, "odd"),
        ({"of": "sr"}, "of 'sr'"),
        ({"resize_modes": ("lanczos",)}, "lanczos"),
    ],
)
def test_passes_that_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        PassConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"passes": ()}, "take a preset"),
        ({"clean": 0.7, "mild": 0.7}, "their sum"),
        ({"last_sinc": 2.0}, "last_sinc 2.0 is a share"),
        ({"last_modes": ()}, "last_modes"),
    ],
)
def test_degradations_that_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        DegradationConfig(**{"passes": PRESETS["real"].passes} | settings)


def test_presets_are_written_out_and_changed_by_other_keys():
    assert expanded("real") == expanded({"preset": "real"})
    assert expanded({"preset": "real", "mild": 0.3}) == {**expanded("real"), "mild": 0.3}
    assert expanded({"passes": [{}]}) == {"passes": [{}]}
    with pytest.raises(ConfigError, match="preset 'photo' is not one of real, mild"):
        expanded("photo")
