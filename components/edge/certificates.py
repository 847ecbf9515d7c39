"""TLS certificates: an authority of the platform's own with a certificate for every public host, or the user's files."""

import dataclasses
from collections.abc import Mapping, Sequence

import pulumi
import pulumi_tls as tls

from components.edge import own_certificate
from components.secrets.rotation import Replacement, Rotation
from settings import Settings

AUTHORITY = Rotation(
    replacement=Replacement.FORCED,
    reason="people's machines trust the authority of this key, and would have to install another one.",
)

COMMON_NAME_LENGTH = 64
"""Most characters of a certificate's common name (RFC 5280, ub-common-name)."""

AUTHORITY_HOURS = 3650 * 24
"""Ten years: people install the authority on their machines once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate for inside, and the authority that vouches for it."""

    certificate: pulumi.Output[str]
    """PEM."""
    key: pulumi.Output[str]
    """PEM; secret."""
    authority: pulumi.Output[str]
    """PEM."""


class Certificates(pulumi.ComponentResource):
    """The certificate of the public host names and the authority that containers trust."""

    authority: pulumi.Output[str]
    """PEM of the authority; of the given certificate's chain if the files are the user's."""
    bundle: pulumi.Output[str]
    """PEM of certificate and private key, as HAProxy reads it; secret."""

    def __init__(self, settings: Settings, hosts: Sequence[str]) -> None:
        super().__init__("aikit:edge:Certificates", "certificates")
        chosen = settings.certificates
        self._validity = chosen
        self._signer: _Authority | None = None
        self._secrets: dict[str, pulumi.Output[str]] = {}
        self.rotations: dict[str, Rotation] = {}
        """How the private keys are rotated; each with its certificate."""
        if chosen.source == "files":
            certificate, key = own_certificate.read(chosen.certificate_file, chosen.key_file, hosts)
            self.authority = pulumi.Output.from_input(certificate)
            self.bundle = pulumi.Output.secret(f"{certificate.rstrip()}\n{key}")
        else:
            public = self.issue("certificate", [settings.domain, *hosts], service="haproxy")
            self.authority = public.authority
            self.bundle = pulumi.Output.secret(pulumi.Output.concat(public.certificate, public.authority, public.key))
        self.register_outputs({"authority": self.authority})

    def issue(self, name: str, hosts: Sequence[str], addresses: Sequence[str] = (), *, service: str) -> Issued:
        """Make a certificate of the platform's own authority, which is made with the first one.

        Args:
            name: of the resource.
            hosts: that it is valid for; people are shown the first one.
            addresses: IP addresses that it is valid for.
            service: that shows it.
        """
        options = pulumi.ResourceOptions(parent=self)
        signer = self._authority()
        key = tls.PrivateKey(f"{name}-key", tls.PrivateKeyArgs(algorithm="ECDSA", ecdsa_curve="P256"), options)
        request = tls.CertRequest(
            f"{name}-request",
            tls.CertRequestArgs(
                private_key_pem=key.private_key_pem,
                subject=tls.CertRequestSubjectArgs(
                    # It is only shown; longer ones are refused (RFC 5280, appendix A: ub-common-name).
                    common_name=hosts[0] if len(hosts[0]) <= COMMON_NAME_LENGTH else "AI Kit"
                ),
                dns_names=[*hosts],
                ip_addresses=[*addresses] or None,
            ),
            options,
        )
        certificate = tls.LocallySignedCert(
            name,
            tls.LocallySignedCertArgs(
                cert_request_pem=request.cert_request_pem,
                ca_private_key_pem=signer.key,
                ca_cert_pem=signer.certificate,
                set_subject_key_id=True,
                validity_period_hours=self._validity.validity_days * 24,
                early_renewal_hours=self._validity.renewal_days * 24,
                allowed_uses=["digital_signature", "key_encipherment", "server_auth"],
            ),
            options,
        )
        self._secrets[f"{name}-key"] = key.private_key_pem
        # A new key comes with a new certificate, so it is due when the certificate would be renewed.
        days = self._validity.validity_days - self._validity.renewal_days
        self.rotations[f"{name}-key"] = Rotation(days=days, services=(service,))
        return Issued(certificate=certificate.cert_pem, key=key.private_key_pem, authority=signer.certificate)

    def sign_authority(
        self, name: str, request: pulumi.Input[str], options: pulumi.ResourceOptions
    ) -> pulumi.Output[str]:
        """Make the certificate of another authority, whose key is elsewhere; that one can sign none of its own kind.

        It is valid twice as long as a certificate and its renewal take, and renewed at half, so that what the other authority issues
        for as long as the platform's own certificates are valid always ends before it does.

        Args:
            name: of the resource.
            request: PEM of what the holder of the key asks for.
            options: of the resource.
        """
        signer = self._authority()
        hours = (self._validity.validity_days + self._validity.renewal_days) * 24
        return tls.LocallySignedCert(
            name,
            tls.LocallySignedCertArgs(
                cert_request_pem=request,
                ca_private_key_pem=signer.key,
                ca_cert_pem=signer.certificate,
                is_ca_certificate=True,
                max_path_length=0,
                set_subject_key_id=True,
                validity_period_hours=2 * hours,
                early_renewal_hours=hours,
                allowed_uses=["cert_signing", "crl_signing"],
            ),
            options,
        ).cert_pem

    def _authority(self) -> "_Authority":
        """Return the platform's own authority, which is made when it is first asked for."""
        if self._signer is None:
            self._signer = _authority(pulumi.ResourceOptions(parent=self))
            self._secrets["authority-key"] = self._signer.key
            self.rotations["authority-key"] = AUTHORITY
        return self._signer

    @property
    def authority_key(self) -> pulumi.Output[str]:
        """PEM of the key of the platform's own authority; secret. It is the one that changes least."""
        return self._authority().key

    @property
    def secrets(self) -> Mapping[str, pulumi.Output[str]]:
        """What of it must not get lost or out, by name: the public certificate with its key, and all other keys."""
        return {"certificate-bundle": self.bundle, **self._secrets}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Authority:
    certificate: pulumi.Output[str]
    key: pulumi.Output[str]


def _authority(options: pulumi.ResourceOptions) -> _Authority:
    key = tls.PrivateKey("authority-key", tls.PrivateKeyArgs(algorithm="ECDSA", ecdsa_curve="P256"), options)
    authority = tls.SelfSignedCert(
        "authority",
        tls.SelfSignedCertArgs(
            private_key_pem=key.private_key_pem,
            subject=tls.SelfSignedCertSubjectArgs(common_name="AI Kit authority", organization="AI Kit"),
            is_ca_certificate=True,
            set_subject_key_id=True,
            validity_period_hours=AUTHORITY_HOURS,
            allowed_uses=["cert_signing", "crl_signing"],
        ),
        options,
    )
    return _Authority(certificate=authority.cert_pem, key=key.private_key_pem)
