"""The passphrase that encrypts the secrets in the state."""

import base64
import functools
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from operations.errors import Failure

ROUNDS = 1_000_000
"""Rounds of PBKDF2, as the engine has it."""

BYTES = 32
"""Length of a generated passphrase before its encoding."""


def passphrase(file: Path, *, state_exists: bool) -> str:
    """Return the passphrase: of the shell, else of ``file``, which is made at the first use.

    Raises:
        Failure: there is a state, but nothing to open it with; or a new one would be encrypted with an empty passphrase.
    """
    if (given := os.environ.get("PULUMI_CONFIG_PASSPHRASE")) is not None:
        if not given and not state_exists:
            raise Failure(
                "PULUMI_CONFIG_PASSPHRASE is empty, so that anybody could read the secrets: set it to a passphrase, or unset it to have "
                "one made."
            )
        return given
    if named := os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
        try:
            return Path(named).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"PULUMI_CONFIG_PASSPHRASE_FILE names {named}, which can't be read: {error}.") from error
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        if state_exists:
            raise Failure(
                f"The stack has a state, but its passphrase is missing: put the file {file} back, or set PULUMI_CONFIG_PASSPHRASE. "
                "Without it the secrets can't be read."
            ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"The passphrase in {file} can't be read: {error}.") from error
    return _make(file)


def _make(file: Path) -> str:
    made = base64.urlsafe_b64encode(secrets.token_bytes(BYTES)).decode()
    file.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place when complete: a run that is killed here must not leave an empty passphrase for the next one to encrypt with.
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(f"{made}\n")
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(draft, file)
    except FileExistsError:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    finally:
        draft.unlink()
    return made


class Cipher:
    """Opens what a stack's secrets are encrypted with."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)
        self._key = key

    def open(self, encrypted: str) -> str:
        """Decrypt a value of the form ``v1:<nonce>:<encrypted>``.

        Raises:
            WrongPassphraseError: it was encrypted with another key.
        """
        from cryptography.exceptions import InvalidTag

        _, nonce, content = encrypted.split(":")
        try:
            return self._cipher.decrypt(base64.b64decode(nonce), base64.b64decode(content), None).decode()
        except InvalidTag as error:
            raise WrongPassphraseError from error

    def seal(self, content: bytes) -> str:
        """Return a digest that only who has the passphrase can make or check: it proves the content, and gives nothing of it away."""
        return hmac.new(self._key, b"aikit seal\0" + content, hashlib.sha256).hexdigest()


class WrongPassphraseError(Exception):
    """The passphrase does not belong to the state."""


@functools.cache
def cipher(passphrase: str, salt: str) -> Cipher:
    """Return the cipher of a state; takes half a second of computing, once in a process.

    Args:
        passphrase: of the stack.
        salt: as the state has it, ``v1:<salt>:<encrypted "pulumi">``.

    Raises:
        WrongPassphraseError: the passphrase does not belong to the state.
    """
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    _, salt_text, sample = salt.split(":", 2)
    made = Cipher(PBKDF2HMAC(SHA256(), 32, base64.b64decode(salt_text), ROUNDS).derive(passphrase.encode()))
    made.open(sample)
    return made
