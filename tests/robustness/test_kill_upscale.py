"""The short form of kill_upscale.py."""

from robustness.kill_upscale import compare


def test_a_killed_enlargement_ends_as_if_nothing_had_happened(tmp_path):
    killed, good = compare(tmp_path, kills=2, seed=1)
    assert len(killed) == 2
    assert 0 < killed[0] < killed[1]
    assert good
