"""Keycloak: one place to sign in, for people and for services."""

from collections.abc import Sequence

import pulumi

from components.context import Platform
from components.identity import realm
from components.identity.names import CLIENT, CLIENT_SECRET
from components.images import KEYCLOAK, Image
from components.service import (
    FILES,
    FIRST_SHARES,
    TEMPORARY,
    Alert,
    Container,
    Database,
    Deployment,
    Health,
    Metrics,
    Network,
    PublishedPort,
    Route,
    Service,
    Severity,
    http_health,
)

HOST = "auth"

KEEP_LOGIN = f"""\
DO $$
BEGIN
    IF to_regclass('public.client') IS NOT NULL THEN
        UPDATE client SET secret = '{{{CLIENT_SECRET}}}'
        WHERE client_id = '{CLIENT}' AND realm_id = (SELECT id FROM realm WHERE name = 'master');
    END IF;
END $$;"""  # noqa: S608 -- of names and a secret of letters and digits
"""Keycloak reads the secret of the deployment's own login when it makes its database, and never again; who has another one cannot log
in to change it. A server that runs has the former one in memory until it is replaced, because its environment has changed, too."""


class Keycloak(Service):
    """The identity provider, and the platform's realm in it."""

    name = "keycloak"
    area = "identity"
    needs = ("postgres",)

    @property
    def image(self) -> Image:
        """Keycloak 26."""
        return KEYCLOAK

    def routes(self) -> tuple[Route, ...]:
        """Return the address of sign-in, the account page and the admin console."""
        realm = self.settings.keycloak.realm
        return (
            Route(
                host=HOST,
                port=8080,
                health_path="/realms/master",
                title="Keycloak: your account",
                path=f"/realms/{realm}/account/",
            ),
        )

    def databases(self) -> tuple[Database, ...]:
        """Return Keycloak's database."""
        return (Database(name="keycloak", secrets={CLIENT_SECRET: KEEP_LOGIN}),)

    def metrics(self) -> tuple[Metrics, ...]:
        """Return Keycloak's own metrics, on its management port."""
        # The caches' own statistics are two thirds of all; only their sizes say something, such as how many sessions there are.
        return (Metrics(port=9000, drop="vendor_.*", keep="vendor_statistics_approximate_entries"),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alert that someone tries passwords."""
        failed = 'keycloak_user_events_total{event="login",error!=""}'
        return (
            Alert(
                name="LoginsFail",
                # Not increase(): it does not see the first failures of a kind, which begin a series.
                expression=(
                    f"sum({failed}) - (sum({failed} offset 5m) or vector(0)) > {self.settings.monitoring.failed_logins}"
                    ' and on () up{job="keycloak"} offset 5m == 1'
                ),
                seconds=0,
                severity=Severity.WARNING,
                kind="logins",
                summary="{{ $value }} logins failed in 5 minutes",
                description="Someone may be trying passwords, or a service that signs people in is misconfigured.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return Keycloak in production mode. Its public address is the same in browsers and in containers."""
        return Container(
            command=(
                "/opt/keycloak/bin/kc.sh",
                "start",
                # Logins that succeed are logged, too: an audit asks who was in, not only who was refused.
                "--spi-events-listener--jboss-logging--success-level=info",
            ),
            environment={
                "KC_DB": "postgres",
                "KC_DB_URL": "jdbc:postgresql://postgres:5432/keycloak",
                "KC_DB_USERNAME": "keycloak",
                "KC_DB_POOL_INITIAL_SIZE": "2",
                "KC_DB_POOL_MIN_SIZE": "2",
                "KC_DB_POOL_MAX_SIZE": "20",
                "KC_HOSTNAME": platform.url(HOST),
                "KC_PROXY_HEADERS": "xforwarded",
                "KC_HTTP_ENABLED": "true",
                "KC_HEALTH_ENABLED": "true",
                "KC_METRICS_ENABLED": "true",
                "KC_EVENT_METRICS_USER_ENABLED": "true",
                # Services are told of a logout at their public addresses, and other identity providers may be inside, too.
                "KC_TRUSTSTORE_PATHS": f"{FILES}/authority.pem",
                # One node: no cluster to find.
                "KC_CACHE": "local",
                "KC_LOG_CONSOLE_OUTPUT": "json",
                "KC_BOOTSTRAP_ADMIN_CLIENT_ID": CLIENT,
                # Halves the processor time of a start; the serial collector fits a small heap.
                "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC",
            },
            secret_environment={
                "KC_DB_PASSWORD": platform.database_password("keycloak"),
                "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET": platform.secret(CLIENT_SECRET),
            },
            files={"authority.pem": pulumi.Output.from_input(platform.certificates.authority)},
            health=Health(command=http_health(9000, "/health/ready"), interval_seconds=5, start_seconds=180),
            networks=(Network.APPLICATIONS, Network.DATA, Network.OBSERVABILITY),
            ports=(PublishedPort(internal=8080, external=self.settings.admin_port),),
            user="1000",
            memory_mb=self.settings.keycloak.memory_mb,
            cpu_shares=FIRST_SHARES,
            # The official image is built for another database; it rebuilds itself at its first start.
            read_only=platform.machine.images == "built",
            temporary={TEMPORARY: 64, "/opt/keycloak/data": 64},
            stop_seconds=30,
        )

    def extend(self, platform: Platform, deployment: Deployment) -> Sequence[pulumi.Resource]:
        """Make the realm with its roles, groups, people and clients."""
        return realm.deploy(
            platform,
            parent=deployment,
            server=deployment.container,
            url=f"http://127.0.0.1:{self.settings.admin_port}",
            client_id=CLIENT,
            client_secret=platform.secret(CLIENT_SECRET),
        )


def issuer(platform: Platform) -> str:
    """Return the issuer of the realm's tokens, which is also where discovery begins."""
    return f"{platform.url(HOST)}/realms/{platform.settings.keycloak.realm}"
