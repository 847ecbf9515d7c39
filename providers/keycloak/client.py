"""A small client of Keycloak's admin REST API."""

import contextlib
import dataclasses
import http
import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, cast

import httpx

from providers.resource import ProviderError, pause

STARTUP_SECONDS = 60.0
"""How long a request is repeated while Keycloak refuses connections or answers 503, as it does while it starts."""

_RETRY_SECONDS = 1.0
_TOKEN_MARGIN_SECONDS = 10.0

# On a small machine a realm takes longer than the official default of 5 s, and repeating its creation is a conflict.
ANSWER_SECONDS = 120.0
"""How long an answer may take."""


class ApiError(ProviderError):
    """Keycloak refused a request."""


class NotFoundError(ApiError):
    """What the request is about does not exist."""


class ConflictError(ApiError):
    """Something of that name exists already."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Where Keycloak is and who logs in."""

    url: str
    """The address without the base path, such as ``https://auth.example.org``."""
    admin_url: str = ""
    """The address of the admin API where it differs from ``url``."""
    base_path: str = ""
    """``/auth`` for the old layout, empty since Keycloak 17."""
    realm: str = "master"
    client_id: str = ""
    client_secret: str = ""
    username: str = ""
    password: str = ""
    access_token: str = ""
    """A ready token, used as it is instead of a login."""
    timeout: float = 15.0
    """Seconds for a connection; an answer may take longer."""
    answer_seconds: float = ANSWER_SECONDS
    root_ca_certificate: str = ""
    """PEM text of a root to trust beside the system's."""
    tls_insecure_skip_verify: bool = False
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    startup_seconds: float = STARTUP_SECONDS


class Keycloak:
    """Requests to one Keycloak, safe to use from several threads. It logs in at the first request, not before."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._login_url = settings.url.rstrip("/") + settings.base_path
        self._admin_url = (settings.admin_url or settings.url).rstrip("/") + settings.base_path + "/admin"
        self._http = httpx.Client(
            verify=_tls(settings),
            timeout=httpx.Timeout(max(settings.timeout, settings.answer_seconds), connect=settings.timeout),
            headers=dict(settings.headers),
        )
        self._lock = threading.Lock()
        self._token = settings.access_token
        self._token_ends = float("inf") if settings.access_token else 0.0

    def get(self, *path: str, **query: str) -> Any:
        """Return what is at a path.

        Raises:
            NotFoundError: nothing is there.
            ApiError: Keycloak refused.
        """
        return self._request("GET", path, query=query).json()

    def find(self, *path: str, **query: str) -> Any:
        """Return what is at a path, or None if nothing is."""
        try:
            return self.get(*path, **query)
        except NotFoundError:
            return None

    def post(self, *path: str, body: Any) -> str:
        """Create something and return the last part of its address, which is its identifier for most types.

        Raises:
            ConflictError: it exists already.
        """
        location = self._request("POST", path, body=body).headers.get("Location", "")
        return urllib.parse.unquote(location.rstrip("/").rpartition("/")[2])

    def put(self, *path: str, body: Any = None) -> None:
        """Change something, or put it in place."""
        self._request("PUT", path, body=body)

    def delete(self, *path: str, body: Any = None) -> None:
        """Remove something; that it is gone already is no error."""
        with contextlib.suppress(NotFoundError):
            self._request("DELETE", path, body=body)

    def forget_token(self) -> None:
        """Log in anew at the next request: a token has no rights on a realm that is younger than itself."""
        with self._lock:
            if not self._settings.access_token:
                self._token_ends = 0.0

    def _request(
        self, method: str, path: tuple[str, ...], *, body: Any = None, query: Mapping[str, str] | None = None
    ) -> httpx.Response:
        url = "/".join([self._admin_url, *(urllib.parse.quote(part, safe="") for part in path)])
        token = self._login()
        response = self._send(method, url, token=token, body=body, query=query)
        if response.status_code in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            # The token may have been revoked, or be older than the realm that it is for.
            renewed = self._login(stale=token)
            if renewed != token:
                response = self._send(method, url, token=renewed, body=body, query=query)
        if response.is_success:
            return response
        kind = {http.HTTPStatus.NOT_FOUND: NotFoundError, http.HTTPStatus.CONFLICT: ConflictError}.get(
            http.HTTPStatus(response.status_code), ApiError
        )
        raise kind(f"Keycloak answers {method} /{'/'.join(path)} with {response.status_code}: {_reason(response)}")

    def _login(self, stale: str | None = None) -> str:
        """Return a valid access token other than ``stale``."""
        with self._lock:
            if time.monotonic() < self._token_ends and self._token != stale:
                return self._token
            if self._settings.access_token:
                return self._token
            who, form = self._credentials()
            realm = self._settings.realm
            url = f"{self._login_url}/realms/{urllib.parse.quote(realm, safe='')}/protocol/openid-connect/token"
            response = self._send("POST", url, form=form)
            if not response.is_success:
                raise ProviderError(
                    f"Keycloak at {self._login_url} refuses the login of {who} in the realm '{realm}':"
                    f" {_reason(response)}"
                )
            answer = response.json()
            self._token = str(answer["access_token"])
            self._token_ends = time.monotonic() + max(float(answer["expires_in"]) - _TOKEN_MARGIN_SECONDS, 1.0)
            return self._token

    def _credentials(self) -> tuple[str, dict[str, str]]:
        """Return who logs in, for messages, and the form for it."""
        settings = self._settings
        form = {"client_id": settings.client_id}
        if settings.client_secret:
            form["client_secret"] = settings.client_secret
        if settings.username and settings.password and settings.client_id:
            credentials = {"grant_type": "password", "username": settings.username, "password": settings.password}
            return f"the user '{settings.username}'", form | credentials
        if settings.client_id and settings.client_secret:
            return f"the client '{settings.client_id}'", form | {"grant_type": "client_credentials"}
        raise ProviderError(
            "the Keycloak provider has no credentials:"
            " set clientId and clientSecret, or clientId, username and password"
        )

    def _send(
        self,
        method: str,
        url: str,
        *,
        token: str = "",
        body: Any = None,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send one request, again and again while Keycloak is starting."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        deadline = time.monotonic() + self._settings.startup_seconds
        while True:
            try:
                response = self._http.request(method, url, headers=headers, json=body, data=form, params=query or None)
                failure = "it answers 503"
                again = response.status_code == http.HTTPStatus.SERVICE_UNAVAILABLE
                if not again:
                    return response
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                # Nothing was sent, so that repeating is safe; a certificate will not become valid by waiting.
                failure, again = str(error) or type(error).__name__, not _is_tls_failure(error)
            except httpx.HTTPError as error:
                failure, again = str(error) or type(error).__name__, False
            if not again or time.monotonic() + _RETRY_SECONDS > deadline:
                raise ProviderError(f"Keycloak at {self._login_url} cannot be reached: {failure}")
            pause(_RETRY_SECONDS)


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        if settings.root_ca_certificate:
            context.load_verify_locations(cadata=settings.root_ca_certificate)
    except (ssl.SSLError, ValueError) as error:
        raise ProviderError(f"rootCaCertificate of the Keycloak provider is no PEM certificate: {error}") from error
    if settings.tls_insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _is_tls_failure(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(response: httpx.Response) -> str:
    """Return what Keycloak says about a failure: each of its endpoints names it differently."""
    try:
        answer: Any = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return response.reason_phrase
    if isinstance(answer, dict):
        for key in ("errorMessage", "error_description", "error"):
            if text := cast("dict[str, Any]", answer).get(key):
                return str(text)
    return response.reason_phrase
