"""TLS certificates: an authority of the platform's own with a certificate for every public host, or the user's files."""

from collections.abc import Sequence

import pulumi
import pulumi_tls as tls

from settings import Settings, SettingsError, named_file

AUTHORITY_HOURS = 3650 * 24
"""Ten years: people install the authority on their machines once."""


class Certificates(pulumi.ComponentResource):
    """The certificate of the public host names and the authority that containers trust."""

    authority: pulumi.Output[str]
    """PEM of the authority; of the given certificate's chain if the files are the user's."""
    bundle: pulumi.Output[str]
    """PEM of certificate and private key, as HAProxy reads it; secret."""

    def __init__(self, settings: Settings, hosts: Sequence[str]) -> None:
        super().__init__("aikit:edge:Certificates", "certificates")
        options = pulumi.ResourceOptions(parent=self)
        chosen = settings.certificates
        if chosen.source == "files":
            certificate = _read("certificates-certificate-file", chosen.certificate_file)
            key = _read("certificates-key-file", chosen.key_file)
            self.authority = pulumi.Output.from_input(certificate)
            self.bundle = pulumi.Output.secret(f"{certificate.rstrip()}\n{key}")
        else:
            authority_key = tls.PrivateKey(
                "authority-key", tls.PrivateKeyArgs(algorithm="ECDSA", ecdsa_curve="P256"), options
            )
            authority = tls.SelfSignedCert(
                "authority",
                tls.SelfSignedCertArgs(
                    private_key_pem=authority_key.private_key_pem,
                    subject=tls.SelfSignedCertSubjectArgs(common_name="AI Kit authority", organization="AI Kit"),
                    is_ca_certificate=True,
                    set_subject_key_id=True,
                    validity_period_hours=AUTHORITY_HOURS,
                    allowed_uses=["cert_signing", "crl_signing"],
                ),
                options,
            )
            key = tls.PrivateKey("certificate-key", tls.PrivateKeyArgs(algorithm="ECDSA", ecdsa_curve="P256"), options)
            request = tls.CertRequest(
                "certificate-request",
                tls.CertRequestArgs(
                    private_key_pem=key.private_key_pem,
                    subject=tls.CertRequestSubjectArgs(common_name=settings.domain),
                    dns_names=[settings.domain, *hosts],
                ),
                options,
            )
            certificate = tls.LocallySignedCert(
                "certificate",
                tls.LocallySignedCertArgs(
                    cert_request_pem=request.cert_request_pem,
                    ca_private_key_pem=authority_key.private_key_pem,
                    ca_cert_pem=authority.cert_pem,
                    set_subject_key_id=True,
                    validity_period_hours=chosen.validity_days * 24,
                    early_renewal_hours=chosen.renewal_days * 24,
                    allowed_uses=["digital_signature", "key_encipherment", "server_auth"],
                ),
                options,
            )
            self.authority = authority.cert_pem
            self.bundle = pulumi.Output.secret(
                pulumi.Output.concat(certificate.cert_pem, authority.cert_pem, key.private_key_pem)
            )
        self.register_outputs({"authority": self.authority})


def _read(setting: str, file: str) -> str:
    try:
        return named_file(file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError((f"{setting} is {file!r}, which cannot be read as PEM: {error}.",)) from error
