"""The page in a browser, as a person uses it."""

import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from hat_sr.serve.api import application
from hat_sr.serve.connections import config_for
from hat_sr.serve.service import Service
from helpers.browser import chromium, needs_chromium
from serve.serving import Held, picture, settings, wait_until

PATIENCE = 120_000

pytestmark = needs_chromium


@contextmanager
def started(folder, sandbox, root_path="", **changes):
    """A server at a free port, and where it is; root_path as behind a proxy that takes that path away."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hat_sr.serve.service.Sandbox", lambda seconds: sandbox)
        with Service(settings(folder, max_bytes=10**6, **changes)) as service:
            app = application(service)

            async def under_path(scope, receive, send):
                await app({**scope, "root_path": root_path}, receive, send)

            running = uvicorn.Server(config_for(under_path, service.settings))
            listening = socket.create_server(("127.0.0.1", 0))
            thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
            thread.start()
            yield service, f"http://127.0.0.1:{listening.getsockname()[1]}{root_path}"
            running.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory, kept_sandbox):
    with started(tmp_path_factory.mktemp("server"), kept_sandbox) as server:
        yield server


@pytest.fixture(scope="module")
def server_under_path(tmp_path_factory, kept_sandbox):
    with started(tmp_path_factory.mktemp("server"), kept_sandbox, "/hat") as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@contextmanager
def opened(server, browser, **options):
    """The page, open; afterwards nothing has gone wrong in it, and no other host was asked."""
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
    page.set_default_timeout(PATIENCE)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on(
        "response",
        lambda answer: wrong.append(answer.url) if answer.status >= 400 and "/v1/" not in answer.url else None,
    )
    page.on("request", lambda asked: None if asked.url.startswith(server[1]) else wrong.append(asked.url))
    page.goto(f"{server[1]}/ui/")
    page.wait_for_selector("#model option:has-text('tiny')", state="attached")
    yield page
    page.close()
    assert wrong == []


@pytest.fixture
def page(server, browser):
    with opened(server, browser, has_touch=True) as page:
        yield page


def choose(page, data, name="photo.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})
    page.wait_for_selector(f"#chosen:has-text('{name}, ')")


def test_from_a_picture_to_the_download(server, page, monkeypatch):
    held = Held(monkeypatch)
    choose(page, picture(height=20, width=30))
    page.click("#start")
    bar = page.wait_for_selector("#bar[value='25']")
    assert bar.get_attribute("aria-label") == "Progress"
    assert "left" in page.inner_text("#state")
    held.go.set()
    page.wait_for_selector("#after")
    assert "30×20 → 60×40 pixels" in page.inner_text("#state")
    sizes = "[...document.querySelectorAll('#compare img')].map(async i => (await i.decode(), [i.naturalWidth, i.alt]))"
    assert page.evaluate(f"Promise.all({sizes})") == [[30, "The image as it came"], [60, "The image enlarged"]]
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "result_x2.png"
    (job,) = server[0].store._run("SELECT id FROM jobs WHERE state = 'done'")
    assert Path(download.value.path()).read_bytes() == server[0].result(job["id"]).read_bytes()


def test_the_line_between_before_and_after(page):
    choose(page, picture(height=20, width=30))
    page.click("#start")
    page.wait_for_selector("#after")
    at = "document.querySelector('#compare').style.getPropertyValue('--at')"
    page.focus("#at")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(at) == "51%"
    frame = page.locator(".frame").bounding_box()
    page.mouse.move(frame["x"] + frame["width"] * 0.5, frame["y"] + frame["height"] / 2)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.25, frame["y"] + frame["height"] / 2)
    page.mouse.up()
    assert page.evaluate(at) == "25%"
    page.touchscreen.tap(frame["x"] + frame["width"] * 0.75, frame["y"] + frame["height"] / 2)
    assert page.evaluate(at) == "75%"
    assert "75 % before" in page.locator("#at").get_attribute("aria-valuetext")
    page.check("#full")
    assert page.locator("#after").bounding_box()["width"] == 60


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no image at all", "The file is no image of a kind that is taken here"),
        (picture()[:-30], "Damaged or cut short"),
    ],
)
def test_a_bad_file(page, data, words):
    choose(page, data)
    page.click("#start")
    message = page.wait_for_selector("#error")
    assert words in message.inner_text()
    assert page.is_enabled("#start")
    choose_again(page)


def choose_again(page):
    choose(page, picture())
    page.click("#start")
    page.wait_for_selector("#download")


def test_cancel_frees_the_worker(server, page, monkeypatch):
    with monkeypatch.context() as patched:
        held = Held(patched)
        choose(page, picture())
        page.click("#start")
        page.wait_for_selector("#bar[value='25']")
        page.click("#stop")
        page.wait_for_selector("#error:has-text('Cancelled')")
        assert server[0].store.unfinished() == []
        held.go.set()
    choose_again(page)


@pytest.mark.parametrize("leave", ["close", "go elsewhere"])
def test_leaving_the_page_cancels(server, browser, monkeypatch, leave):
    with monkeypatch.context() as patched:
        held = Held(patched)
        page = browser.new_page()
        page.goto(f"{server[1]}/ui/")
        choose(page, picture())
        page.click("#start")
        page.wait_for_selector("#bar[value='25']")
        if leave == "close":
            page.close()
        else:
            page.goto("about:blank")
        wait_until(lambda: not server[0].store.unfinished())
        held.go.set()
        page.close()


def test_every_control_has_a_name(page):
    choose_again(page)
    page.wait_for_selector("#after")
    name_of = "one.labels?.length ? one.labels[0].innerText.trim() : one.getAttribute('aria-label') ?? one.alt"
    names = f"[...document.querySelectorAll('input, select, progress, img')].map(one => [one.id, {name_of}])"
    found = dict(page.evaluate(names))
    assert found.pop("file").startswith("Drop, paste or choose an image")
    assert found.pop("model").startswith("Network")
    assert found == {
        "scale": "Scale ×2",
        "format": found["format"],
        "bar": "Progress",
        "before": "The image as it came",
        "after": "The image enlarged",
        "at": "Where before ends and after begins",
        "full": "Full size",
    }
    assert found["format"].startswith("Format of the result")


def test_a_server_that_is_gone_for_a_while(server, page, monkeypatch):
    with monkeypatch.context() as patched:
        held = Held(patched)
        choose(page, picture())
        page.click("#start")
        page.wait_for_selector("#bar[value='25']")
        page.route("**/v1/jobs/*", lambda route: route.abort())
        page.wait_for_selector("#message:has-text('trying again')")
        held.go.set()
        page.unroute("**/v1/jobs/*")
        page.wait_for_selector("#download")


def test_with_a_token(tmp_path, kept_sandbox, browser):
    known = {"username": "anybody", "password": "secret"}
    with (
        started(tmp_path, kept_sandbox, token="secret") as server,
        opened(server, browser, http_credentials=known) as page,
    ):
        choose_again(page)
        page.wait_for_selector("#after")
        with page.expect_download() as download:
            page.click("#download")
        assert download.value.suggested_filename == "result_x2.png"


def test_what_is_lost_is_said(page):
    choose(page, picture(channels=4))
    page.select_option("#format", "jpg")
    page.click("#start")
    page.wait_for_selector("#warnings li:has-text('Transparency is laid on white.')")
    assert page.inner_text("#download") == "Download JPG"


def test_a_phone_and_keys_alone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.keyboard.press("Tab")
    choose(page, picture())
    for key in range(30):
        assert key < 29, "the button is out of reach"
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "start":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#after")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


BY_HAND = """([bytes, kind]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], kind + ".png", { type: "image/png" }));
  const event = kind == "paste"
    ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
    : new DragEvent(kind, { dataTransfer: data, bubbles: true });
  document.querySelector("#picture").dispatchEvent(event);
}"""


def test_paste_and_drop(page):
    for kind in ("paste", "drop"):  # the second in place of the first
        page.evaluate(BY_HAND, [list(picture()), kind])
        page.wait_for_selector(f"#chosen:has-text('{kind}.png, ')")
    page.click("#start")
    page.wait_for_selector("#download")


def test_behind_a_proxy_that_shows_it_under_a_path(server_under_path, browser):
    with opened(server_under_path, browser) as page:
        choose_again(page)
        page.wait_for_selector("#after")
        with page.expect_download() as download:
            page.click("#download")
        assert download.value.suggested_filename == "result_x2.png"


def test_nothing_chosen(page):
    page.click("#start")
    page.wait_for_selector("#error:has-text('Choose an image first.')")


def test_names_of_clients_are_not_names_of_files(server, page):
    choose(page, picture(), name="theirs.png")
    page.click("#start")
    page.wait_for_selector("#download")
    folder = server[0].settings.folder
    assert list(folder.rglob("source.png"))
    assert not [path for path in folder.rglob("*") if "theirs" in path.name]
