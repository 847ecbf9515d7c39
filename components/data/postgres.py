"""PostgreSQL with pgvector: one server, and a database and a role for each service that asks for one."""

from collections.abc import Mapping, Sequence

import pulumi

from components.context import Platform
from components.images import POSTGRES, Image
from components.service import (
    FILES,
    SECRETS,
    TEMPORARY,
    Container,
    Database,
    DataVolume,
    Deployment,
    Health,
    Network,
    Service,
    deploy_job,
)
from settings import ROOT

USER = "999"
JOB = "postgres-databases"
"""Name of the job that makes the databases."""


def password_name(database: str) -> str:
    """Return the name of the secret that is the password of a database's role."""
    return f"postgres-{database}-password"


def password(platform: Platform, database: str) -> pulumi.Output[str]:
    """Return the password of a database's role."""
    return platform.secret(password_name(database))


def address(platform: Platform, database: str) -> pulumi.Output[str]:
    """Return the address of a database as most libraries read it; secret."""
    return pulumi.Output.concat(
        "postgresql://", database, ":", password(platform, database), "@postgres:5432/", database
    )


class Postgres(Service):
    """The database server."""

    name = "postgres"
    area = "data"

    @property
    def image(self) -> Image:
        """PostgreSQL 17 with pgvector."""
        return POSTGRES

    def container(self, platform: Platform) -> Container:
        """Return the server's container; it runs as its own user from the start, so it needs no capability."""
        limits = self.settings.postgres
        options = {
            "max_connections": limits.max_connections,
            "shared_buffers": f"{limits.shared_buffers_mb}MB",
            "idle_in_transaction_session_timeout": f"{limits.idle_transaction_timeout_seconds}s",
            "password_encryption": "scram-sha-256",
            "log_connections": "off",
        }
        return Container(
            command=(
                "sh",
                f"{FILES}/start.sh",
                "postgres",
                *(part for key, value in options.items() for part in ("-c", f"{key}={value}")),
            ),
            environment={
                "POSTGRES_PASSWORD_FILE": f"{SECRETS}/password",
                "POSTGRES_INITDB_ARGS": "--encoding=UTF8 --locale=C --auth-host=scram-sha-256",
            },
            files={"start.sh": (ROOT / "services" / "postgres" / "start.sh").read_text(encoding="utf-8")},
            secrets={"password": platform.secret("postgres-password")},
            health=Health(
                command=("pg_isready", "--quiet", "--host=127.0.0.1", "--username=postgres"), interval_seconds=5
            ),
            networks=(Network.DATA,),
            volumes=(DataVolume(name="postgres-data", path="/var/lib/postgresql/data"),),
            user=USER,
            memory_mb=limits.memory_mb,
            temporary={"/var/run/postgresql": 8, TEMPORARY: 64},
            # A checkpoint of large buffers takes its time, and a killed server has to recover.
            stop_seconds=60,
        )

    def further(self, platform: Platform) -> Mapping[str, Container]:
        """Return the job that makes the databases that the services ask for; what exists stays, and each password is set anew."""
        databases = [database for service in platform.services.values() for database in service.databases()]
        secrets = {password_name(database.name): password(platform, database.name) for database in databases}
        secrets |= {name: platform.secret(name) for database in databases for name in database.secrets}
        script = pulumi.Output.secret(pulumi.Output.all(**secrets)).apply(lambda values: _script(databases, values))
        return {
            JOB: Container(
                command=(
                    "sh",
                    "-c",
                    f'PGPASSWORD="$(cat {SECRETS}/password)" exec psql --no-psqlrc --quiet --file={SECRETS}/databases.sql',
                ),
                environment={"PGHOST": "postgres", "PGUSER": "postgres", "PGDATABASE": "postgres"},
                secrets={"password": platform.secret("postgres-password"), "databases.sql": script},
                health=Health(command=("true",)),
                networks=(Network.DATA,),
                user=USER,
                memory_mb=128,
                temporary={TEMPORARY: 8},
            )
        }

    def extend(self, platform: Platform, deployment: Deployment) -> Sequence[pulumi.Resource]:
        """Make the databases."""
        job = deploy_job(
            JOB,
            self.image,
            deployment.described[JOB],
            platform=platform,
            parent=deployment,
            depends_on=[deployment.container],
        )
        return [job]


def _script(databases: Sequence[Database], secrets: Mapping[str, str]) -> str:
    """Return SQL that may run any number of times; ``secrets`` has those that it needs by name."""
    lines = ["\\set ON_ERROR_STOP on"]
    for database in sorted(databases, key=lambda database: database.name):
        name = database.name
        # Names and passwords are of letters, digits and hyphens only; SQL has no CREATE ROLE IF NOT EXISTS.
        lines += [
            f"SELECT 'CREATE ROLE \"{name}\" LOGIN'",
            f" WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')\\gexec",
            f"ALTER ROLE \"{name}\" PASSWORD '{secrets[password_name(name)]}';",
            *(f'GRANT "{role}" TO "{name}";' for role in database.member_of),
            f'SELECT \'CREATE DATABASE "{name}" OWNER "{name}"\'',
            f" WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')\\gexec",
            f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC;',
            f'\\connect "{name}"',
            *(f'CREATE EXTENSION IF NOT EXISTS "{extension}";' for extension in database.extensions),
            *(statement.format_map(secrets) for statement in database.secrets.values()),
        ]
    return "\n".join(lines) + "\n"
