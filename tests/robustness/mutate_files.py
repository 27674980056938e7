"""Enlarge thousands of damaged files of every kind: each must end in a result or a clear error, soon, in little memory.

python tests/robustness/mutate_files.py --count 5000

The files are small pictures in every format that is read, with bytes flipped, cut, repeated, or numbers made large.
They go through what `hat-sr upscale` runs on each file, with bicubic interpolation in the network's place, in a process
that this one watches: if it dies, that is counted, and the next one goes on behind that file. Some go through the
child processes that read files for the server, too.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import PIL.Image

from hat_sr.errors import HatError, ImageError
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image
from hat_sr.inference.enlarge import Enlarger, Settings
from hat_sr.serve.exchange import take_picture
from hat_sr.serve.sandbox import BadFileError, Sandbox
from hat_sr.serve.settings import RefusedError, ServerSettings

EACH = 5
"""One file of so many goes through the server's child processes, too."""
SECONDS, GIGABYTES = 10, 1
"""What no small file may take."""


@dataclass
class Tally:
    """What became of the files. A reason stands for the many that are alike."""

    results: int = 0
    errors: int = 0
    unclear: list[str] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    large: list[str] = field(default_factory=list)
    half: list[str] = field(default_factory=list)
    seconds: float = 0.0
    gigabytes: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    sandboxed: Counter[str] = field(default_factory=Counter)
    """What became of those that went through the server's child processes, too."""

    @property
    def good(self) -> bool:
        """Whether every file ended as it must."""
        return not (self.unclear or self.died or self.slow or self.large or self.half)


def seeds(folder: Path) -> list[Path]:
    """A small picture in each kind of file that is read."""
    rng = np.random.default_rng(0)

    def noise(channels: int, dtype: str, size: int = 24) -> np.ndarray:
        values = rng.random((size, size + 7, channels))
        values[4:20, 4:20] = values[4, 4]  # something for run lengths and palettes
        return (values * np.iinfo(dtype).max).astype(dtype) if dtype.startswith("u") else values.astype(dtype)

    paths = []
    for name, channels, dtype in (
        *(("rgb.jpg", 3, "uint8"), ("gray.jpg", 1, "uint8")),
        *(("rgb.png", 3, "uint8"), ("deep.png", 4, "uint16"), ("gray.png", 1, "uint8")),
        *(("rgb.tif", 3, "uint8"), ("deep.tif", 4, "uint16"), ("float.tif", 1, "float32")),
        *(("rgb.webp", 3, "uint8"), ("alpha.webp", 4, "uint8"), ("rgb.bmp", 3, "uint8")),
        *(("half.exr", 3, "float16"), ("alpha.exr", 4, "float32")),
    ):
        write_image(folder / name, Image(noise(channels, dtype), linear=not dtype.startswith("u")))
        paths.append(folder / name)
    for name, channels, attributes in (
        ("lossy.webp", 3, {"compression": "webp:80"}),
        ("palette.gif", 3, {}),
        ("gray.bmp", 1, {}),
        ("tiles.exr", 4, {"tile": 16}),
        ("tiles.tif", 3, {"tile": 16, "compression": "lzw"}),
        ("jpeg.tif", 3, {"compression": "jpeg"}),
        ("rgb.tga", 3, {"compression": "rle"}),
        ("rgb.ppm", 3, {}),
        ("gray.pgm", 1, {}),
        ("rgb.pnm", 3, {}),
    ):
        pixels = noise(channels, "uint8")
        spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], channels, oiio.UINT8)
        spec.attribute("DateTime", "")  # else EXR and TIFF files take the time of writing, and no two are the same
        for key, value in attributes.items():
            spec.attribute(key, value)
        if "tile" in attributes:
            spec.tile_width = spec.tile_height = attributes["tile"]
        output = oiio.ImageOutput.create(name)
        if not (output.open(str(folder / name), spec) and output.write_image(pixels) and output.close()):
            raise RuntimeError(f"{name}: {output.geterror()}")
        read_image(folder / name)
        paths.append(folder / name)
    PIL.Image.fromarray(noise(3, "uint8")).save(folder / "rgb.jp2")  # which OpenImageIO only reads
    read_image(folder / "rgb.jp2")
    return [*paths, folder / "rgb.jp2"]


