"""Files that a container gets before it starts."""

# The SDK for Python is typed in part only, and property values are whatever the schema says.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import base64
import binascii
import io
import posixpath
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from docker import DockerClient

from providers.docker.api import errors
from providers.resource import ProviderError


def upload(client: DockerClient, identifier: str, files: Iterable[Mapping[str, Any]], mounts: Iterable[str]) -> None:
    """Write ``files`` into the container; one below a mounted path goes into what is mounted there.

    Addressing the mount itself works where the container's own file system is read-only, too.

    Raises:
        ProviderError: with the path of a file, never its content.
    """
    places = sorted((posixpath.normpath(mount) for mount in mounts), key=len, reverse=True)
    archives: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {}
    for item in files:
        path = posixpath.normpath(posixpath.join("/", item["file"]))
        place = next((place for place in places if path.startswith(f"{place}/")), "/")
        content = _content(item)
        entry = tarfile.TarInfo(posixpath.relpath(path, place))
        entry.size, entry.mode, entry.mtime = len(content), _mode(item), int(time.time())
        entry.uid, entry.gid = int(item.get("owner") or 0), int(item.get("group") or 0)
        archives.setdefault(place, []).append((entry, content))
    for place, entries in archives.items():
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for entry, content in entries:
                archive.addfile(entry, io.BytesIO(content))
        with errors(f"cannot upload {', '.join(entry.name for entry, _ in entries)} to {place}"):
            client.api.put_archive(identifier, place, buffer.getvalue())


def problem(item: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an upload, in words that do not contain its content."""
    given = [name for name in ("content", "contentBase64", "source") if item.get(name) is not None]
    if len(given) != 1:
        return f"{item.get('file')}: exactly one of content, contentBase64 and source must be given"
    try:
        _mode(item)
    except ValueError:
        return f"{item.get('file')}: permissions must be octal, such as 0644"
    if not all(str(item.get(name) or 0).isdecimal() for name in ("owner", "group")):
        return f"{item.get('file')}: owner and group must be numbers"
    return None


def _mode(item: Mapping[str, Any]) -> int:
    return int(item.get("permissions") or ("0744" if item.get("executable") else "0644"), 8)


def _content(item: Mapping[str, Any]) -> bytes:
    try:
        if item.get("source") is not None:
            return Path(item["source"]).read_bytes()
        if item.get("contentBase64") is not None:
            return base64.b64decode(item["contentBase64"], validate=True)
    except OSError as error:
        raise ProviderError(f"cannot upload {item['file']}: {error}") from error
    except binascii.Error:
        raise ProviderError(f"cannot upload {item['file']}: contentBase64 is not base64") from None
    return str(item.get("content") or "").encode()
