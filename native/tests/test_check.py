"""What keeps hat-sr from calling a package of another interface, or a library of other sources."""

import ctypes

import hat_sr_native
import pytest

from hat_sr.model import native


def test_both_sides_have_the_same_interface():
    hat_sr_native.check(native.INTERFACE)
    assert native._installed() is hat_sr_native


def test_another_interface_is_refused():
    with pytest.raises(ImportError, match=f"its interface is {hat_sr_native.INTERFACE}, and 0 is needed"):
        hat_sr_native.check(0)


@pytest.mark.parametrize("level", hat_sr_native.levels())
@pytest.mark.parametrize("name", hat_sr_native._STRUCTURES)
def test_a_structure_of_another_size_is_refused(monkeypatch, level, name):
    class Larger(ctypes.Structure):
        _fields_ = (("all", hat_sr_native._STRUCTURES[name]), ("more", ctypes.c_int64))

    monkeypatch.setitem(hat_sr_native._STRUCTURES, name, Larger)
    with pytest.raises(
        ImportError, match=rf"{level}\.so has a structure {name} of \d+ bytes, not {ctypes.sizeof(Larger)}"
    ):
        hat_sr_native._library.__wrapped__(level)
