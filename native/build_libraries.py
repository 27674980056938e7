"""Compiles the kernels with the C compiler of this machine while the wheel is built (a hook of hatchling).

One library for each kind of processor that the compiler knows; which to use is found out when the package is loaded, so
that an installation which several machines share fits each of them.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-shared"]

LEVELS = {
    "portable": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512bw", "-mavx512vl", "-mfma"],
    "avx512bf16": ["-mavx512bw", "-mavx512vl", "-mavx512bf16", "-mfma"],
}
"""As in src/hat_sr_native/cpu.c; all but the first are for x86-64."""


class CustomBuildHook(BuildHookInterface):
    """The name is hatchling's."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have the libraries and the platform in the wheel."""
        source = Path(self.root) / "src" / "hat_sr_native"
        self.built = tempfile.TemporaryDirectory()
        levels = LEVELS if platform.machine().lower() in ("x86_64", "amd64") else {"portable": []}
        for level, flags in levels.items():
            library = Path(self.built.name) / f"{level}.so"
            command = [*_compiler(), *FLAGS, *flags, *map(str, sorted(source.glob("*.c"))), "-lm"]
            made = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True)
            if made.returncode == 0:
                build_data["force_include"][str(library)] = f"hat_sr_native/{level}.so"
            elif not flags:
                sys.exit(f"hat-sr-native could not be compiled. {' '.join(command)} said:\n{made.stderr}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what is in the wheel now."""
        self.built.cleanup()


def _compiler() -> list[str]:
    commands = [os.environ["CC"].split()] if "CC" in os.environ else [["cc"], ["gcc"], ["clang"]]
    for command in commands:
        if shutil.which(command[0]):
            return command
    sys.exit(
        "hat-sr-native is compiled where it is installed, and there is no C compiler "
        f"({' or '.join(command[0] for command in commands)}): install GCC or Clang, or name one in CC. "
        "hat-sr does without it, more slowly."
    )
