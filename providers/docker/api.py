"""What the resource types have in common in their use of the Docker API."""

import contextlib
from collections.abc import Generator, Iterable, Mapping

import docker.errors
import requests

from providers.resource import ProviderError


@contextlib.contextmanager
def errors(what: str) -> Generator[None]:
    """Turn an error of the daemon into one that says ``what`` failed and the daemon's own words."""
    try:
        yield
    except docker.errors.APIError as error:
        raise ProviderError(f"{what}: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise ProviderError(f"{what}: {error}") from error


def labels(inputs: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """Return labels as Docker has them from the schema's list of ``label`` and ``value``."""
    return {item["label"]: item.get("value", "") for item in inputs or ()}


def label_list(found: Mapping[str, str] | None) -> list[dict[str, str]]:
    """Return Docker's labels in the form of the schema."""
    return [{"label": name, "value": value} for name, value in sorted((found or {}).items())]
