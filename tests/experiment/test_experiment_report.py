"""Tables, plot and page of made-up results."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from experiment.small import write_experiment
from hat_sr.errors import ConfigError
from hat_sr.experiment.config import load_experiment
from hat_sr.experiment.report import END, curve, draw, marks, notes, spread, table, write_page, write_report
from hat_sr.experiment.run import Result
from hat_sr.image.io import read_image


def _result(*psnr, **changes):
    return replace(
        Result(
            psnr=dict(zip(("Set5", "other"), psnr, strict=False)),
            ssim={},
            num_parameters=12_345,
            multiply_adds=2_340_000_000,
            steps=4,
            seconds=90.0,
            curve=((2, 20.0), (4, 25.0)),
        ),
        **changes,
    )


@pytest.fixture
def experiment(tmp_path):
    return load_experiment(str(write_experiment(tmp_path)))


@pytest.fixture
def found():
    """Seeds of `plain` lie 0.2 apart in the mean; `wide` is 0.1 above seed 1 of it."""
    return {
        "plain": {0: _result(30.0, 20.0), 1: _result(30.3, 20.1)},
        "wide": {1: _result(30.3, 20.3)},
        "start": {0: _result(seconds=30.0)},
        "tuned": {0: _result(29.5, 19.5, seconds=60.0)},
    }


def _cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "---" not in line]


def test_spread_is_that_of_the_means_of_one_arm(found):
    assert spread(found) == pytest.approx(0.2)
    assert spread({"plain": found["wide"], "wide": found["wide"], "start": {}}) is None


def test_a_difference_of_one_seed_within_the_spread_is_not_resolved(experiment, found):
    header, plain, wide = _cells(table(experiment, experiment.groups[0], found))
    assert header == ["", "Set5", "other", "to plain", "parameters", "multiply-adds", "steps", "minutes"]
    assert plain == ["plain", "30.15 (30.00–30.30)", "20.05 (20.00–20.10)", "–", "12 K", "2.34 G", "4", "1.5"]
    assert wide[:4] == ["wide", "30.30", "20.30", "+0.100, not resolved"]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ((30.1, 20.2), "+0.117 (+0.100 to +0.150)"),  # the same seeds of `plain` lie farther apart
        ((29.7, 19.8), "−0.017 (−0.250 to +0.100), not resolved"),
    ],
)
def test_three_runs_of_the_same_seeds_are_compared(experiment, found, first, expected):
    found["plain"][2] = _result(30.0, 20.0)
    found["wide"] = {0: _result(*first), 1: _result(30.3, 20.3), 2: _result(30.1, 20.1)}
    assert _cells(table(experiment, experiment.groups[0], found))[2][3] == expected


def test_two_seeds_do_not_say_how_far_they_lie_apart(experiment, found):
    found["wide"] = {0: _result(30.1, 20.1), 1: _result(30.4, 20.2)}
    assert _cells(table(experiment, experiment.groups[0], found))[2][3] == "+0.100 (+0.100 to +0.100), not resolved"


def test_a_curve_is_of_seeds_that_all_its_parts_have(experiment, found):
    found["start"][1] = _result(curve=((2, 1.0), (4, 2.0)))
    found["tuned"] = {1: _result(curve=((2, 3.0),))}
    assert curve(experiment, experiment.arm("tuned"), found) == [(2, (1.0,)), (4, (2.0,)), (6, (3.0,))]


def test_runs_of_no_seed_in_common_are_not_compared(experiment, found):
    found["wide"] = {2: _result(30.3, 20.3)}
    assert _cells(table(experiment, experiment.groups[0], found))[2][3] == "–"


def test_a_chain_has_the_steps_and_time_of_all(experiment, found):
    _, _, tuned = _cells(table(experiment, experiment.groups[1], found))
    assert tuned == ["tuned", "29.50", "19.50", "−0.500", "12 K", "2.34 G", "4 + 2", "1.5"]


def test_with_one_seed_nothing_is_said_of_the_spread(experiment, found):
    del found["plain"][0]
    assert _cells(table(experiment, experiment.groups[0], found))[2][3] == "+0.100"
    assert "is not known" in notes(experiment, found)


def test_the_notes_name_the_spread(experiment, found):
    assert "than what seeds of one arm lie apart, 0.200 dB at the most" in notes(experiment, found)


def test_what_is_not_done_has_no_figures(experiment, found, tmp_path):
    found |= {"plain": {}, "start": {}}
    _, plain, wide = _cells(table(experiment, experiment.groups[0], found))
    assert plain == ["plain", "–", "–", "–", "–", "–", "4", "–"]
    assert wide[3] == "–"
    found["tuned"] = {}
    write_report(experiment, found, tmp_path / "runs")
    assert (tmp_path / "runs/plot.png").exists()


def test_the_report_has_all_tables_and_a_plot(experiment, found, tmp_path):
    write_report(experiment, found, tmp_path / "runs")
    text = (tmp_path / "runs/table.md").read_text()
    assert text.startswith("# Small\n") and text.endswith(notes(experiment, found) + "\n")
    for group in experiment.groups:
        assert f"## {group.name}\n\n{table(experiment, group, found)}\n" in text
    assert read_image(tmp_path / "runs/plot.png").pixels.std() > 10


def test_the_plot_says_the_set_and_shows_the_seeds(tmp_path, found, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (drawn.append(figure), path.touch()))
    found["plain"][1] = _result(30.3, 20.1, curve=((2, 21.0), (4, 27.0)))
    where = ("--log.validation-folder", "sets/Set5")
    draw(load_experiment(str(write_experiment(tmp_path)), where), found, tmp_path / "plot.png")
    first, second = drawn[0].axes
    assert first.get_ylabel() == second.get_ylabel() == "PSNR-Y on Set5, dB"
    plain, wide = first.lines
    assert plain.get_xydata().tolist() == [[2, 20.5], [4, 26.0]]  # the mean of two seeds
    assert wide.get_xydata().tolist() == [[2, 20.0], [4, 25.0]]
    (band,) = first.collections  # of the arm with two
    assert (band.get_datalim(first.transData).y0, band.get_datalim(first.transData).y1) == (20.0, 27.0)
    assert [x for x, _ in second.lines[1].get_xydata()] == [2, 4, 6, 8]  # after the arm it starts from


def test_a_page_keeps_what_is_outside_the_marks(experiment, found, tmp_path):
    page = tmp_path / "docs/page.md"
    page.parent.mkdir()
    page.write_text("".join(f"before\n{mark}\nold {name}\n{END}\nbehind\n" for name, mark in marks(experiment).items()))
    write_page(experiment, found, page)
    text = page.read_text()
    assert text.count("before\n") == text.count("behind\n") == 3 and "old" not in text
    assert text.count(table(experiment, experiment.groups[1], found)) == 1
    assert notes(experiment, found) in text
    assert (tmp_path / "docs/pictures/experiment-small.png").exists()
    write_page(experiment, found, page)
    assert page.read_text() == text


def test_a_page_without_marks(experiment, found, tmp_path):
    page = tmp_path / "page.md"
    for text in ("nothing", "".join(f"{mark}\n{END}\n" for mark in marks(experiment).values()) * 2):
        page.write_text(text)
        with pytest.raises(ConfigError, match="needs the lines <!-- experiment small: width -->"):
            write_page(experiment, found, page)
        assert page.read_text() == text