def mutated(data: bytes, generator: random.Random) -> bytes:
    """The file, damaged in one to four of seven ways."""
    data = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        if len(data) < 8:
            break
        # Half of the damage is done to the first bytes, where sizes and kinds are written.
        at = generator.randrange(min(len(data), 200) if generator.random() < 0.5 else len(data))
        match generator.randrange(7):
            case 0:
                data[at] ^= 1 << generator.randrange(8)
            case 1:
                data[at] = generator.randrange(256)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + generator.randint(1, 64)]
            case 4:
                data[at:at] = data[at : at + generator.randint(1, 64)]
            case 5:
                data[at : at + 4] = generator.choice(
                    (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\0\0")
                )
            case 6:
                data[at : at + 32] = generator.randbytes(32)
    return with_checksums(bytes(data)) if generator.random() < 0.5 else bytes(data)


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold, so that damage goes deeper; other files as they are."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    fixed, at = bytearray(data), 8
    while at + 12 <= len(fixed):
        end = at + 8 + int.from_bytes(fixed[at : at + 4], "big")
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(fixed)


def mutations(folder: Path, *, count: int, seed: int) -> list[tuple[str, bytes]]:
    """Damaged files under new names: the same for the same seed."""
    generator, originals = random.Random(seed), [(path.name, path.read_bytes()) for path in seeds(folder)]
    files = []
    for number in range(count):
        name, data = originals[number % len(originals)]
        files.append((f"{number:05}-{name}", mutated(data, generator)))
    return files


def work(folder: Path) -> None:
    """Enlarge the files whose names come in, a line each; print before and after each what happens."""
    enlarger = Enlarger(Settings(model="bicubic", scale=2), say=lambda sentence: None)
    for name in map(str.strip, sys.stdin):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        since, output = time.monotonic(), folder / "out" / f"{name}.png"
        try:
            enlarger.enlarge(folder / name, output)
            outcome, text = "result", ""
        except HatError as error:
            outcome, text = "error", str(error)
        except Exception as error:
            outcome, text = "unclear", f"{type(error).__name__}: {error}"
        (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        line = {"outcome": outcome, "text": text, "seconds": time.monotonic() - since, "kilobytes": peak.split()[1]}
        print(json.dumps(line), flush=True)


class Watched:
    """`work` in another process, started again when it dies or takes too long."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None

    def run(self, name: str) -> dict[str, str] | None:
        """What became of a file; None if the process died of it."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--work", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        print(name, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.communicate()


def tally(folder: Path, *, count: int, seed: int) -> Tally:
    """Damage files, enlarge them, count."""
    found, watched, sandbox = Tally(), Watched(folder), Sandbox(seconds=SECONDS)
    template = sandbox._process
    for name in ("out", "sandbox"):
        (folder / name).mkdir()
    for number, (name, data) in enumerate(mutations(folder, count=count, seed=seed)):
        path, output = folder / name, folder / "out" / f"{name}.png"
        path.write_bytes(data)
        if number % EACH == 0:
            in_sandbox(sandbox, path, folder / "sandbox", found)
        line = watched.run(name)
        if line is None:
            found.died.append(f"{name}: {watched.process.wait()}")
        else:
            seconds, gigabytes = line["seconds"], int(line["kilobytes"]) / 2**20
            found.seconds, found.gigabytes = max(found.seconds, seconds), max(found.gigabytes, gigabytes)
            found.slow += [f"{name}: {seconds:.1f} s"] * (seconds > SECONDS)
            found.large += [f"{name}: {gigabytes:.2f} GB"] * (gigabytes > GIGABYTES)
            found.kinds[f"{name.partition('.')[2]} {line['outcome']}"] += 1
            if line["outcome"] == "result":
                found.results += 1
                found.half += [] if _is_whole(output) else [name]
            elif line["outcome"] == "error":
                found.errors += 1
                found.half += [name] if output.exists() else []
                found.unclear += [] if name in line["text"] else [f"{name}: {line['text']}"]
            else:
                found.unclear.append(f"{name}: {line['text']}")
        if line is not None and line["outcome"] != "unclear":
            path.unlink()
        output.unlink(missing_ok=True)
    watched.close()
    if sandbox._process is not template:
        found.died.append("the process that reads files for the server")
    sandbox.close()
    found.half += [path.name for path in (folder / "out").iterdir()]
    return found


def in_sandbox(sandbox: Sandbox, path: Path, folder: Path, found: Tally) -> None:
    """Read a file as the server does."""
    try:
        header = sandbox.look(path)
        num_pixels = header["height"] * header["width"]
        if num_pixels > ServerSettings.max_pixels:
            found.sandboxed["too many pixels by the header"] += 1
            return
        sandbox.read(path, folder, num_pixels=num_pixels)
        take_picture(folder, size=(header["height"], header["width"]))
        found.sandboxed["picture"] += 1
    except RefusedError as error:
        found.slow.append(f"{path.name} in a child process: {error}")
    except (BadFileError, ImageError) as error:
        found.sandboxed["crashed or too much memory" if "crashed" in str(error) else "error"] += 1
        if str(path.parent) in str(error):
            found.unclear.append(f"{path.name} in a child process: {error}")


def _is_whole(path: Path) -> bool:
    try:
        read_image(path)
    except HatError:
        return False
    return True


def main() -> None:
    """Print the counts; exit 1 if a file ended as none may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the files, where those that were trouble stay")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.work)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        found = tally(folder, count=options.count, seed=options.seed)
    print(f"{options.count} damaged files: {found.results} results, {found.errors} errors that name the file")
    print(f"slowest {found.seconds:.1f} s, most memory of the process {found.gigabytes:.2f} GB")
    for kind, number in sorted(found.kinds.items()):
        print(f"  {kind}: {number}")
    print(f"one in {EACH} through the server's child processes, too: {dict(found.sandboxed)}")
    for title in ("unclear", "died", "slow", "large", "half"):
        for line in getattr(found, title):
            print(f"{title}: {line}")
    sys.exit(not found.good)


if __name__ == "__main__":
    main()
