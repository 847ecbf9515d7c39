"""PostgreSQL with pgvector: one server, and a database and a role for each service that asks for one."""

from collections.abc import Mapping, Sequence

import pulumi

from components.context import Platform
from components.images import POSTGRES, Image
from components.secrets import databases as passwords
from components.secrets import names
from components.service import (
    FILES,
    FIRST_SHARES,
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
SERVER = "postgres:5432"
JOB = "postgres-databases"
"""Name of the job that makes the databases."""


def address(platform: Platform, database: str) -> pulumi.Output[str]:
    """Return the address of a database as most libraries read it, for a secret file."""
    return pulumi.Output.concat(
        "postgresql://", database, ":", platform.database_password(database), f"@{SERVER}/", database
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
            # For services and people; the job below lifts them from the superuser, whose copies and repairs take their time.
            "statement_timeout": f"{limits.statement_timeout_seconds}s",
            "lock_timeout": f"{limits.lock_timeout_seconds}s",
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
            cpu_shares=FIRST_SHARES,
            temporary={"/var/run/postgresql": 8, TEMPORARY: 64},
            # A checkpoint of large buffers takes its time, and a killed server has to recover.
            stop_seconds=60,
        )

    def further(self, platform: Platform) -> Mapping[str, Container]:
        """Return the job that makes the databases that the services ask for; what exists stays."""
        databases = [database for service in platform.services.values() for database in service.databases()]
        used = {names.DATABASE_SECRET, *(name for database in databases for name in database.secrets)}
        secrets = {name: platform.secret(name) for name in sorted(used)}
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
        """Make the databases, and the passwords of their roles."""
        job = deploy_job(
            JOB,
            self.image,
            deployment.described[JOB],
            platform=platform,
            parent=deployment,
            depends_on=[deployment.container],
        )
        return [job, *passwords.declare(platform, SERVER, [job])]


def _script(databases: Sequence[Database], secrets: Mapping[str, str]) -> str:
    """Return SQL that may run any number of times; ``secrets`` has those that it needs by name."""
    # Names and passwords are of letters, digits and hyphens only.
    lines = [
        "\\set ON_ERROR_STOP on",
        *(f"ALTER ROLE postgres SET {limit} = 0;" for limit in ("statement_timeout", "lock_timeout")),
        *_role(names.DATABASE_USER, "CREATEROLE"),
        f"ALTER ROLE \"{names.DATABASE_USER}\" PASSWORD '{secrets[names.DATABASE_SECRET]}';",
    ]
    for database in sorted(databases, key=lambda database: database.name):
        name = database.name
        lines += [
            *_role(name),
            # To change its password; neither to become it nor to have its rights.
            f'GRANT "{name}" TO "{names.DATABASE_USER}" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;',
            *(f'GRANT "{role}" TO "{name}";' for role in database.member_of),
            f'SELECT \'CREATE DATABASE "{name}" OWNER "{name}"\'',
            f" WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')\\gexec",
            f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC;',
            f'\\connect "{name}"',
            *(f'CREATE EXTENSION IF NOT EXISTS "{extension}";' for extension in database.extensions),
            *(statement.format_map(secrets) for statement in database.secrets.values()),
        ]
    return "\n".join(lines) + "\n"


def _role(name: str, *options: str) -> list[str]:
    # SQL has no CREATE ROLE IF NOT EXISTS.
    return [
        f"SELECT 'CREATE ROLE \"{name}\" {' '.join(('LOGIN', *options))}'",
        f" WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')\\gexec",
    ]
