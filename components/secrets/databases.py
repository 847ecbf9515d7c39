"""The database engine in Vault: it makes the passwords of the databases' roles, and is the only one that keeps them."""

import json
from collections.abc import Sequence

import pulumi
import pulumi_vault as vault

from components.context import Platform
from components.secrets import names

NEVER_SECONDS = 10 * 365 * 24 * 3600
"""After this time Vault would make another password by itself, of which nobody told those who use it; a deployment does both."""


def declare(platform: Platform, server: str, made: Sequence[pulumi.Resource]) -> Sequence[pulumi.Resource]:
    """Let Vault make the password of each database's role, at first and whenever its generation is another one.

    Args:
        platform: with the databases that its services ask for.
        server: host and port of PostgreSQL.
        made: what makes the databases and the role by which Vault works there.

    Returns:
        What those wait for who need the passwords.
    """
    options = platform.vault_options
    databases = platform.databases()
    mount = vault.Mount(
        "vault-databases",
        vault.MountArgs(path=names.DATABASES, type="database", description="Passwords of the databases' roles"),
        options,
    )
    connection = vault.database.SecretBackendConnection(
        "vault-databases-server",
        vault.database.SecretBackendConnectionArgs(
            backend=mount.path,
            name=names.DATABASE_SERVER,
            allowed_roles=sorted(databases),
            postgresql=vault.database.SecretBackendConnectionPostgresqlArgs(
                connection_url=f"postgresql://{{{{username}}}}:{{{{password}}}}@{server}/postgres?sslmode=disable",
                username=names.DATABASE_USER,
                password=platform.secret(names.DATABASE_SECRET),
                # Vault sends a hash, so that no log of the server can have the password.
                password_authentication="scram-sha-256",  # noqa: S106 -- the name of a method
            ),
        ),
        pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=made)),
    )
    return [
        _role(database, generation, mount, connection, options) for database, generation in sorted(databases.items())
    ]


def _role(
    database: str,
    generation: pulumi.Output[str],
    mount: vault.Mount,
    connection: vault.database.SecretBackendConnection,
    options: pulumi.ResourceOptions,
) -> vault.generic.Endpoint:
    role = vault.database.SecretBackendStaticRole(
        f"vault-database-{database}",
        vault.database.SecretBackendStaticRoleArgs(
            backend=mount.path,
            name=database,
            db_name=connection.name,
            username=database,
            rotation_period=NEVER_SECONDS,
        ),
        options,
    )
    return vault.generic.Endpoint(
        f"vault-database-{database}-password",
        vault.generic.EndpointArgs(
            path=f"{names.DATABASES}/rotate-role/{database}",
            data_json=generation.apply(lambda known: json.dumps({"generation": known})),
            disable_read=True,
            disable_delete=True,
        ),
        pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[role])),
    )
