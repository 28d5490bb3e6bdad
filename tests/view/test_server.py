"""The live server: what it answers, and what it refuses."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from streets import StreetApp

from lexivox.errors import ConfigError
from lexivox.view.live import LiveSession, check_text
from lexivox.view.local import LocalServer
from lexivox.view.scene import HeatLayer
from lexivox.view.server import make_server, serve


@pytest.fixture
def app() -> StreetApp:
    return StreetApp()


@pytest.fixture
def server(app: StreetApp) -> Iterator[LocalServer]:
    with make_server(app, title="toy <b>") as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    server: LocalServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, body, named)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


def query(server: LocalServer, wish: Any, **headers: str) -> tuple[int, Any]:
    headers = {"Content_Type": "application/json"} | headers
    status, _, body = ask(server, "POST", "/query", json.dumps(wish).encode(), **headers)
    return status, json.loads(body)


def test_page_loads_keyframes_only_when_asked(server: LocalServer, app: StreetApp) -> None:
    status, headers, body = ask(server, "GET", "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert b"toy &lt;b&gt;" in body
    assert app.loaded == []
    status, _, body = ask(server, "GET", "/scene?frame=2")
    assert status == 200
    assert json.loads(body)["sets"][0]["count"] == len(app.kept[2].index)
    assert app.loaded == [2]
    ask(server, "GET", "/scene?frame=2")
    assert app.loaded == [2]


def test_a_query_scores_every_voxel(server: LocalServer, app: StreetApp) -> None:
    status, answer = query(server, {"text": " car , pole", "frame": 1})
    assert status == 200
    assert app.asked == [(1, " car , pole")]
    assert (answer["name"], answer["lo"], answer["hi"]) == ("car, pole", 0.0, 1.0)
    assert 1 <= len(answer["hits"]) <= 8


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"text": "unicorn", "frame": 0}, "query must be a class of this toy; got 'unicorn'. Try 'car'."),
        ({"text": " , ", "frame": 0}, "query must hold some text; got none. Write what to look for."),
        ({"text": "car", "frame": 7}, "frame must lie in 0..2; got 7."),
        ({"text": "car", "frame": -1}, "Frame must be a whole number."),
        ({"text": "car", "frame": 1.5}, "Frame must be a whole number."),
        ({"text": "car", "frame": True}, "Frame must be a whole number."),
        ({"frame": 0}, 'Query must hold a string "text".'),
        ([], "Body must be a JSON object."),
    ],
)
def test_errors_are_one_clear_line(server: LocalServer, wish: Any, message: str) -> None:
    assert query(server, wish) == (400, {"error": message})


def test_a_failing_model_does_not_stop_the_server(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    status, answer = query(server, {"text": "crash", "frame": 0})
    assert (status, answer["error"]) == (500, "The request failed (RuntimeError: the weights melted).")
    assert "a request of the page failed" in caplog.text
    assert query(server, {"text": "car", "frame": 0})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
def test_other_hosts_are_refused(server: LocalServer, host: str) -> None:
    assert ask(server, "GET", "/", Host=host)[0] == 403
    assert query(server, {"text": "car", "frame": 0}, Host=host)[0] == 403


def test_names_of_this_machine_are_served(server: LocalServer) -> None:
    port = server.server_port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        assert ask(server, "GET", "/favicon.ico", Host=host)[0] == 200


def test_other_origins_are_refused(server: LocalServer) -> None:
    wish = {"text": "car", "frame": 0}
    own = f"http://127.0.0.1:{server.server_port}"
    assert query(server, wish, Origin=own)[0] == 200
    assert query(server, wish, Origin="http://evil.example")[0] == 403
    assert query(server, wish, Origin="null")[0] == 403


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/%2e%2e/x", "/etc/passwd", "/style.css", "//evil", "/scene/"])
def test_no_path_leads_to_a_file(server: LocalServer, path: str) -> None:
    assert ask(server, "GET", path)[0] == 404


def test_bodies_are_small_json(server: LocalServer) -> None:
    json_type = {"Content_Type": "application/json"}
    assert ask(server, "POST", "/query", b"{}", Content_Type="text/plain")[0] == 415
    assert ask(server, "POST", "/query", b"{", **json_type)[0] == 400
    assert ask(server, "POST", "/query", b"[" * 16_000, **json_type)[0] == 400
    assert ask(server, "POST", "/query", b" " * 20_000, **json_type)[0] == 413
    assert ask(server, "POST", "/query", b"", Content_Length="9" * 40, **json_type)[0] == 413
    assert ask(server, "POST", "/query", b"", Content_Length="-1", **json_type)[0] == 411
    assert ask(server, "POST", "/scene", b"{}", **json_type)[0] == 404
    assert ask(server, "PUT", "/query", b"{}", **json_type)[0] == 501


def test_texts_are_bounded() -> None:
    check_text("a van, a parked car, not: truck")
    with pytest.raises(ConfigError, match="query must hold some text; got none"):
        check_text(" ,, ")
    with pytest.raises(ConfigError, match="at most 400 characters; got 401"):
        check_text("x" * 401)


def test_scores_of_another_length_are_refused(app: StreetApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "query", lambda frame, text: HeatLayer("car", np.zeros(3)))
    with pytest.raises(ConfigError, match="scores of a query must be as many as the voxels"):
        LiveSession(app).heat(0, "car")


def test_old_keyframes_are_forgotten() -> None:
    app = StreetApp(1)
    app.kept = app.kept * 6
    session = LiveSession(app)
    for frame in (0, 1, 2, 3, 0, 4, 0, 1):
        session.heat(frame, "car")
    assert app.loaded == [0, 1, 2, 3, 4, 1]


def test_a_taken_port_is_one_line(server: LocalServer, app: StreetApp) -> None:
    with pytest.raises(ConfigError, match="must be free and on this machine; got 127"):
        make_server(app, port=server.server_port)


def test_serving_everywhere_must_be_asked_for(server: LocalServer, app: StreetApp) -> None:
    assert server.bound_host == "127.0.0.1"
    with make_server(app, "0.0.0.0") as everywhere:
        assert everywhere.is_own_name("192.168.1.5:80")
        assert not everywhere.is_own_name("evil.example")


def test_serve_tells_its_address_and_ends_on_interrupt(app: StreetApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: LocalServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalServer, "serve_forever", interrupted)
    told: list[str] = []
    serve(app, ready=told.append)
    assert told[0].startswith("http://127.0.0.1:")
