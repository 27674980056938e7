import pytest

from hat_sr.cli.sizes import parse_bytes
from hat_sr.errors import InputError


def test_sizes():
    sizes = {"4GiB": 2**32, "1.5 MiB": 1572864, "1000": 1000, "500MB": 500_000_000, "1.5 gb": 1_500_000_000, "2K": 2000}
    assert {text: parse_bytes(text) for text in sizes} == sizes
    for text in ("", "MB", "-1", "5 potatoes"):
        with pytest.raises(InputError, match="is no size"):
            parse_bytes(text)
