"""The passphrase that encrypts the secrets in the state."""

import base64
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
        Failure: there is a state, but nothing to open it with.
    """
    if (given := os.environ.get("PULUMI_CONFIG_PASSPHRASE")) is not None:
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


def fits(passphrase: str, salt: str) -> bool:
    """Whether ``passphrase`` opens a state with this ``salt``; takes half a second of computing.

    The engine's form is ``v1:<salt>:v1:<nonce>:<encrypted "pulumi">``; another one is left for the engine to judge.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    try:
        version, salt_text, cipher_version, nonce, encrypted = salt.split(":")
        if (version, cipher_version) != ("v1", "v1"):
            return True
        key = PBKDF2HMAC(SHA256(), 32, base64.b64decode(salt_text), ROUNDS).derive(passphrase.encode())
        AESGCM(key).decrypt(base64.b64decode(nonce), base64.b64decode(encrypted), None)
    except ValueError:
        return True
    except InvalidTag:
        return False
    return True
