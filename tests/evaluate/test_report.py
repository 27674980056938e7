import json
import math

import pytest

from hat_sr.evaluate.benchmark import Score
from hat_sr.evaluate.compare import Compared
from hat_sr.evaluate.dataset import Dataset
from hat_sr.evaluate.report import Report, notes, published_figures, summaries, to_json, to_markdown

METRIC_NOTE = "PSNR (dB) and SSIM on Y of BT.601 from 8-bit RGB, gray scored as RGB, borders of one scale cropped."


def report(*psnrs: float, name: str = "Tiny", scale: int = 4) -> Report:
    images = [
        Compared(
            name=f"image{index}",
            scores={"bicubic": Score(psnr=28.0, ssim=0.8), "network": Score(psnr=value, ssim=0.9)},
            details={},
        )
        for index, value in enumerate(psnrs)
    ]
    return Report(
        dataset=Dataset(name=name, scale=scale, pairs=(), border="mirror", lr_source=""),
        check="checked somehow",
        lr="made somehow",
        num_parameters={"network": 1_234_567},
        images=tuple(images),
    )


def test_markdown():
    lines = to_markdown([report(30.0, 31.239, 27.0)]).splitlines()
    assert lines[:4] == [
        "| ×4      | parameters |           Tiny |",
        "| ------- | ---------: | -------------: |",
        "| bicubic |          – | 28.00 / 0.8000 |",
        "| network |     1.23 M | 29.41 / 0.9000 |",
    ]
    assert lines[5:7] == [
        f"- {METRIC_NOTE}",
        "- Tiny ×4: checked somehow. Low-resolution images: made somehow. Below bicubic: network: image2.",
    ]
    assert lines[8] == "| Tiny ×4 |        bicubic |        network |"
    assert lines[11] == "| image1  | 28.00 / 0.8000 | 31.24 / 0.9000 |"
    assert lines[13] == "| mean    | 28.00 / 0.8000 | 29.41 / 0.9000 |"


def test_json():
    content = json.loads(to_json([report(30.0, math.inf)]))
    assert content["published"] == []
    (data,) = content["datasets"]
    assert (data["dataset"], data["scale"], data["check"], data["lr"]) == ("Tiny", 4, "checked somehow", "made somehow")
    assert data["models"][0] == {
        "name": "bicubic",
        "num_parameters": None,
        "psnr": 28.0,
        "ssim": pytest.approx(0.8),
        "below_bicubic": [],
    }
    assert data["models"][1]["psnr"] is None
    assert data["images"][0] == {
        "name": "image0",
        "scores": {"bicubic": {"psnr": 28.0, "ssim": 0.8}, "network": {"psnr": 30.0, "ssim": 0.9}},
    }
    assert data["images"][1]["scores"]["network"]["psnr"] is None


def test_a_table_for_each_scale():
    two, four = summaries([report(30.0, scale=2), report(30.0), report(31.0, name="Other")])
    assert (two.scale, two.sets) == (2, ("Tiny",))
    assert (four.scale, four.sets) == (4, ("Tiny", "Other"))
    assert four.rows[1].cells == ("30.00 / 0.9000", "31.00 / 0.9000")


def test_published_figures_are_marked():
    reports = [report(31.5, name="Set5"), report(28.0, name="BSD100"), report(28.0, name="Mine")]
    (summary,) = summaries(reports, published=True)
    labels = {row.label: row for row in summary.rows}
    assert labels["SAFMN, quoted [sun2023safmn]"].cells == ("32.18", "–", "–")
    psnrs = [float(row.cells[0].partition(" ")[0]) for row in summary.rows]
    assert psnrs == sorted(psnrs)
    assert summary.rows[0].label == "bicubic"
    assert any("[chen2023hat] Activating More Pixels" in note for note in notes(reports, published=True))
    quoted = json.loads(to_json(reports, published=True))["published"]
    assert {"HAT", "SAFMN"} <= {figures["name"] for figures in quoted}
    assert all(set(figures["psnr"]) <= {"Set5", "BSD100"} for figures in quoted)
    assert "quoted" not in to_markdown(reports)


def test_figures_that_a_paper_cannot_have_itself_are_marked():
    """Urban100 is of 2015 and Manga109 was not usual before 2018: what is given on them is later papers' for these."""
    lines = notes([report(31.5, name="Urban100"), report(30.0, name="Manga109")], published=True)
    later = {line.partition("[")[2].partition("]")[0] for line in lines if line.endswith(", as later papers quote it.")}
    assert later == {"dong2016srcnn", "dong2016fsrcnn", "kim2016vdsr", "ahn2018carn"}
    assert any("[liang2021swinir]" in line for line in lines)


def test_the_published_table():
    everything = ["Set5", "Set14", "BSD100", "Urban100", "Manga109"]
    tables = {scale: published_figures(scale, everything) for scale in (2, 3, 4, 8)}
    assert [len(table) for table in tables.values()] == [4, 3, 13, 0]
    for figures in (figures for table in tables.values() for figures in table):
        assert set(figures.psnr) <= set(everything)
        assert all(20 < psnr < 45 for psnr in figures.psnr.values())
        assert figures.reference.arxiv in str(figures.reference)
    assert published_figures(4, ["Mine"]) == []
    assert all("pre-training" not in figures.name for figures in published_figures(4, ["Set5"]))
