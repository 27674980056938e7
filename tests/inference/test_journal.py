import json

import pytest

from hat_sr.errors import ImageError
from hat_sr.inference.journal import Journal, discard, read_journal, unfinished_folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "a.tif"


def test_lines_are_kept(output):
    with Journal(output) as journal:
        journal.add({"job": {"input": "grün"}})
        journal.add({"strip": 1})
    assert read_journal(unfinished_folder(output)) == [{"job": {"input": "grün"}}, {"strip": 1}]
    assert unfinished_folder(output).name.startswith(".")


def test_half_a_line_counts_for_nothing_and_is_cut_off(output):
    with Journal(output) as journal:
        journal.add({"strip": 1})
    path = unfinished_folder(output) / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'{"strip": 2')
    assert read_journal(unfinished_folder(output)) == [{"strip": 1}]
    with Journal(output) as journal:
        journal.add({"strip": 2})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"strip": 1}, {"strip": 2}]


def test_what_was_never_begun(output):
    assert read_journal(unfinished_folder(output)) == []
    assert not discard(output)
    assert list(output.parent.iterdir()) == []


def test_one_at_a_time(output):
    with Journal(output):
        with pytest.raises(ImageError, match=r"a\.tif: another process is making it"):
            Journal(output)
        with pytest.raises(ImageError, match="another process"):
            discard(output)
    with Journal(output):
        pass


def test_clearing_and_removing(output):
    with Journal(output) as journal:
        journal.add({"strip": 1})
        (journal.folder / "data").write_bytes(b"x")
        journal.clear()
        assert [path.name for path in journal.folder.iterdir()] == ["lock"]
        journal.add({"strip": 1})
        journal.remove()
    assert list(output.parent.iterdir()) == []


def test_discarding(output):
    with Journal(output) as journal:
        journal.add({"strip": 1})
    assert discard(output)
    assert list(output.parent.iterdir()) == []


def test_the_longest_name_there_can_be(tmp_path):
    output = tmp_path / ("ü" * 125 + ".png")
    output.write_bytes(b"")
    assert not discard(output)
    with Journal(output) as journal:
        journal.add({"strip": 1})
    assert read_journal(unfinished_folder(output)) == [{"strip": 1}]
