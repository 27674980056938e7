"""The short form of kill_folder.py."""

from robustness.kill_folder import compare


def test_a_killed_folder_ends_as_if_nothing_had_happened(tmp_path):
    found = compare(tmp_path, kills=1, seed=1, num_files=12)
    assert found.kills == 1
    assert found.results >= 12
    assert (found.wrong, found.twice) == (0, 0)
