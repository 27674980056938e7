"""What the C library keeps; each in a process of its own, which cannot be set back."""

import os
import platform
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")


def _told(code, **environment):
    code = f"from hat_sr.allocator import keep_freed_memory\n{code}"
    command = [sys.executable, "-c", code]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    return subprocess.run(command, check=True, env=kept | environment, stdout=subprocess.PIPE, text=True).stdout


@glibc
def test_freed_memory_is_used_again():
    faults = _told("""
import resource
assert keep_freed_memory()
def fill():
    pieces = [bytearray(24 * 2**20) for _ in range(2)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
first = fill()
print(fill() - first)
""")
    assert int(faults) < 2000  # of 2 · 6144 pages


@glibc
@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072")]
)
def test_what_the_environment_says_stands(name, value):
    assert _told("print(keep_freed_memory())", **{name: value}) == "False\n"


def test_another_c_library():
    code = """
import ctypes
ctypes.CDLL = lambda name: object()
print(keep_freed_memory())
"""
    assert _told(code) == "False\n"
