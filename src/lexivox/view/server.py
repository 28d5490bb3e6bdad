"""The live page behind ``lexivox view``: the same viewer with a text box, served to this machine only.

What a stranger on the network, or a web page open in the same browser, could try is refused at the door: a
``Host`` that is not this machine (DNS rebinding), requests from other origins, bodies that are not small
JSON. No path is ever looked up on disk.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lexivox.errors import ConfigError, LexivoxError
from lexivox.view.html import page
from lexivox.view.live import LiveSession, QueryApp

MAX_BODY_BYTES = 16 * 1024
TIMEOUT_S = 30
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

log = logging.getLogger(__name__)


class ViewServer(ThreadingHTTPServer):
    """Serves one ``QueryApp`` at ``url``."""

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would let another program take over the port

    def __init__(self, app: QueryApp, host: str, port: int, title: str) -> None:
        self.session, self.title = LiveSession(app), title
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            rule = f"address of the viewer must be free and on this machine; got {host}:{port} ({error})"
            raise ConfigError(f"{rule}. Choose another port, or 0 for any.") from error

    def server_bind(self) -> None:
        # The base class looks the host's name up in DNS here, which can take seconds and is not needed.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.bound_host, int(self.server_address[1])

    @property
    def bound_host(self) -> str:
        return str(self.server_address[0])

    @property
    def url(self) -> str:
        host = self.bound_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    def is_own_name(self, host: str) -> bool:
        """May a request carry this ``Host``? Names that anybody's DNS can point here may not."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name == "localhost":
                return True
            address, bound = ipaddress.ip_address(name), ipaddress.ip_address(self.bound_host)
        except ValueError:
            return False
        return address == bound or address.is_loopback or bound.is_unspecified  # addresses cannot be rebound


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    server_version = "lexivox"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, route: Callable[[], tuple[str, bytes]]) -> None:
        """Run one route; whatever goes wrong becomes one line of JSON."""
        try:
            self._check_sender()
            kind, body = route()
            self._send(HTTPStatus.OK, kind, body)
        except _RefusedError as refusal:
            self.close_connection = True  # a body may be left unread
            self._send_error(refusal.status, str(refusal))
        except LexivoxError as error:
            self._send_error(HTTPStatus.BAD_REQUEST, str(error))
        except ConnectionError:
            self.close_connection = True  # the page was closed or moved on
        except Exception as error:
            log.exception("a request of the viewer failed")
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, f"The model failed ({text[:300]}).")

    def _check_sender(self) -> None:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if not self.server.is_own_name(host):
            rule = "Host must name this machine. Open the address that was printed."
            raise _RefusedError(HTTPStatus.FORBIDDEN, rule)
        if origin is not None and origin != f"http://{host}":
            raise _RefusedError(HTTPStatus.FORBIDDEN, "Requests must come from the viewer's own page.")

    def _get(self) -> tuple[str, bytes]:
        url = urlsplit(self.path)
        if url.path == "/":
            payload = {"live": True, "title": self.server.title, "frames": self.server.session.titles}
            return "text/html; charset=utf-8", page(self.server.title, payload).encode()
        if url.path == "/scene":
            frame = _whole(parse_qs(url.query).get("frame", ["0"])[0])
            return "application/json", _json(self.server.session.scene(frame))
        if url.path == "/favicon.ico":
            return "image/x-icon", b""
        raise _RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _post(self) -> tuple[str, bytes]:
        if urlsplit(self.path).path != "/query":
            raise _RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")
        wish = self._body()
        text, frame = wish.get("text"), wish.get("frame", 0)
        if not isinstance(text, str):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, 'Query must hold a string "text".')
        return "application/json", _json(self.server.session.heat(_whole(frame), text))

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Body must be application/json.")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "Body must come with its length.")
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            rule = f"Body must be at most {MAX_BODY_BYTES} bytes."
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, rule)
        try:
            wish = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "Body must be JSON.") from error
        if not isinstance(wish, dict):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "Body must be a JSON object.")
        return wish

    def _send_error(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "application/json", _json({"error": text}))

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.send_header("Content-Security-Policy", CONTENT_POLICY)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def _json(payload: Any) -> bytes:
    return json.dumps(payload, allow_nan=False, separators=(",", ":")).encode()


def _whole(value: Any) -> int:
    """A frame number from a query string or from JSON."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "Frame must be a whole number.")
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "Frame must be a whole number.")
    return int(text)


def make_server(app: QueryApp, host: str = "127.0.0.1", port: int = 0, title: str = "lexivox") -> ViewServer:
    """A server that listens but does not answer yet: call ``serve_forever``; port 0 = any free one.

    Raises:
        ConfigError: the address is taken, or not one of this machine.
    """
    return ViewServer(app, host, port, title)


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
    with make_server(app, host, port, title) as server:
        if ready is not None:
            ready(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log.info("the viewer was stopped")
