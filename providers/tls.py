"""The TLS provider: keys, certificate requests and certificates that are made once and then live in the state."""

import base64
import datetime
import hashlib
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from providers.resource import Created, Properties, Property, ProviderError, ResourceType
from providers.server import Provider

_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_CURVES: dict[str, Callable[[], ec.EllipticCurve]] = {
    "P224": ec.SECP224R1,
    "P256": ec.SECP256R1,
    "P384": ec.SECP384R1,
    "P521": ec.SECP521R1,
}
_SUBJECT = {
    "commonName": NameOID.COMMON_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "country": NameOID.COUNTRY_NAME,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "postalCode": NameOID.POSTAL_CODE,
    "serialNumber": NameOID.SERIAL_NUMBER,
}
_KEY_USES = {
    "digital_signature": "digital_signature",
    "content_commitment": "content_commitment",
    "key_encipherment": "key_encipherment",
    "data_encipherment": "data_encipherment",
    "key_agreement": "key_agreement",
    "cert_signing": "key_cert_sign",
    "crl_signing": "crl_sign",
    "encipher_only": "encipher_only",
    "decipher_only": "decipher_only",
}
_EXTENDED_USES = {
    "any_extended": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code_signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email_protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp_signing": ExtendedKeyUsageOID.OCSP_SIGNING,
}
_NAMES = {
    "dnsNames": Property(replaces=True),
    "ipAddresses": Property(replaces=True),
    "uris": Property(replaces=True),
}
_VALIDITY = {
    "allowedUses": Property(required=True, replaces=True),
    "validityPeriodHours": Property(required=True, replaces=True),
    "earlyRenewalHours": Property(default=0),
    "isCaCertificate": Property(replaces=True, default=False),
    "maxPathLength": Property(replaces=True),
    "setSubjectKeyId": Property(replaces=True, default=False),
}


