"""The live page behind ``lexivox view``: the same viewer with a text box, served to this machine only.

What a stranger on the network, or a web page open in the same browser, could try is refused at the door: names
other than this machine's in ``Host`` (DNS rebinding), requests from other origins, bodies that are not small
JSON. No path is ever looked up on disk.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import numpy as np
from jaxtyping import Float

from lexivox.errors import ConfigError, LexivoxError
from lexivox.view.html import page
from lexivox.view.pack import pack_heat, pack_scene
from lexivox.view.scene import HeatLayer, VoxelScene

MAX_BODY_BYTES = 16 * 1024
MAX_TEXT = 400
MAX_PHRASINGS = 16
KEPT_SCENES = 4
TIMEOUT_S = 30
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

log = logging.getLogger(__name__)


class QueryApp(Protocol):
    """What the server asks: keyframes by number, and the score of every voxel of one for a text."""

    def frames(self) -> list[str]:
        """Titles of the keyframes, in order."""
        ...

    def scene(self, frame: int) -> VoxelScene:
        """A keyframe with its voxels and layers."""
        ...

    def query(self, frame: int, text: str) -> Float[np.ndarray, "N"]:
        """Scores of the voxels of ``scene(frame)``, in their order, for one phrasing."""
        ...


class ViewServer(ThreadingHTTPServer):
    """Serves one ``QueryApp``. The app is asked by one request at a time, so it need not be thread-safe."""

    daemon_threads = True
    # On Windows "reuse" would let another program listen on the same port and take the answers.
    allow_reuse_address = False

    def __init__(self, app: QueryApp, host: str, port: int, title: str) -> None:
        self.app, self.title = app, title
        self.titles = list(app.frames())
        self._lock = threading.Lock()
        self._scenes: OrderedDict[int, VoxelScene] = OrderedDict()
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            rule = f"address of the viewer must be free and local; got {host}:{port} ({error})"
            raise ConfigError(f"{rule}. Choose another port, or 0 for any.") from error

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host if isinstance(host, str) else host.decode()}:{port}/"

    def scene(self, frame: int) -> VoxelScene:
        """A keyframe; the last few are kept."""
        with self._lock:
            return self._scene(frame)

    def _scene(self, frame: int) -> VoxelScene:
        if not 0 <= frame < len(self.titles):
            raise ConfigError(f"frame must lie in 0..{len(self.titles) - 1}; got {frame}.")
        if frame not in self._scenes:
            self._scenes[frame] = self.app.scene(frame)
        self._scenes.move_to_end(frame)
        while len(self._scenes) > KEPT_SCENES:
            self._scenes.popitem(last=False)
        return self._scenes[frame]

    def heat(self, frame: int, text: str) -> dict[str, Any]:
        """Scores of one query: of every voxel the best over the phrasings, which commas separate.

        Raises:
            ConfigError: no text, too much of it, or a frame that does not exist.
        """
        phrasings = [part.strip() for part in text.split(",") if part.strip()]
        if not phrasings or len(text) > MAX_TEXT or len(phrasings) > MAX_PHRASINGS:
            rule = f"1 to {MAX_PHRASINGS} phrasings in at most {MAX_TEXT} characters"
            raise ConfigError(f"query must hold {rule}; got {len(phrasings)} in {len(text)}. Write what to look for.")
        with self._lock:
            scene, began = self._scene(frame), time.perf_counter()
            scores = [self.app.query(frame, phrasing) for phrasing in phrasings]
        layer = HeatLayer(", ".join(phrasings), np.max(np.stack(scores), axis=0))
        if len(layer) != len(scene.index):
            raise ConfigError(f"query must score all {len(scene.index)} voxels; got {len(layer)} scores.")
        packed = pack_heat(scene.grid, scene.index, layer)
        return packed | {"seconds": round(time.perf_counter() - began, 4)}

    def is_own_name(self, host: str) -> bool:
        """May a request carry this ``Host``? Names that anybody's DNS can point here may not."""
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost" or name == str(self.server_address[0]):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        bound = ipaddress.ip_address(self.server_address[0])
        return address.is_loopback or bound.is_unspecified  # a bare address cannot be rebound


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
        except _Refused as refusal:
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
            raise _Refused(HTTPStatus.FORBIDDEN, "Host must name this machine. Open the address that was printed.")
        if origin is not None and origin != f"http://{host}":
            raise _Refused(HTTPStatus.FORBIDDEN, "Requests must come from the viewer's own page.")

    def _get(self) -> tuple[str, bytes]:
        url = urlsplit(self.path)
        if url.path == "/":
            payload = {"live": True, "title": self.server.title, "frames": self.server.titles}
            return "text/html; charset=utf-8", page(self.server.title, payload).encode()
        if url.path == "/scene":
            frame = _whole(parse_qs(url.query).get("frame", ["0"])[0])
            return "application/json", _json(pack_scene(self.server.scene(frame)))
        if url.path == "/favicon.ico":
            return "image/x-icon", b""
        raise _Refused(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _post(self) -> tuple[str, bytes]:
        if urlsplit(self.path).path != "/query":
            raise _Refused(HTTPStatus.NOT_FOUND, "There is nothing here.")
        wish = self._body()
        text, frame = wish.get("text"), wish.get("frame", 0)
        if not isinstance(text, str):
            raise _Refused(HTTPStatus.BAD_REQUEST, 'Query must hold a string "text".')
        return "application/json", _json(self.server.heat(_whole(frame), text))

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Body must be application/json.")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "Body must come with its length.")
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            rule = f"Body must be at most {MAX_BODY_BYTES} bytes."
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, rule)
        try:
            wish = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, "Body must be JSON.") from error
        if not isinstance(wish, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "Body must be a JSON object.")
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


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def _json(payload: Any) -> bytes:
    return json.dumps(payload, allow_nan=False, separators=(",", ":")).encode()


def _whole(value: Any) -> int:
    """A frame number from a query string or from JSON."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _Refused(HTTPStatus.BAD_REQUEST, "Frame must be a whole number.")
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise _Refused(HTTPStatus.BAD_REQUEST, "Frame must be a whole number.")
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


