import pytest

from hat_sr.cli.parsing import parse_bytes, parse_names
from hat_sr.errors import InputError


def test_sizes():
    sizes = {"4GiB": 2**32, "1.5 MiB": 1572864, "1000": 1000, "500MB": 500_000_000, "1.5 gb": 1_500_000_000, "2K": 2000}
    assert {text: parse_bytes(text) for text in sizes} == sizes
    for text in ("", "MB", "-1", "5 potatoes"):
        with pytest.raises(InputError, match="is no size"):
            parse_bytes(text)


def test_names_between_commas(tmp_path):
    (tmp_path / "a,b.pth").touch()
    file = str(tmp_path / "a,b.pth")
    assert parse_names(["x, y,,x", file]) == ["x", "y", file]
