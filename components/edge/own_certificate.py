"""A certificate of people's own, looked at before anything is changed: the proxy would not start with one that is wrong."""

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from settings import SettingsError, named_file

CERTIFICATE, KEY = "certificates-certificate-file", "certificates-key-file"
"""The settings that name the two files."""


def read(certificate_file: str, key_file: str, hosts: Sequence[str]) -> tuple[str, str]:
    """Return the PEM texts of the certificate with its chain, and of its key.

    Args:
        certificate_file: the certificate of the hosts first, then those that vouch for it.
        key_file: its private key, without a passphrase.
        hosts: that it must be valid for.

    Raises:
        SettingsError: a file cannot be read, they do not belong together, or the certificate is of no use for these hosts now.
    """
    certificate, key = _text(CERTIFICATE, certificate_file), _text(KEY, key_file)
    problems = list(_problems(certificate_file, certificate, key_file, key, hosts))
    if problems:
        raise SettingsError(tuple(problems))
    return certificate, key


def _text(setting: str, file: str) -> str:
    try:
        return named_file(file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError((f"{setting} is {file!r}, which cannot be read as PEM: {error}.",)) from error


def _problems(certificate_file: str, certificate: str, key_file: str, key: str, hosts: Sequence[str]) -> Sequence[str]:
    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError as error:
        return [f"{CERTIFICATE} is {certificate_file!r}, which has no certificate in PEM: {error}."]
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError) as error:
        return [f"{KEY} is {key_file!r}, which has no private key in PEM without a passphrase: {error}."]
    found: list[str] = []
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if chain[0].public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
        found.append(
            f"{KEY} is {key_file!r}, but the first certificate of {certificate_file!r} is for another key;"
            " the certificate of the key must come first, those that vouch for it after it."
        )
    now = datetime.datetime.now(datetime.UTC)
    begin, end = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
    if not begin <= now < end:
        found.append(
            f"{CERTIFICATE} is {certificate_file!r}, which is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, and not now."
        )
    names = _names(chain[0])
    if missing := [host for host in hosts if not _covered(host, names)]:
        found.append(
            f"{CERTIFICATE} is {certificate_file!r}, which is for {', '.join(sorted(names)) or 'no host'},"
            f" but not for {', '.join(missing)}."
        )
    return found


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()  # Browsers have not looked at the common name for years.
    return {name.lower() for name in names.get_values_for_type(x509.DNSName)}


def _covered(host: str, names: set[str]) -> bool:
    """Whether one of the names is the host's; a wildcard stands for one label (RFC 6125, 6.4.3)."""
    _, _, parent = host.lower().partition(".")
    return host.lower() in names or f"*.{parent}" in names
