import pytest

from hat_sr.batch.ledger import NAME, FileLines, Ledger, Outcome, Planned, attempt, stamp
from hat_sr.errors import ImageError, OutputError
from hat_sr.inference.lines import read_lines

SETTINGS = {"network": "abc", "scale": "4"}


def planned(name="a.png", stamp="1 bytes", before=None):
    return Planned(result=name, input=name, stamp=stamp, before=before)


def opened(folder, settings=SETTINGS):
    return Ledger(FileLines(folder), settings)


def run(folder, *outcomes, plans=None, end=True, settings=SETTINGS):
    """A run of which nothing else is planned, if nothing is said."""
    with opened(folder, settings) as ledger:
        ledger.begin(plans or [planned(one.result, one.stamp) for one in outcomes])
        for one in outcomes:
            ledger.add(one)
        if end:
            ledger.end()


DONE = Outcome(result="a.png", stamp="1 bytes")
FAILED = Outcome(result="a.png", stamp="1 bytes", reason="a.png: damaged")
NO_ROOM = Outcome(result="a.png", stamp="1 bytes", reason="a.png: no room", again=True)


@pytest.mark.parametrize(
    ("outcome", "now", "options", "verdict"),
    [
        (DONE, planned(before="9 bytes"), {}, "done"),
        (DONE, planned(before="8 bytes"), {}, "done"),  # whatever was made of the result since
        (DONE, planned(before=None), {}, "do"),
        (DONE, planned(stamp="2 bytes", before="9 bytes"), {}, "do"),
        (DONE, planned(stamp="2 bytes", before="9 bytes"), {"skip_existing": True}, "skip"),
        (DONE, planned(before="9 bytes"), {"overwrite": True}, "do"),
        (DONE, planned(before="9 bytes"), {"retry_failed": True}, "done"),
        (FAILED, planned(), {}, "failed"),
        (FAILED, planned(), {"retry_failed": True}, "do"),
        (FAILED, planned(), {"overwrite": True}, "do"),
        (FAILED, planned(stamp="2 bytes"), {}, "do"),
        (NO_ROOM, planned(), {}, "do"),
        (DONE, planned("b.png", before=None), {}, "do"),
        (DONE, planned("b.png", before="9 bytes"), {}, "refuse"),
        (DONE, planned("b.png", before="9 bytes"), {"overwrite": True}, "do"),
        (DONE, planned("b.png", before="9 bytes"), {"skip_existing": True}, "skip"),
    ],
)
def test_verdicts(tmp_path, outcome, now, options, verdict):
    run(tmp_path, outcome)
    assert opened(tmp_path).verdict(now, **options) == verdict


def test_results_of_other_settings_are_not_replaced_unasked(tmp_path):
    run(tmp_path, DONE)
    ledger = opened(tmp_path, {**SETTINGS, "scale": "2"})
    assert ledger.verdict(planned(before="9 bytes")) == "refuse"
    assert ledger.verdict(planned(before="9 bytes"), overwrite=True) == "do"
    assert ledger.verdict(planned(before=None)) == "do"
    run(tmp_path, FAILED, settings={"scale": "2"})
    assert opened(tmp_path).verdict(planned()) == "do"


@pytest.mark.parametrize(("there", "verdict"), [(None, "do"), ("old", "do"), ("new", "done")])
def test_killed_between_a_result_and_its_line(tmp_path, there, verdict):
    run(tmp_path, plans=[planned(before="old")], end=False)
    with opened(tmp_path) as ledger:
        again = planned(before=there)
        assert ledger.verdict(again) == verdict
        ledger.begin([], done=[again] if verdict == "done" else [])
        ledger.end()
    assert (opened(tmp_path).verdict(planned(before="old")) == "done") == (verdict == "done")


def test_results_beside_their_inputs_have_names_of_their_own(tmp_path):
    plans = [
        Planned(result=result, input=source, stamp="1 bytes", before=None)
        for result, source in (("a/b_x4.png", "a/b.gif"), ("a/c.png", "a/c.gif"), ("a/d_x4.png", "a/d.png"))
    ]
    made = [Outcome(result=one.result, stamp="1 bytes") for one in plans[:2]]
    run(tmp_path, *made, plans=plans, settings={"scale": "4"})
    assert opened(tmp_path, settings={"scale": "2"}).results_beside_inputs() == {"a/b_x4.png"}


def test_an_interrupted_overwrite_goes_on(tmp_path):
    run(tmp_path, DONE)
    plans = [planned("a.png", before="old"), planned("b.png", before="old"), planned("c.png", before="old")]
    run(tmp_path, DONE, plans=plans, end=False)
    run(tmp_path, Outcome(result="b.png", stamp="1 bytes"), plans=plans[1:], end=False)
    ledger = opened(tmp_path)
    verdicts = [
        ledger.verdict(planned(name, before=there), overwrite=True)
        for name, there in (("a.png", "new"), ("b.png", "new"), ("c.png", "old"))
    ]
    assert verdicts == ["done", "done", "do"]
    assert ledger.verdict(plans[2]) == "do"  # that was allowed once
    run(tmp_path, plans=plans[2:])
    assert opened(tmp_path).verdict(plans[0], overwrite=True) == "do"


