"""The request for a code of OpenID Connect, as any client with PKCE makes it."""

import base64
import hashlib
import secrets


def code_request(redirect_uri: str) -> tuple[dict[str, str], str]:
    """Return the query by which the chat's client asks for a code, and the verifier that its token is got with."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = {
        "client_id": "open-webui",
        "response_type": "code",
        "scope": "openid",
        "redirect_uri": redirect_uri,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return query, verifier
