"""Passwords, keys and certificates, through the real engine, as their consumers read them."""

# Values come from systems without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import ipaddress
import string
from collections.abc import Callable

import bcrypt
import pulumi
import pulumi_random
import pulumi_tls
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from providers.random import RandomId, RandomPassword
from providers.tls import PrivateKey, SelfSignedCert
from tests.providers.conftest import Program, Run


def _program(length: int, hours: int, early: int) -> Program:
    def program() -> None:
        password = pulumi_random.RandomPassword("password", length=length, override_special="-_", min_special=2)
        pulumi_random.RandomId("id", byte_length=8)
        key = pulumi_tls.PrivateKey("ca-key", algorithm="ECDSA", ecdsa_curve="P256")
        authority = pulumi_tls.SelfSignedCert(
            "ca",
            private_key_pem=key.private_key_pem,
            subject={"common_name": "Test CA", "organization": "aikit"},
            is_ca_certificate=True,
            set_subject_key_id=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=hours,
            early_renewal_hours=early,
        )
        server_key = pulumi_tls.PrivateKey("key", algorithm="RSA", rsa_bits=2048)
        request = pulumi_tls.CertRequest(
            "request",
            private_key_pem=server_key.private_key_pem,
            subject={"common_name": "chat.localhost"},
            dns_names=["chat.localhost", "*.localhost"],
            ip_addresses=["127.0.0.1"],
        )
        certificate = pulumi_tls.LocallySignedCert(
            "certificate",
            ca_private_key_pem=key.private_key_pem,
            ca_cert_pem=authority.cert_pem,
            cert_request_pem=request.cert_request_pem,
            allowed_uses=["digital_signature", "key_encipherment", "server_auth"],
            validity_period_hours=24,
        )
        pulumi.export("password", password.result)
        pulumi.export("key", server_key.private_key_pem)
        pulumi.export("ca", authority.cert_pem)
        pulumi.export("certificate", certificate.cert_pem)

    return program


def test_a_stack_of_secrets_and_certificates(stack: Callable[[Program], Run]) -> None:
    run = stack(_program(24, 48, 0))
    assert run.up() == {"create": 8}
    outputs = run.stack.outputs()
    assert outputs["password"].secret
    assert outputs["key"].secret
    password, authority = outputs["password"].value, x509.load_pem_x509_certificate(outputs["ca"].value.encode())
    certificate = x509.load_pem_x509_certificate(outputs["certificate"].value.encode())
    key = serialization.load_pem_private_key(outputs["key"].value.encode(), None)

    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["chat.localhost", "*.localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    assert certificate.public_key() == key.public_key()
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    plain = str(run.state())
    assert password not in plain
    assert "PRIVATE KEY" not in plain

    assert run.up(refresh=True) == {"same": 8}
    # Another length replaces the password alone; a renewal that became due replaces what hangs on the certificate too.
    assert run.up(_program(32, 48, 0)) == {"same": 7, "replace": 1}
    assert run.up(_program(32, 48, 49)) == {"same": 7, "update": 1}
    assert run.preview() == {"same": 6, "replace": 2}
    assert run.stack.outputs()["password"].value != password


def test_a_password_keeps_to_its_classes() -> None:
    inputs = {"length": 12, "lower": False, "upper": True, "numeric": True, "special": True, "overrideSpecial": "-"}
    inputs |= {"minLower": 0, "minUpper": 3, "minNumeric": 3, "minSpecial": 3}
    made = RandomPassword().create(None, inputs).outputs
    result = made["result"]
    assert len(result) == 12
    assert set(result) <= set(string.ascii_uppercase + string.digits + "-")
    assert result.count("-") >= 3
    assert sum(character.isdigit() for character in result) >= 3
    assert bcrypt.checkpw(result.encode(), made["bcryptHash"].encode())
    assert RandomPassword().check({"length": 5, "minUpper": 6}) == {"length": "must be at least 6"}


def test_an_id_can_be_imported() -> None:
    made = RandomId().create(None, {"byteLength": 8, "prefix": ""})
    imported = RandomId().read(None, made.identifier, {})
    assert imported == {"byteLength": 8, **made.outputs}


def test_keys_of_every_kind_sign_a_certificate() -> None:
    base = {"subject": {"commonName": "x"}, "allowedUses": ["digital_signature"], "validityPeriodHours": 1}
    base |= {"isCaCertificate": False, "setSubjectKeyId": True, "setAuthorityKeyId": True, "earlyRenewalHours": 0}
    for kind in ({"algorithm": "ECDSA", "ecdsaCurve": "P384"}, {"algorithm": "ED25519"}, {"algorithm": "RSA"}):
        key = PrivateKey().create(None, kind).outputs
        made = SelfSignedCert().create(None, {**base, "privateKeyPem": key["privateKeyPem"]}).outputs
        assert made["keyAlgorithm"] == kind["algorithm"]
        assert not made["readyForRenewal"]
        certificate = x509.load_pem_x509_certificate(made["certPem"].encode())
        certificate.verify_directly_issued_by(certificate)
        assert key["publicKeyOpenssh"].startswith(("ecdsa-", "ssh-"))
        assert SelfSignedCert().outdated({**made, "earlyRenewalHours": 2}) == {"readyForRenewal"}