class _Made(ResourceType[None]):
    """What is made once and has no system behind it but the state."""

    def read(self, client: None, identifier: str, outputs: Properties) -> Properties | None:
        """Return what the state has, and whether it must be renewed by now."""
        if not outputs:
            raise ProviderError(f"{self.token} cannot be imported")
        return {"readyForRenewal": _due(outputs)} if "validityEndTime" in outputs else {}

    def outdated(self, outputs: Properties) -> frozenset[str]:
        """Ask for a replacement within ``earlyRenewalHours`` of the end."""
        return frozenset({"readyForRenewal"}) if "validityEndTime" in outputs and _due(outputs) else frozenset()

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse uses that no certificate knows."""
        unknown = sorted(set(inputs.get("allowedUses") or ()) - _KEY_USES.keys() - _EXTENDED_USES.keys())
        return {"allowedUses": f"does not know {', '.join(unknown)}"} if unknown else {}

    def update(self, client: None, identifier: str, inputs: Properties, outputs: Properties) -> Properties:
        """Take a new time of renewal; nothing else changes in place."""
        made = {name: value for name, value in outputs.items() if name not in self.properties}
        return made | {"readyForRenewal": _due({**outputs, **inputs})}

    def delete(self, client: None, identifier: str, outputs: Properties) -> None:
        """Do nothing: the state was all there was."""


class PrivateKey(_Made):
    """A key of the algorithm ``RSA`` (``rsaBits``, 2048), ``ECDSA`` (``ecdsaCurve``, P224) or ``ED25519``."""

    token: ClassVar[str] = "tls:index/privateKey:PrivateKey"
    properties: ClassVar[Mapping[str, Property]] = {
        "algorithm": Property(required=True, replaces=True),
        "rsaBits": Property(replaces=True),
        "ecdsaCurve": Property(replaces=True),
    }
    secret_outputs: ClassVar[frozenset[str]] = frozenset({"privateKeyPem", "privateKeyOpenssh", "privateKeyPemPkcs8"})

    def check(self, inputs: Properties) -> Mapping[str, str]:
        """Refuse an algorithm or curve that is not known."""
        wrong: dict[str, str] = {}
        if inputs.get("algorithm", "RSA") not in {"RSA", "ECDSA", "ED25519"}:
            wrong["algorithm"] = "must be RSA, ECDSA or ED25519"
        if inputs.get("ecdsaCurve", "P224") not in _CURVES:
            wrong["ecdsaCurve"] = f"must be one of {', '.join(_CURVES)}"
        return wrong

    def create(self, client: None, inputs: Properties) -> Created:
        """Make the key."""
        bits, curve = inputs.get("rsaBits") or 2048, inputs.get("ecdsaCurve") or "P224"
        key: _Key
        if inputs["algorithm"] == "RSA":
            key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        elif inputs["algorithm"] == "ECDSA":
            key = ec.generate_private_key(_CURVES[curve]())
        else:
            key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        traditional = (
            pkcs8 if isinstance(key, ed25519.Ed25519PrivateKey) else serialization.PrivateFormat.TraditionalOpenSSL
        )
        outputs: dict[str, Any] = {
            "rsaBits": bits,
            "ecdsaCurve": curve,
            "privateKeyPem": _private(key, traditional),
            "privateKeyPemPkcs8": _private(key, pkcs8),
            "publicKeyPem": public.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo).decode(),
            "privateKeyOpenssh": "",
            "publicKeyOpenssh": "",
            "publicKeyFingerprintMd5": "",
            "publicKeyFingerprintSha256": "",
        }
        # OpenSSH has no such curve, and neither has the official provider anything to say then.
        if not (inputs["algorithm"] == "ECDSA" and curve == "P224"):
            line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
            blob = base64.b64decode(line.split()[1])
            digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
            sha256 = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
            outputs |= {
                "privateKeyOpenssh": _private(key, serialization.PrivateFormat.OpenSSH),
                "publicKeyOpenssh": f"{line}\n",
                "publicKeyFingerprintMd5": ":".join(digest[place : place + 2] for place in range(0, len(digest), 2)),
                "publicKeyFingerprintSha256": f"SHA256:{sha256}",
            }
        return Created(identifier=hashlib.sha1(der, usedforsecurity=False).hexdigest(), outputs=outputs)


class SelfSignedCert(_Made):
    """A certificate signed with its own key, such as the root of a CA."""

    token: ClassVar[str] = "tls:index/selfSignedCert:SelfSignedCert"
    properties: ClassVar[Mapping[str, Property]] = {
        "privateKeyPem": Property(required=True, replaces=True, secret=True),
        "subject": Property(replaces=True),
        "setAuthorityKeyId": Property(replaces=True, default=False),
        **_NAMES,
        **_VALIDITY,
    }

    def create(self, client: None, inputs: Properties) -> Created:
        """Make and sign the certificate."""
        key = _key(inputs["privateKeyPem"])
        subject, public = _subject(inputs), key.public_key()
        extensions = _names(inputs)
        if inputs["setAuthorityKeyId"]:
            extensions.append(x509.AuthorityKeyIdentifier.from_issuer_public_key(public))
        return _certificate(
            inputs, subject, public, issuer=subject, signer=key, extensions=extensions, algorithm="keyAlgorithm"
        )


class CertRequest(_Made):
    """A request that a CA makes a certificate from."""

    token: ClassVar[str] = "tls:index/certRequest:CertRequest"
    properties: ClassVar[Mapping[str, Property]] = {
        "privateKeyPem": Property(required=True, replaces=True, secret=True),
        "subject": Property(replaces=True),
        **_NAMES,
    }

    def create(self, client: None, inputs: Properties) -> Created:
        """Make and sign the request."""
        key = _key(inputs["privateKeyPem"])
        builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(inputs))
        for extension in _names(inputs):
            builder = builder.add_extension(extension, critical=False)
        pem = builder.sign(key, _digest(key)).public_bytes(serialization.Encoding.PEM).decode()
        outputs = {"certRequestPem": pem, "keyAlgorithm": _algorithm(key)}
        return Created(identifier=hashlib.sha1(pem.encode(), usedforsecurity=False).hexdigest(), outputs=outputs)


class LocallySignedCert(_Made):
    """A certificate that a CA in the same program signs."""

    token: ClassVar[str] = "tls:index/locallySignedCert:LocallySignedCert"
    properties: ClassVar[Mapping[str, Property]] = {
        "caPrivateKeyPem": Property(required=True, replaces=True, secret=True),
        "caCertPem": Property(required=True, replaces=True),
        "certRequestPem": Property(required=True, replaces=True),
        **_VALIDITY,
    }

    def create(self, client: None, inputs: Properties) -> Created:
        """Make the certificate that the request asks for, names included."""
        key = _key(inputs["caPrivateKeyPem"])
        try:
            authority = x509.load_pem_x509_certificate(inputs["caCertPem"].encode())
            request = x509.load_pem_x509_csr(inputs["certRequestPem"].encode())
        except ValueError as error:
            raise ProviderError(f"caCertPem or certRequestPem is not PEM: {error}") from error
        extensions: list[x509.ExtensionType] = [
            item.value for item in request.extensions if isinstance(item.value, x509.SubjectAlternativeName)
        ]
        try:
            issuer_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            extensions.append(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id))
        except x509.ExtensionNotFound:
            extensions.append(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()))
        public = cast("_PublicKey", request.public_key())
        return _certificate(
            inputs,
            request.subject,
            public,
            issuer=authority.subject,
            signer=key,
            extensions=extensions,
            algorithm="caKeyAlgorithm",
        )


class TlsProvider(Provider[None]):
    """``pulumi-tls``."""

    name: ClassVar[str] = "tls"
    configuration: ClassVar[Mapping[str, Property]] = {}
    resources: ClassVar[tuple[type[ResourceType[Any]], ...]] = (
        PrivateKey,
        SelfSignedCert,
        CertRequest,
        LocallySignedCert,
    )

    def connect(self, configuration: Properties) -> None:
        """Connect to nothing."""


def _certificate(
    inputs: Properties,
    subject: x509.Name,
    public: _PublicKey,
    *,
    issuer: x509.Name,
    signer: _Key,
    extensions: list[x509.ExtensionType],
    algorithm: str,
) -> Created:
    start = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    end = start + datetime.timedelta(hours=inputs["validityPeriodHours"])
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(issuer, subject, public, serial, start, end)
    uses = set(inputs["allowedUses"])
    if uses & _KEY_USES.keys():
        usage = x509.KeyUsage(**{argument: name in uses for name, argument in _KEY_USES.items()})
        builder = builder.add_extension(usage, critical=True)
    extended: list[ObjectIdentifier] = [
        _EXTENDED_USES[name] for name in inputs["allowedUses"] if name in _EXTENDED_USES
    ]
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    authority = inputs["isCaCertificate"]
    length = inputs.get("maxPathLength") if authority else None
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=length), critical=True)
    # A CA always carries its key's identifier, which is what the certificates it signs refer to.
    if inputs["setSubjectKeyId"] or authority:
        extensions = [*extensions, x509.SubjectKeyIdentifier.from_public_key(public)]
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    outputs = {
        "certPem": builder.sign(signer, _digest(signer)).public_bytes(serialization.Encoding.PEM).decode(),
        algorithm: _algorithm(signer),
        "validityStartTime": start.isoformat().replace("+00:00", "Z"),
        "validityEndTime": end.isoformat().replace("+00:00", "Z"),
    }
    return Created(identifier=str(serial), outputs={**outputs, "readyForRenewal": _due({**inputs, **outputs})})


def _due(outputs: Properties) -> bool:
    end = datetime.datetime.fromisoformat(outputs["validityEndTime"])
    early = datetime.timedelta(hours=outputs.get("earlyRenewalHours") or 0)
    return datetime.datetime.now(datetime.UTC) >= end - early


def _key(pem: str) -> _Key:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (TypeError, ValueError):
        # The library's words could repeat parts of the key.
        raise ProviderError("the private key is not an unencrypted key in PEM form") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ProviderError("the private key is neither RSA nor ECDSA nor ED25519")
    return key


def _private(key: _Key, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _digest(key: _Key) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256:  # noqa: PLR2004 - bits, as the digest's
        return hashes.SHA384() if key.key_size <= 384 else hashes.SHA512()  # noqa: PLR2004
    return hashes.SHA256()


def _algorithm(key: _Key) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RSA"
    return "ECDSA" if isinstance(key, ec.EllipticCurvePrivateKey) else "ED25519"


def _subject(inputs: Properties) -> x509.Name:
    given: dict[str, Any] = inputs.get("subject") or {}
    attributes = [x509.NameAttribute(oid, given[name]) for name, oid in _SUBJECT.items() if given.get(name)]
    attributes += [x509.NameAttribute(NameOID.STREET_ADDRESS, line) for line in given.get("streetAddresses") or ()]
    return x509.Name(attributes)


def _names(inputs: Properties) -> list[x509.ExtensionType]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in inputs.get("dnsNames") or ()]
    try:
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in inputs.get("ipAddresses") or ()]
    except ValueError as error:
        raise ProviderError(f"ipAddresses: {error}") from error
    names += [x509.UniformResourceIdentifier(uri) for uri in inputs.get("uris") or ()]
    return [x509.SubjectAlternativeName(names)] if names else []
