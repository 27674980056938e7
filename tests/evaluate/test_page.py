import base64
import re
from html.parser import HTMLParser

import pytest

from hat_sr.evaluate.benchmark import Score
from hat_sr.evaluate.compare import Compared
from hat_sr.evaluate.dataset import Dataset
from hat_sr.evaluate.page import MOST_IMAGES, shown_images, to_html
from hat_sr.evaluate.report import Report

VOID = {"meta", "img", "input", "br"}


class Page(HTMLParser):
    """A page's elements; raises if tags do not close in the order in which they opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def report(num_images, *, name="Set5", scale=4, networks=("one", "two")):
    images = [
        Compared(
            name=f"image<{index}>",
            scores={
                network: Score(psnr=28.0 + index * step, ssim=0.8)
                for step, network in enumerate(("bicubic", *networks))
            },
            details={network: f"{index} {network}".encode() for network in ("bicubic", *networks, "original")},
        )
        for index in range(num_images)
    ]
    return Report(
        dataset=Dataset(name=name, scale=scale, pairs=(), border="mirror", lr_source=""),
        check="checked & found",
        lr="made",
        num_parameters=dict.fromkeys(networks, 1000),
        images=tuple(images),
    )


def test_a_well_formed_page_with_every_detail():
    page = Page(to_html([report(2), report(1, scale=2, networks=("three",))], published=True))
    pictures = [base64.b64decode(image["src"].partition(",")[2]) for image in page.all("img") if "src" in image]
    assert pictures == [
        *(f"{index} {name}".encode() for index in (0, 1) for name in ("bicubic", "one", "two", "original")),
        *(f"0 {name}".encode() for name in ("bicubic", "three", "original")),
    ]
    assert all(image["src"].startswith("data:image/webp;base64,") for image in page.all("img") if "src" in image)
    assert "image<1>" in page.text
    assert "checked & found" in page.text
    assert "HAT, quoted [chen2023hat]" in page.text


def test_nothing_is_loaded_from_anywhere():
    text = to_html([report(2)], published=True)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    page = Page(text)
    assert {tag for tag, _ in page.elements} & {"link", "iframe", "object", "base", "form"} == set()
    assert all("src" not in script for script in page.all("script"))
    (policy,) = (meta for meta in page.all("meta") if "http-equiv" in meta)
    assert policy["content"].startswith("default-src 'none'; img-src data:;")


def test_what_can_be_worked_by_keys_has_a_name():
    page = Page(to_html([report(2)]))
    assert len(page.all("input")) == 2
    assert all(control["type"] == "range" and control["aria-label"] for control in page.all("input"))
    assert len(page.all("select")) == len(page.all("label")) == 2
    assert all("alt" in image for image in page.all("img"))
    assert page.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


@pytest.mark.parametrize(
    ("networks", "chosen"),
    [(("one", "two"), ["bicubic", "two"]), (("one",), ["bicubic", "one"]), ((), ["bicubic", "original"])],
)
def test_the_sliders_compare_bicubic_with_the_last_network(networks, chosen):
    page = Page(to_html([report(1, networks=networks)]))
    names = ("bicubic", *networks, "original")
    options = page.all("option")
    assert [names[int(option["value"])] for option in options if "selected" in option] == chosen


def test_of_large_sets_some_images_are_shown_from_the_least_to_the_largest_gain():
    large = report(100)
    shown = shown_images(large)
    assert len(shown) == MOST_IMAGES
    assert [image.name for image in shown] == [f"image<{round(index * 99 / 11)}>" for index in range(12)]
    assert "12 of 100 images" in to_html([large])
    assert shown_images(report(MOST_IMAGES)) == list(report(MOST_IMAGES).images)
