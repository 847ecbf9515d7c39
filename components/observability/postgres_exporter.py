"""PostgreSQL exporter: connections, sizes and transactions of the databases."""

import pulumi

from components.context import Platform
from components.data import postgres
from components.images import POSTGRES_EXPORTER, Image
from components.service import Alert, Container, Database, Health, Metrics, Network, Service, Severity

PORT = 9187


class PostgresExporter(Service):
    """The exporter of PostgreSQL's measurements."""

    name = "postgres-exporter"
    area = "observability"
    needs = ("postgres",)

    @property
    def image(self) -> Image:
        """PostgreSQL exporter."""
        return POSTGRES_EXPORTER

    def databases(self) -> tuple[Database, ...]:
        """Return its own, empty database: its role sees all statistics and no other database's data."""
        return (Database(name=self.name, member_of=("pg_monitor",)),)

    def metrics(self) -> tuple[Metrics, ...]:
        """Return PostgreSQL's measurements. The server's 300 settings are no measurements."""
        return (Metrics(port=PORT, drop="pg_settings_.*"),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the database server."""
        limits = self.settings.monitoring
        return (
            Alert(
                name="PostgreSQLDown",
                expression="pg_up == 0",
                seconds=60,
                severity=Severity.CRITICAL,
                service="postgres",
                kind="availability",
                summary="PostgreSQL is down",
                description="The exporter cannot connect to the database server.",
            ),
            Alert(
                name="PostgreSQLHighConnections",
                expression=f"pg_stat_database_numbackends > {limits.database_connections}",
                seconds=300,
                severity=Severity.WARNING,
                service="postgres",
                kind="connections",
                summary="Database {{ $labels.datname }} has {{ $value }} connections",
                description=f"The threshold is {limits.database_connections} connections to one database for 5 minutes.",
            ),
            Alert(
                name="PostgreSQLLargeDatabase",
                expression=f"pg_database_size_bytes > {limits.database_gb * 1024**3}",
                seconds=3600,
                severity=Severity.INFO,
                service="postgres",
                kind="size",
                summary="Database {{ $labels.datname }} has {{ $value | humanize1024 }}B",
                description=f"The threshold is {limits.database_gb} GiB.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the exporter's container."""
        return Container(
            command=("postgres_exporter", f"--web.listen-address=:{PORT}"),
            secret_environment={
                "DATA_SOURCE_NAME": pulumi.Output.concat(postgres.address(platform, self.name), "?sslmode=disable")
            },
            health=Health(
                command=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/"),
                interval_seconds=15,
                start_seconds=15,
            ),
            networks=(Network.DATA, Network.OBSERVABILITY),
            user="65534",
            memory_mb=64,
        )
