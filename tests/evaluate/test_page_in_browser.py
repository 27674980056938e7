"""The page of a benchmark in a browser, as a person uses it."""

import numpy as np
import pytest

from hat_sr.evaluate.benchmark import Score
from hat_sr.evaluate.compare import Compared
from hat_sr.evaluate.dataset import Dataset
from hat_sr.evaluate.page import to_html
from hat_sr.evaluate.report import Report
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image
from helpers.browser import chromium, needs_chromium

pytestmark = needs_chromium

SIDE = 96
LEVELS = {"bicubic": 0, "one": 120, "two": 250, "original": 60}
"""The gray of each network's detail: what is seen of a slider says which networks it shows."""

IMAGES = ("a", 'b <"&">')


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, tmp_path):
    """The page, open from a file; afterwards nothing has gone wrong in it, and nothing else was asked for."""
    path = tmp_path / "page.html"
    path.write_text(to_html([report(tmp_path, 4), report(tmp_path, 2)], published=True), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("request", lambda asked: None if asked.url.startswith("data:") else wrong.append(asked.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert wrong == [path.as_uri()]


def report(folder, scale):
    details = {}
    for name, level in LEVELS.items():
        write_image(folder / f"{name}.webp", Image(np.full((SIDE, SIDE, 3), level, np.uint8)))
        details[name] = (folder / f"{name}.webp").read_bytes()
    scores = {name: Score(psnr=30.0, ssim=0.9) for name in list(LEVELS)[:-1]}
    return Report(
        dataset=Dataset(name="Set5", scale=scale, pairs=(), border="mirror", lr_source=""),
        check="checked",
        lr="made",
        num_parameters={"one": 1000, "two": None},
        images=tuple(Compared(name=name, scores=scores, details=details) for name in IMAGES),
    )


def shares(page, tmp_path, index=0):
    """Which parts of a slider's picture are of which network, in percent."""
    page.locator(".slider").nth(index).screenshot(path=tmp_path / "slider.png")
    row = read_image(tmp_path / "slider.png").pixels[SIDE // 2, :, 0]
    return {name: 100 * (row == level).mean() for name, level in LEVELS.items() if (row == level).any()}


def test_all_pictures_are_shown(page):
    sizes = "Promise.all([...document.images].map(async image => (await image.decode(), image.naturalWidth)))"
    details, sliders = len(LEVELS), 2
    assert page.evaluate(sizes) == [SIDE] * (details + sliders) * len(IMAGES) * 2
    assert [page.locator("h4").nth(index).inner_text() for index in range(4)] == [*IMAGES, *IMAGES]
    assert page.locator(".slider:visible").count() == 4


def test_the_slider_follows_keys_and_mouse(page, tmp_path):
    assert shares(page, tmp_path) == {"bicubic": pytest.approx(50, abs=2), "two": pytest.approx(50, abs=2)}
    slider = page.locator(".slider input").first
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "60 % bicubic, 40 % two"
    page.keyboard.press("Home")
    assert set(shares(page, tmp_path)) == {"two"}
    page.keyboard.press("End")
    assert set(shares(page, tmp_path)) == {"bicubic"}
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    page.mouse.up()
    assert shares(page, tmp_path) == {"bicubic": pytest.approx(25, abs=3), "two": pytest.approx(75, abs=3)}
    assert shares(page, tmp_path, 1) == {"bicubic": pytest.approx(50, abs=2), "two": pytest.approx(50, abs=2)}


def test_other_networks_can_be_chosen_for_all_sliders_of_a_scale(page, tmp_path):
    left, right = (page.locator("select").nth(index) for index in (0, 1))
    left.select_option("one")
    right.select_option("original")
    for index, names in enumerate([{"one", "original"}] * 2 + [{"bicubic", "two"}] * 2):
        assert set(shares(page, tmp_path, index)) == names
    caption = page.locator("figure:has(.slider) figcaption").nth(1)
    assert caption.inner_text() == "one | original"
    label = page.locator(".slider input").nth(1).get_attribute("aria-label")
    assert label == f"{IMAGES[1]}: one on the left, original on the right"
