"""The annotator's page as a server: what it answers, and what it refuses."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lexivox.annotate.site import AnnotateSite
from lexivox.annotate.store import AnnotationStore
from lexivox.view.local import LocalServer

BOX = [45, 38, 52, 42]


@pytest.fixture
def server(dataset, tmp_path) -> Iterator[LocalServer]:
    with LocalServer(AnnotateSite(dataset, AnnotationStore(tmp_path / "out"), title="toy <b>")) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: LocalServer, path: str, wish: Any = None, **headers: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    try:
        if wish is None:
            connection.request("GET", path, headers=named)
        else:
            body = wish if isinstance(wish, bytes) else json.dumps(wish).encode()
            connection.request("POST", path, body, {"Content-Type": "application/json"} | named)
        reply = connection.getresponse()
        return reply.status, reply.headers["Content-Type"], reply.read()
    finally:
        connection.close()


def answer(server: LocalServer, path: str, wish: Any = None) -> Any:
    status, _, body = ask(server, path, wish)
    assert status == 200, body
    return json.loads(body)


def refused(server: LocalServer, path: str, wish: Any = None) -> tuple[int, str]:
    status, _, body = ask(server, path, wish)
    return status, json.loads(body)["error"]


def unpacked(text: str, dtype: str) -> list:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).tolist()


def png(height: int = 80, width: int = 100) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width), 255, dtype=np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_the_page_is_whole_and_escaped(server):
    status, kind, body = ask(server, "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert b"toy &lt;b&gt;" in body
    assert b'<b>"' not in body
    assert b'"segmenter":"the box itself"' in body
    assert b"http://" not in body.replace(b"http://www.w3.org/", b"")


def test_a_keyframe_with_its_image(server):
    packed = answer(server, "/keyframe?frame=1")
    assert (packed["token"], packed["count"], packed["cameras"][0]["name"]) == ("k1", 16, "CAM_FRONT")
    assert unpacked(packed["xyz"], "<f4")[:3] == [10.0, 0.0, 0.0]
    assert unpacked(packed["cameras"][0]["index"], "<u4") == list(range(15))
    assert unpacked(packed["cameras"][0]["uv"], "<f4")[:4] == pytest.approx([50, 40, 49, 40])
    status, kind, body = ask(server, "/image?frame=1&camera=CAM_FRONT")
    assert (status, kind, Image.open(io.BytesIO(body)).size) == (200, "image/jpeg", (100, 80))


def test_a_box_becomes_points(server):
    found = answer(server, "/propose", {"frame": 0, "camera": "CAM_FRONT", "box": BOX})
    assert (found["inside"], found["kept"], found["clusters"]) == (list(range(14)), list(range(8)), 2)
    mask = found["mask"]
    assert [mask[key] for key in ("left", "top", "width", "height")] == [45, 38, 7, 4]
    assert unpacked(mask["value"], "u1") == [1] * 28
    off = {"frame": 0, "camera": "CAM_FRONT", "box": BOX, "clean": {"enabled": False}}
    assert answer(server, "/propose", off)["kept"] == list(range(14))
    second = off | {"clean": {"rank": 1, "min_cluster_size": 5, "reach_m": 0.5}}
    assert answer(server, "/propose", second)["kept"] == list(range(8, 14))


def test_a_mask_file_becomes_points(server):
    found = answer(server, "/propose", {"frame": 0, "camera": "CAM_FRONT", "png": png(), "clean": {"enabled": False}})
    assert found["inside"] == list(range(15))


def test_save_change_and_remove(server, tmp_path):
    wish = {"frame": 1, "query": " fire   hydrant", "split": "test", "points": [3, 1, 2]}
    saved = answer(server, "/save", wish)
    own = {"frame": 1, "query": "fire hydrant", "split": "test", "count": 3}
    assert saved == {"query": "fire hydrant", "annotations": [own], "others": 0}
    assert answer(server, "/points?frame=1&query=fire%20hydrant") == {"points": [1, 2, 3], "split": "test"}
    changed = answer(server, "/save", wish | {"query": "hydrant", "points": [1], "replaces": "fire hydrant"})
    assert changed["annotations"] == [own | {"query": "hydrant", "count": 1}]
    assert b'"query":"hydrant"' in ask(server, "/")[2]  # one goes on where one stopped
    assert answer(server, "/remove", {"frame": 1, "query": "hydrant"}) == {"annotations": [], "others": 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


GOOD = {"frame": 0, "camera": "CAM_FRONT", "box": BOX}
SAVE = {"frame": 0, "query": "x", "split": "val", "points": [1]}


@pytest.mark.parametrize(
    ("path", "wish", "message"),
    [
        ("/propose", GOOD | {"frame": 2}, "frame must lie in 0..1; got 2."),
        ("/propose", GOOD | {"frame": "../0"}, "Frame must be a whole number."),
        ("/propose", GOOD | {"camera": "../x"}, "camera of keyframe k0 must be one of CAM_FRONT; got '../x'."),
        ("/propose", GOOD | {"camera": 3}, 'Request must hold a string "camera".'),
        ("/propose", GOOD | {"box": [1, 2, 3]}, 'Request must hold a list "box" of four numbers, or a "png".'),
        ("/propose", GOOD | {"box": [1, 2, 3, True]}, "Box must be a number."),
        ("/propose", GOOD | {"box": [1, 2, 3, 10**400]}, "Box must be a number."),
        ("/propose", GOOD | {"box": [200, 2, 300, 9]}, "box must lie on the image of 100x80 pixels; got 200,2,300,9."),
        ("/propose", GOOD | {"clean": {"min_cluster_size": 1}}, "min_cluster_size must lie in 2..10000; got 1."),
        ("/propose", GOOD | {"clean": {"reach_m": "far"}}, "reach_m must be a number."),
        ("/propose", GOOD | {"clean": 3}, 'Request may hold an object "clean".'),
        ("/propose", GOOD | {"png": "%%"}, "Mask must be a PNG in base64."),
        ("/propose", GOOD | {"png": png(8, 9)}, "mask must have the size of its image, 100x80; got 9x8."),
        ("/save", SAVE | {"points": []}, "annotation of keyframe k0 must hold points; got none. Add some."),
        ("/save", SAVE | {"points": [16]}, "points of an annotation of keyframe k0 must lie in 0..15; got 16..16."),
        ("/save", SAVE | {"points": [1.5]}, 'Request must hold a list "points" of whole numbers.'),
        ("/save", SAVE | {"points": "1"}, 'Request must hold a list "points" of whole numbers.'),
        ("/save", SAVE | {"points": [10**30]}, 'Request must hold a list "points" of whole numbers.'),
        ("/save", SAVE | {"query": "a;b"}, "query of annotation k0 must be one line without semicolons; got 'a;b'."),
        ("/save", SAVE | {"query": "  "}, "query of annotation k0 must be one line without semicolons; got ''."),
        ("/save", SAVE | {"query": "x" * 201}, "Query must have at most 200 characters."),
        ("/save", SAVE | {"split": "../val"}, "split of annotation k0 must be one of train, val, test; got '../val'."),
        ("/save", SAVE | {"replaces": 1}, 'A string "replaces" is the query of the annotation that is changed.'),
        ("/remove", SAVE, "annotation to remove must exist; got keyframe k0, query 'x'."),
        ("/points?frame=0&query=x", None, "annotation must exist; got keyframe k0, query 'x'."),
        ("/image?frame=0&camera=../../x", None, "camera of keyframe k0 must be one of CAM_FRONT; got '../../x'."),
    ],
)  # fmt: skip
def test_bad_wishes_are_one_clear_line(server, path, wish, message):
    assert refused(server, path, wish) == (400, message)


@pytest.mark.parametrize("path", ["/../x", "/etc/passwd", "/assets/app.js", "/k0__retrieval.npy", "/annotations/"])
def test_no_path_leads_to_a_file(server, path):
    assert refused(server, path) == (404, "There is nothing here.")
    assert refused(server, path, {"frame": 0})[0] == 404


def test_strangers_are_refused(server, tmp_path):
    assert ask(server, "/", Host="evil.example")[0] == 403
    assert ask(server, "/save", SAVE, Origin="http://evil.example")[0] == 403
    assert ask(server, "/save", SAVE, Origin="null")[0] == 403
    assert ask(server, "/save", SAVE, Content_Type="text/plain")[0] == 415
    assert ask(server, "/save", b"{}", Content_Length=str(2 * 1024 * 1024 + 1))[0] == 413
    assert not (tmp_path / "out").exists()


def test_annotations_of_other_recordings_are_kept_and_counted(server, tmp_path, keyframe):
    from dataclasses import replace

    made = keyframe.annotation("bird", "train", np.array([1]))
    AnnotationStore(tmp_path / "out").put(replace(made, token="elsewhere"))
    saved = answer(server, "/save", SAVE)
    assert (len(saved["annotations"]), saved["others"]) == (1, 1)
    assert [a.token for a in AnnotationStore(tmp_path / "out").read()] == ["elsewhere", "k0"]
