"""Digests of images, from a registry that this test serves."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from components import images
from components.images import LOCK, Image
from operations import images as locking
from operations.containers import connect
from operations.errors import Exit, Failure

INDEX = json.dumps(
    {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
).encode()
DIGEST = f"sha256:{hashlib.sha256(INDEX).hexdigest()}"


class _Registry(BaseHTTPRequestHandler):
    """Knows one version of one image, as the distribution specification says."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if self.path != "/v2/" and not self.path.startswith("/v2/team/tool/manifests/"):
            self.send_error(404)
            return
        known = self.path == "/v2/" or self.path.endswith(("/1.2.3", DIGEST))
        self.send_response(200 if known else 404)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Type", "application/vnd.oci.image.index.v1+json")
        self.send_header("Docker-Content-Digest", DIGEST)
        self.send_header("Content-Length", str(len(INDEX)))
        self.end_headers()
        if body and known:
            self.wfile.write(INDEX)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.spec("SEC-04")
def test_versions_are_locked_to_their_digests(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Image(official=f"{registry}/team/tool:1.2.3", built="tool")
    monkeypatch.setattr(locking, "table", lambda: [tool])
    monkeypatch.setattr(images, "ROOT", tmp_path)
    assert tool.locked == f"{registry}/team/tool:1.2.3"
    images._locked.cache_clear()  # pyright: ignore[reportPrivateUsage]  # as a new process would
    assert locking.lock(tmp_path) == Exit.OK
    assert json.loads((tmp_path / LOCK).read_text()) == {tool.official: DIGEST}
    assert tool.locked == f"{registry}/team/tool@{DIGEST}"
    images._locked.cache_clear()  # pyright: ignore[reportPrivateUsage]
    newer = Image(official=f"{registry}/team/tool:1.2.4", built="tool")
    assert newer.locked == newer.official, "a digest holds for its version alone"


def test_an_unknown_image_leaves_the_lock_as_it_is(registry: str) -> None:
    client = connect()
    try:
        with pytest.raises(Failure, match=rf"Image {registry}/team/tool:9 can't be looked up"):
            locking.digests(client, [Image(official=f"{registry}/team/tool:9", built="tool")])
    finally:
        client.close()
