"""The live page behind ``lexivox view``: the same viewer with a text box, served to this machine only."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from lexivox.view.html import page
from lexivox.view.live import LiveSession, QueryApp
from lexivox.view.local import (
    Answer,
    LocalServer,
    RefusedError,
    json_answer,
    not_found,
    serve_until_interrupted,
    whole,
)


class QuerySite:
    """The viewer's page, its keyframes and the answers to queries."""

    max_body_bytes = 16 * 1024

    def __init__(self, app: QueryApp, title: str) -> None:
        self.session, self.title = LiveSession(app), title

    def get(self, path: str, wish: dict[str, str]) -> Answer:
        """The page or a keyframe."""
        if path == "/":
            payload = {"live": True, "title": self.title, "frames": self.session.titles}
            return "text/html; charset=utf-8", page(self.title, payload).encode()
        if path == "/scene":
            return json_answer(self.session.scene(whole(wish.get("frame", "0"))))
        raise not_found()

    def post(self, path: str, wish: dict[str, Any]) -> Answer:
        """The scores of a query."""
        if path != "/query":
            raise not_found()
        text, frame = wish.get("text"), wish.get("frame", 0)
        if not isinstance(text, str):
            raise RefusedError(HTTPStatus.BAD_REQUEST, 'Query must hold a string "text".')
        return json_answer(self.session.heat(whole(frame), text))


def make_server(app: QueryApp, host: str = "127.0.0.1", port: int = 0, title: str = "lexivox") -> LocalServer:
    """A server that listens but does not answer yet: call ``serve_forever``; port 0 = any free one.

    Raises:
        ConfigError: the address is taken, or not one of this machine.
    """
    return LocalServer(QuerySite(app, title), host, port)


def serve(
    app: QueryApp,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    title: str = "lexivox",
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve until interrupted; ``ready`` is told the address once the page can be opened.

    Raises:
        ConfigError: the address is taken, or not one of this machine.
    """
    serve_until_interrupted(make_server(app, host, port, title), ready)
