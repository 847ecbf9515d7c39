"""Requests to Vault by its client library, with a login at the first one and errors that say what to do."""

# The library is typed in part only.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import hvac
import requests
from hvac import exceptions

from providers.resource import ProviderError, pause

STARTUP_SECONDS = 60.0
"""How long a request is repeated while Vault refuses connections, or is unsealed and not active yet."""

ANSWER_SECONDS = 60

_RETRY_SECONDS = 0.5
_UPGRADING = "Upgrading from non-versioned to versioned"
"""What Vault says for a moment after a mount with versions was made."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Where Vault is and who logs in."""

    address: str
    token: str = ""
    """A ready token, used as it is instead of a login."""
    login_path: str = ""
    """Path that answers ``login`` with a token, such as ``auth/approle/login``."""
    login: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    namespace: str = ""
    authority_file: str = ""
    """PEM file of the authority to trust instead of the system's."""
    skip_tls_verify: bool = False
    startup_seconds: float = STARTUP_SECONDS


class Vault:
    """Requests to one Vault, safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = hvac.Client(
            url=settings.address,
            token=settings.token or None,
            verify=False if settings.skip_tls_verify else settings.authority_file or True,
            namespace=settings.namespace or None,
            timeout=ANSWER_SECONDS,
            # Tokens of this machine's environment or home are somebody else's.
            session=requests.Session(),
        )
        self._client.token = settings.token or None
        self._lock = threading.Lock()

    def read(self, path: str) -> dict[str, Any] | None:
        """Return what is at a path, without the envelope; None if nothing is."""
        answer = self._request(path, lambda: self._client.read(path))
        if answer is None:
            return None
        found = cast("dict[str, Any]", answer)
        return cast("dict[str, Any]", found.get("data") or {})

    def write(self, path: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Write to a path and return the answer's data."""
        answer = self._request(path, lambda: self._client.write_data(path, data=dict(data)))
        # Many answers have no body: the library returns the response then.
        return cast("dict[str, Any]", answer.get("data") or {}) if isinstance(answer, dict) else {}

    def delete(self, path: str) -> None:
        """Delete what is at a path; nothing there is no error."""
        try:
            self._request(path, lambda: self._client.delete(path))
        except NotFoundError:
            return

    def _request(self, path: str, send: Callable[[], Any]) -> Any:
        self._log_in()
        try:
            return self._patiently(path, send)
        except _ForbiddenError:
            # The login's token may have ended during a long deployment.
            if not self._settings.login_path:
                raise
            with self._lock:
                self._client.token = None
            self._log_in()
            return self._patiently(path, send)

    def _log_in(self) -> None:
        with self._lock:
            if self._client.token:
                return
            path = self._settings.login_path
            if not path:
                raise ProviderError(
                    f"Vault at {self._settings.address}: there is neither a token nor a login; set authLogin or token."
                )
            try:
                answer = self._patiently(
                    path, lambda: self._client.adapter.post(f"/v1/{path}", json=dict(self._settings.login))
                )
            except (_ForbiddenError, _RefusedError) as error:
                raise ProviderError(
                    f"Vault at {self._settings.address} refuses the login at {path}: its role or secret is wrong or has expired."
                    f" Restart Vault's container: it grants the deployment its login anew. ({error})"
                ) from error
            self._client.token = str(answer["auth"]["client_token"])

    def _patiently(self, path: str, send: Callable[[], Any]) -> Any:
        """Send a request, again while Vault is starting.

        Raises:
            ProviderError: with Vault's own words, and what to do.
        """
        deadline = time.monotonic() + self._settings.startup_seconds
        while True:
            try:
                return send()
            except requests.RequestException as error:
                problem: ProviderError = ProviderError(
                    f"Vault can't be reached at {self._settings.address}: {type(error).__name__}."
                    " See whether its container runs and is healthy, and its log."
                )
            except exceptions.VaultDown as error:
                if "sealed" in _words(error):
                    raise ProviderError(
                        f"Vault at {self._settings.address} is sealed. Restart its container: it is unsealed at each start."
                    ) from error
                problem = ProviderError(f"Vault at {self._settings.address} is not active: {_words(error)}")
            except exceptions.Forbidden as error:
                raise _ForbiddenError(
                    f"Vault at {self._settings.address} forbids {path}: {_words(error)}."
                    " The token is wrong, has expired, or its policies lack this path."
                ) from error
            except exceptions.InvalidPath as error:
                raise NotFoundError(f"Vault has nothing at {path}: {_words(error)}") from error
            except exceptions.VaultError as error:
                problem = _RefusedError(f"Vault refuses {path}: {_words(error)}")
                if _UPGRADING not in _words(error) and not _unavailable(error):
                    raise problem from error
            if time.monotonic() > deadline:
                raise problem
            pause(_RETRY_SECONDS)


class NotFoundError(ProviderError):
    """What the request is about does not exist."""


class _ForbiddenError(ProviderError):
    """The token may not do this."""


class _RefusedError(ProviderError):
    """Vault understood and refused."""


def _unavailable(error: exceptions.VaultError) -> bool:
    """Tell whether Vault could not ask the service where people sign in, which may be starting: it says why in its log alone."""
    return "discovery URL" in _words(error)


def _words(error: exceptions.VaultError) -> str:
    # The text of the exception itself repeats method and address.
    found = cast("Any", error).errors
    return "; ".join(str(item) for item in found) if found else str(error).partition(", on ")[0]
