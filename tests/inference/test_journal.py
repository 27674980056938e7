import json

import pytest

from hat_sr.errors import ImageError
from hat_sr.image.spool import Facts
from hat_sr.inference.journal import Begun, Journal, discard, read_begun, read_journal, unfinished_folder
from hat_sr.inference.upscaler import ImagePlan


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


FACTS = Facts(channels=3, dtype="uint8", num_visible=4, num_hidden=0, peak=1.0, num_negative=0)
BEGUN = Begun(
    job={"input": "a.png"},
    facts=FACTS,
    plan=ImagePlan(tile_size=24, num_rows=4, num_columns=2, num_views=1, band_rows=8),
)


def strip(number, precision="bf16"):
    return {"strip": number, "precision": precision}


def test_the_last_strip_that_is_written_down_counts_whatever_was_damaged_before_it():
    first = BEGUN.line()
    assert read_begun([]) is None
    assert read_begun([first]) == BEGUN
    begun = read_begun([first, None, {"strip": "two"}, strip(2, "fp7"), strip(3), None])
    assert (begun.num_finished, begun.precision) == (3, "bf16")


@pytest.mark.parametrize(
    "first",
    [
        None,
        strip(1),
        {"job": {}, "facts": {}, "plan": {}},
        {**BEGUN.line(), "facts": {}},
        {**BEGUN.line(), "plan": None},
        {**BEGUN.line(), "job": {"input": "b.png"}},
        {**BEGUN.line(), "digest": 5},
    ],
)
def test_a_first_line_that_is_not_as_it_was_written(first):
    assert read_begun([first, strip(1)]) is None


def test_a_first_line_of_another_version(output):
    class Older(Begun):
        def line(self):
            from hat_sr.inference.journal import _digest

            parts = {"job": {}, "facts": {"colours": 3}, "plan": {}}
            return {**parts, "digest": _digest(*parts.values())}

    assert read_begun([Older(job={}, facts=FACTS, plan=BEGUN.plan).line()]) is None
