"""All that a server answers, put together: the API, the page, and the guard before both."""

from starlette.types import ASGIApp

from hat_sr.serve.api import create_app
from hat_sr.serve.guard import Guard
from hat_sr.serve.service import Service


def application(service: Service, *, page: bool) -> ASGIApp:
    """For any ASGI server. page: whether there is one at /ui."""
    app = create_app(service)
    if page:
        from hat_sr.serve.page import add_page  # here, since Gradio takes seconds to load

        app = add_page(app, service)
    return Guard(app, settings=service.settings, metrics=service.metrics)
