"""What the C library keeps; each in a process of its own, which cannot be set back."""

import os
import platform
import subprocess
import sys

import pytest

from cli.running import run

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")


def _told(code, **environment):
    code = f"from hat_sr.allocator import keep_freed_memory\n{code}"
    command = [sys.executable, "-c", code]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    return subprocess.run(command, check=True, env=kept | environment, stdout=subprocess.PIPE, text=True).stdout


def _faults(asked, *, pieces):
    """How often the system gave a page of memory when 24 MiB were taken so many times, as they had been before."""
    return int(
        _told(f"""
import resource
assert {asked}
def fill():
    pieces = [bytearray(24 * 2**20) for _ in range({pieces})]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
first = fill()
print(fill() - first)
""")
    )


@glibc
def test_freed_memory_is_used_again():
    assert _faults("keep_freed_memory()", pieces=2) < 2000  # of 2 · 6144 pages


@glibc
def test_all_of_it_if_asked():
    assert _faults("keep_freed_memory(everything=True)", pieces=20) < 2000  # of 20 · 6144
    assert _faults("keep_freed_memory() and keep_freed_memory(everything=True)", pieces=20) < 2000
    assert _faults("keep_freed_memory(everything=True) and keep_freed_memory()", pieces=20) > 100_000  # but for 64 MiB


@pytest.mark.parametrize(
    "words", [("train", "none.toml"), ("experiment", "none.toml", "--data", "none", "--benchmarks", "none")]
)
def test_commands_that_train_ask_for_it(monkeypatch, words):
    asked = []
    monkeypatch.setattr(f"hat_sr.cli.{words[0]}.keep_freed_memory", lambda **settings: asked.append(settings))
    assert run(monkeypatch, *words) == 2  # there is no such file
    assert asked == [{"everything": True}]


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
