"""The base image's name, and where its packages come from."""

from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from toolchain import base
from toolchain.base import Mirrors, authorities, base_image, base_tag, mirrors
from toolchain.errors import ToolchainError

PUBLIC = Mirrors(packages="http://deb.debian.org/debian", security="http://deb.debian.org/debian-security")


def test_tag_follows_its_content(tmp_path: Path) -> None:
    bare = base_tag("trixie", PUBLIC, authorities(tmp_path))
    assert bare == base_tag("trixie", PUBLIC, ())
    assert bare.startswith("aikit/base:trixie-")
    assert len(bare.rpartition("-")[2]) == 12

    (tmp_path / "company.crt").write_text("one")
    one = base_tag("trixie", PUBLIC, authorities(tmp_path))
    (tmp_path / "company.crt").write_text("two")
    two = base_tag("trixie", PUBLIC, authorities(tmp_path))
    elsewhere = base_tag("trixie", Mirrors(packages="http://mirror/debian", security=PUBLIC.security), ())
    assert len({bare, one, two, elsewhere, base_tag("bookworm", PUBLIC, ())}) == 5


def test_mirror_of_the_machine(tmp_path: Path) -> None:
    assert mirrors(tmp_path) == PUBLIC

    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian trixie main\n"
        "deb https://packages.example/tool stable main\n"
        "deb [signed-by=/k.gpg] https://mirror.example/debian/ trixie main\n"
    )
    assert mirrors(tmp_path) == Mirrors(
        packages="https://mirror.example/debian", security="https://mirror.example/debian-security"
    )

    (tmp_path / "sources.list").unlink()
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\nURIs: http://a.example/debian\nSuites: trixie\n\n"
        "Types: deb\n# URIs: http://old.example/debian-security\nURIs: http://b.example/debian-security\n"
    )
    assert mirrors(tmp_path) == Mirrors(packages="http://a.example/debian", security="http://b.example/debian-security")


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(base, "_has", lambda *_: False)
    with pytest.raises(ToolchainError, match="root"):
        base_image(docker.DockerClient(base_url="unix:///nowhere", version="1.41"), "trixie", lambda _: None)


def test_present_image_is_used() -> None:
    try:
        client = docker.from_env()
        tag = base_tag("trixie", mirrors(), authorities())
        present = {each for image in client.images.list("aikit/base") for each in image.tags}
    except DockerException:
        pytest.skip("no Docker daemon")
    if tag not in present:
        pytest.skip("the base image is made by the end-to-end tests")
    said: list[str] = []
    assert base_image(client, "trixie", said.append) == tag
    assert not said
