import pytest

from hat_sr.inference.lines import add_lines, drop_half_line, parse_lines, read_lines

ODD = {
    "no JSON": b"garbage",
    "half a line": b'{"done": "a.p',
    "no object": b'["done", "a.png"]',
    "a number": b"1",
    "null": b"null",
    "a word": b'"done"',
    "no UTF-8": b'{"done": "\xff"}',
    "UTF-16": '{"done": 1}'.encode("utf-16"),
    "zeros": bytes(40),
    "deep": b"[" * 100_000,
    "a number that is too long": b"9" * 10_000,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_line_is_named_and_those_after_it_count(tmp_path, caplog, odd):
    path = tmp_path / "a.jsonl"
    add_lines(path, [{"number": 1}])
    with path.open("ab") as file:
        file.write(odd + b"\n")
    add_lines(path, [{"number": 2}])
    lines = read_lines(path)
    assert [line and line["number"] for line in lines] == [1, None, 2]
    assert caplog.messages == [f"{path}: damaged, and left out: line 2"]


def test_many_odd_lines_are_counted(caplog):
    lines = parse_lines(b"x\n" * 7 + b'{"number": 1}\n', name="a.jsonl")
    assert lines == [None] * 7 + [{"number": 1}]
    assert caplog.messages == ["a.jsonl: damaged, and left out: lines 1, 2, 3, 4, 5 and 2 more"]


def test_empty_lines_are_nothing(caplog):
    assert parse_lines(b'\n{"number": 1}\r\n  \n\n{"number": 2}\n', name="a") == [{"number": 1}, {"number": 2}]
    assert caplog.messages == []


def test_what_follows_the_last_end_of_a_line_is_cut_off(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"number": 1}\n{"number": 2')
    assert read_lines(path) == [{"number": 1}]
    drop_half_line(path)
    add_lines(path, [{"number": 3}])
    assert read_lines(path) == [{"number": 1}, {"number": 3}]
    assert caplog.messages == []
    assert read_lines(tmp_path / "missing") == []
