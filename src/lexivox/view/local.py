"""A web server for this machine only, beneath ``lexivox view`` and ``lexivox annotate``.

What a stranger on the network, or a web page open in the same browser, could try is refused at the door: a
``Host`` that is not this machine (DNS rebinding), requests from other origins, bodies that are not small
JSON. No path is ever looked up on disk: a ``Site`` answers the few that it knows.
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
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qs, urlsplit

from lexivox.errors import ConfigError, LexivoxError

TIMEOUT_S = 30
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

log = logging.getLogger(__name__)

Answer = tuple[str, bytes]
"""Content type and body."""


@runtime_checkable
class Site(Protocol):
    """What is served. Both methods raise ``RefusedError`` or a ``LexivoxError`` for what they do not accept."""

    max_body_bytes: int

    def get(self, path: str, wish: dict[str, str]) -> Answer:
        """Answer a path with its query string."""
        ...

    def post(self, path: str, wish: dict[str, Any]) -> Answer:
        """Answer a path with its JSON object."""
        ...


class LocalServer(ThreadingHTTPServer):
    """Serves one ``Site`` at ``url``. It listens at once, and answers from ``serve_forever`` on.

    Raises:
        ConfigError: the address is taken, or not one of this machine.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would let another program take over the port

    def __init__(self, site: Site, host: str = "127.0.0.1", port: int = 0) -> None:
        self.site = site
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            rule = f"address of the page must be free and on this machine; got {host}:{port} ({error})"
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
    server: LocalServer
    server_version = "lexivox"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, route: Callable[[], Answer]) -> None:
        """Run one route; whatever goes wrong becomes one line of JSON."""
        try:
            self._check_sender()
            kind, body = route()
            self._send(HTTPStatus.OK, kind, body)
        except RefusedError as refusal:
            self.close_connection = True  # a body may be left unread
            self._send_error(refusal.status, str(refusal))
        except LexivoxError as error:
            self._send_error(HTTPStatus.BAD_REQUEST, str(error))
        except ConnectionError:
            self.close_connection = True  # the page was closed or moved on
        except Exception as error:
            log.exception("a request of the page failed")
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, f"The request failed ({text[:300]}).")

    def _check_sender(self) -> None:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if not self.server.is_own_name(host):
            rule = "Host must name this machine. Open the address that was printed."
            raise RefusedError(HTTPStatus.FORBIDDEN, rule)
        if origin is not None and origin != f"http://{host}":
            raise RefusedError(HTTPStatus.FORBIDDEN, "Requests must come from the server's own page.")

    def _get(self) -> Answer:
        url = urlsplit(self.path)
        if url.path == "/favicon.ico":
            return "image/x-icon", b""
        wish = {name: values[0] for name, values in parse_qs(url.query).items()}
        return self.server.site.get(url.path, wish)

    def _post(self) -> Answer:
        return self.server.site.post(urlsplit(self.path).path, self._body())

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Body must be application/json.")
        length, limit = self.headers.get("Content-Length", ""), self.server.site.max_body_bytes
        if not length.isascii() or not length.isdigit():
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "Body must come with its length.")
        if len(length) > 9 or int(length) > limit:
            rule = f"Body must be at most {limit} bytes."
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, rule)
        try:
            wish = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "Body must be JSON.") from error
        if not isinstance(wish, dict):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "Body must be a JSON object.")
        return wish

    def _send_error(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "application/json", json_bytes({"error": text}))

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


class RefusedError(Exception):
    """A request that is not answered: what its sender is told, with the status."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def not_found() -> RefusedError:
    """The refusal of a path that the site does not know."""
    return RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")


def json_answer(payload: Any) -> Answer:
    """An answer that holds JSON."""
    return "application/json", json_bytes(payload)


def json_bytes(payload: Any) -> bytes:
    """Compact JSON; NaN is an error of the program."""
    return json.dumps(payload, allow_nan=False, separators=(",", ":")).encode()


def whole(value: Any, name: str = "Frame") -> int:
    """A number from 0 on, of a query string or of JSON; anything else is refused."""
    text = "" if isinstance(value, bool) or not isinstance(value, int | str) else str(value)
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number.")
    return int(text)


def serve_until_interrupted(server: LocalServer, ready: Callable[[str], object] | None = None) -> None:
    """Serve; ``ready`` is told the address once the page can be opened. Closes the server at the end."""
    with server:
        if ready is not None:
            ready(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log.info("the server was stopped")
