"""The short form of kill_training.py."""

from robustness.kill_training import compare


def test_a_killed_training_ends_as_if_nothing_had_happened(tmp_path):
    killed, same = compare(tmp_path, kills=1, steps=8, seed=1)
    assert len(killed) == 1
    assert same
