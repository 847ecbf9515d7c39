"""The authority in Vault: it issues certificates for inside, to administrators, in the name of the platform's own authority."""

import pulumi
import pulumi_vault as vault

from components.context import Platform
from components.secrets import names

COMMON_NAME = "AI Kit authority in Vault"
CRL_HOURS = 72
"""How long a list of revoked certificates is valid; Vault makes the next one by itself half a day before its end."""


def declare(platform: Platform, options: pulumi.ResourceOptions) -> None:
    """Make an authority whose key is made in Vault and never leaves it, and whose certificate the platform's authority signs.

    Whoever trusts the platform's authority trusts what this one issues, and the key of that authority is in no engine of Vault.

    Args:
        platform: whose authority signs.
        options: with Vault's provider.
    """
    validity = platform.settings.certificates
    seconds = validity.validity_days * 24 * 3600
    mount = vault.Mount(
        "vault-pki",
        vault.MountArgs(
            path=names.PKI,
            type="pki",
            description="Certificates for inside",
            # Of the engine's roles; without it, Vault's own limit of 32 days holds.
            max_lease_ttl_seconds=seconds,
        ),
        options,
    )
    request = vault.pkisecret.SecretBackendIntermediateCertRequest(
        "vault-pki-request",
        vault.pkisecret.SecretBackendIntermediateCertRequestArgs(
            backend=mount.path,
            type="internal",
            common_name=COMMON_NAME,
            organization="AI Kit",
            key_type="ec",
            key_bits=256,
        ),
        options,
    )
    signed = vault.pkisecret.SecretBackendIntermediateSetSigned(
        "vault-pki-certificate",
        vault.pkisecret.SecretBackendIntermediateSetSignedArgs(
            backend=mount.path,
            certificate=platform.certificates.sign_authority(
                "vault-authority", request.csr, pulumi.ResourceOptions(parent=options.parent)
            ),
        ),
        options,
    )
    issuers = vault.pkisecret.SecretBackendConfigIssuers(
        "vault-pki-issuers",
        # A renewed certificate is another issuer to Vault.
        vault.pkisecret.SecretBackendConfigIssuersArgs(backend=mount.path, default=signed.imported_issuers[0]),
        options,
    )
    vault.pkisecret.SecretBackendConfigUrls(
        "vault-pki-addresses",
        vault.pkisecret.SecretBackendConfigUrlsArgs(
            backend=mount.path,
            issuing_certificates=[f"{platform.url(names.HOST)}/v1/{names.PKI}/ca"],
            crl_distribution_points=[f"{platform.url(names.HOST)}/v1/{names.PKI}/crl"],
        ),
        options,
    )
    vault.pkisecret.SecretBackendCrlConfig(
        "vault-pki-revocations",
        vault.pkisecret.SecretBackendCrlConfigArgs(backend=mount.path, expiry=f"{CRL_HOURS}h", auto_rebuild=True),
        options,
    )
    vault.pkisecret.SecretBackendRole(
        "vault-pki-role",
        vault.pkisecret.SecretBackendRoleArgs(
            backend=mount.path,
            name=names.PKI_ROLE,
            allowed_domains=[platform.settings.domain, *sorted(platform.services)],
            allow_bare_domains=True,
            allow_subdomains=True,
            allow_wildcard_certificates=False,
            allow_glob_domains=False,
            allow_any_name=False,
            allow_localhost=False,
            allow_ip_sans=False,
            enforce_hostnames=True,
            server_flag=True,
            client_flag=False,
            key_type="ec",
            key_bits=256,
            key_usages=["DigitalSignature"],
            ttl=str(seconds),
            max_ttl=str(seconds),
        ),
        pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[issuers])),
    )
