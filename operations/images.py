"""The lock of the official images: the digest that each version had when it was looked at, so that nobody can change what is pulled."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from docker.errors import DockerException

from components.images import LOCK, Image, table
from operations.console import say
from operations.containers import connect
from operations.errors import Exit, Failure

PARALLEL = 4
"""Requests at a time; registries refuse people without an account who ask for much at once."""


def lock(root: Path) -> Exit:
    """Write the digests of all images beside the program, and say which changed.

    Args:
        root: the project's folder.

    Raises:
        Failure: Docker or a registry does not answer, or does not know an image; the present lock stays as it is.
    """
    path = root / LOCK
    before: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    client = connect()
    try:
        found = digests(client, table())
    finally:
        client.close()
    for name in sorted(found):
        if before.get(name) != found[name]:
            say(f"{name}: {before.get(name, 'not locked')} → {found[name]}")
    if found == before:
        say(f"{LOCK}: nothing to change, {len(found)} images are locked")
        return Exit.OK
    draft = path.with_suffix(".draft")
    draft.write_text(f"{json.dumps(found, indent=2, sort_keys=True)}\n", encoding="utf-8")
    draft.replace(path)
    say(f"{LOCK}: {len(found)} images are locked; commit it")
    return Exit.OK


def digests(client: Any, images: Iterable[Image]) -> dict[str, str]:
    """Ask the registries, through Docker and the accounts that it knows, for the digests of images.

    Raises:
        Failure: one line for each image that can't be had.
    """
    names = [image.official for image in images]

    def ask(name: str) -> str | DockerException:
        try:
            return str(client.images.get_registry_data(name).id)
        except DockerException as error:
            return error

    with ThreadPoolExecutor(max_workers=PARALLEL) as executor:
        answers = dict(zip(names, executor.map(ask, names), strict=True))
    if problems := [
        f"Image {name} can't be looked up: {getattr(answer, 'explanation', None) or answer}"
        for name, answer in answers.items()
        if not isinstance(answer, str)
    ]:
        raise Failure(
            *problems, f"{LOCK} was left as it is; run `./aikit images lock` again where the registries answer."
        )
    return {name: answer for name, answer in answers.items() if isinstance(answer, str)}