def test_nothing_is_written_of_nothing(tmp_path):
    run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_written(tmp_path):
    run(tmp_path, DONE, Outcome(result="b/ü\udcff.png", stamp=None, reason="gone"))
    (head, *lines) = read_lines(tmp_path / NAME)
    assert head["run"]["settings"] == SETTINGS
    assert lines == [
        {"plan": "a.png", "input": "a.png", "stamp": "1 bytes", "before": None},
        {"plan": "b/ü\udcff.png", "input": "b/ü\udcff.png", "stamp": None, "before": None},
        {"done": "a.png", "stamp": "1 bytes"},
        {"failed": "b/ü\udcff.png", "stamp": None, "reason": "gone", "again": False},
        {"end": {"done": 1, "failed": 1}},
    ]
    assert opened(tmp_path).reason("b/ü\udcff.png") == "gone"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_half_a_line_counts_for_nothing(tmp_path):
    run(tmp_path, plans=[planned()], end=False)
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"done": "a.p')
    assert opened(tmp_path).verdict(planned()) == "do"
    run(tmp_path, DONE)
    assert opened(tmp_path).verdict(planned(before="9 bytes")) == "done"


ODD = [
    b"garbage",
    b"[1]",
    b'{"run": 5}',
    b'{"run": {"settings": "4"}}',
    b'{"plan": "a.png"}',
    b'{"plan": ["a.png"], "input": "a.png", "stamp": null, "before": null}',
    b'{"plan": "a.png", "input": 5, "stamp": "1 bytes", "before": null}',
    b'{"plan": "a.png", "input": "a.png", "stamp": {}, "before": null}',
    b'{"done": "a.png"}',
    b'{"done": "never planned.png", "stamp": "1 bytes"}',
    b'{"done": {}, "stamp": "1 bytes"}',
    b'{"failed": "a.png", "stamp": "1 bytes"}',
    b'{"failed": "a.png", "stamp": "1 bytes", "reason": [], "again": 0}',
    b'{"failed": "never planned.png", "stamp": null, "reason": "x", "again": true}',
    b'{"something": "else"}',
    b"{}",
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_line_is_named_and_what_comes_after_it_counts(tmp_path, caplog, odd):
    run(tmp_path, DONE)
    with (tmp_path / NAME).open("ab") as file:
        file.write(odd + b"\n")
    run(tmp_path, Outcome(result="b.png", stamp="1 bytes"))
    caplog.clear()
    ledger = opened(tmp_path)
    assert ledger.verdict(planned("a.png", before="9 bytes")) == "done"
    assert ledger.verdict(planned("b.png", before="9 bytes")) == "done"
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path / NAME}: ")
    assert "left out" in message


def test_an_empty_line_is_nothing(tmp_path, caplog):
    run(tmp_path, DONE)
    with (tmp_path / NAME).open("ab") as file:
        file.write(b"\n")
    run(tmp_path, Outcome(result="b.png", stamp="1 bytes"))
    assert opened(tmp_path).verdict(planned("b.png", before="9 bytes")) == "done"
    assert caplog.messages == []


def test_what_is_planned_behind_a_damaged_line_is_not_taken_for_that_of_the_run_before(tmp_path):
    run(tmp_path, DONE)
    other = {**SETTINGS, "scale": "2"}
    run(tmp_path, Outcome(result="b.png", stamp="1 bytes"), settings=other)
    path = tmp_path / NAME
    lines = path.read_bytes().splitlines(keepends=True)
    (number,) = [number for number, line in enumerate(lines) if b'"run"' in line and number]
    path.write_bytes(b"".join([*lines[:number], lines[number].replace(b"{", b"("), *lines[number + 1 :]]))
    assert opened(tmp_path).verdict(planned("a.png", before="9 bytes")) == "done"
    for settings in (SETTINGS, other):
        assert opened(tmp_path, settings).verdict(planned("b.png", before="9 bytes")) == "refuse"


def test_an_end_that_was_damaged_does_not_keep_results_from_being_made_anew(tmp_path):
    run(tmp_path, DONE)
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes().replace(b'{"end"', b'{"end'))
    assert opened(tmp_path).verdict(planned(before="9 bytes"), overwrite=True) == "do"


def test_one_run_at_a_time(tmp_path):
    early = opened(tmp_path)
    with opened(tmp_path) as ledger:
        ledger.begin([planned()])
        with pytest.raises(OutputError, match="another process is at work there"):
            opened(tmp_path).begin([planned()])
    with pytest.raises(OutputError, match="another process is at work there"):  # was, since it was read
        early.begin([planned()])
    with opened(tmp_path) as ledger:
        ledger.begin([planned()])


def test_attempts():
    def fail(error):
        def work():
            raise error

        return attempt("a.png", "in/a.png", lambda: "1 bytes", work)

    assert attempt("a.png", "in/a.png", lambda: "1 bytes", lambda: None) == DONE
    assert fail(KeyError("surprise")).reason == "in/a.png: KeyError: 'surprise'"
    assert fail(ImageError("in/a.png: damaged")).reason == "in/a.png: damaged"
    again = [fail(error).again for error in (KeyError(), ImageError("a"), OutputError("a"), OSError(28, "full"))]
    assert again == [False, False, True, True]


def test_a_stamp_changes_with_the_file(tmp_path):
    path = tmp_path / "a.png"
    assert stamp(path) is None
    path.write_bytes(b"x")
    first = stamp(path)
    assert first == stamp(path)
    path.write_bytes(b"xy")
    assert stamp(path) != first
