"""The short form of mutate_files.py, with its own checks seen to fail."""

import random

from robustness.mutate_files import mutated, mutations, tally, with_checksums


def test_damaged_files_end_in_a_result_or_a_clear_error(tmp_path):
    found = tally(tmp_path, count=210, seed=1)
    assert found.results > 20
    assert found.errors > 100
    # Not the time: that is measured where nothing else runs.
    assert not found.unclear + found.died + found.large + found.half
    assert sum(found.sandboxed.values()) == 42
    assert found.sandboxed["picture"] > 3


def test_the_damage_is_damage_and_the_same_each_time(tmp_path):
    (tmp_path / "other").mkdir()
    files = mutations(tmp_path, count=48, seed=1)
    assert files == mutations(tmp_path / "other", count=48, seed=1)
    originals = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert len(originals) == 24
    assert sum(data != originals[name.partition("-")[2]] for name, data in files) >= 46
    png = originals["rgb.png"]
    assert with_checksums(png) == png
    assert with_checksums(png[:40] + b"x" + png[41:]) != png
    assert mutated(png, random.Random(0)) != mutated(png, random.Random(1))
