"""Blackbox exporter: asks for every public page as people do, and looks at the certificate."""

import pulumi
import yaml

from components.context import Platform
from components.images import BLACKBOX_EXPORTER, Image
from components.service import FILES, Alert, Container, Health, Metrics, Network, Service, Severity

PORT = 9115
JOB = "probes"
"""Name under which Prometheus knows the probes."""
MODULE = "page"
DAY_SECONDS = 86_400


class BlackboxExporter(Service):
    """The exporter that asks for pages; it goes through the proxy and trusts the platform's authority alone."""

    name = "blackbox-exporter"
    area = "observability"

    @property
    def image(self) -> Image:
        """Blackbox exporter."""
        return BLACKBOX_EXPORTER

    def metrics(self) -> tuple[Metrics, ...]:
        """Return the exporter's own measurements; the probes are Prometheus' questions to it."""
        return (Metrics(port=PORT),)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alerts of the public pages."""
        days = self.settings.monitoring.certificate_days
        return (
            Alert(
                name="ProbeFailed",
                expression="probe_success == 0",
                # Two more probes fail. With the time to the first and to the message, people hear of it within two minutes.
                seconds=45,
                severity=Severity.CRITICAL,
                # Each series says which service it is about.
                service="{{ $labels.service }}",
                kind="availability",
                summary="{{ $labels.instance }} cannot be used",
                description="The page does not answer 200 through the proxy, or its certificate is not valid.",
            ),
            Alert(
                name="CertificateExpires",
                expression=f"probe_ssl_earliest_cert_expiry - time() < {days * DAY_SECONDS}",
                seconds=60,
                severity=Severity.WARNING,
                service="haproxy",
                kind="certificate",
                summary="The certificate of {{ $labels.instance }} ends in {{ $value | humanizeDuration }}",
                description=f"It ends in less than {days} days. A generated one is renewed by the next ./aikit up.",
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the exporter's container."""
        return Container(
            entrypoint=("blackbox_exporter",),
            command=(f"--config.file={FILES}/blackbox.yml", f"--web.listen-address=:{PORT}"),
            files={
                "blackbox.yml": configuration(),
                "authority.pem": pulumi.Output.from_input(platform.certificates.authority),
            },
            health=Health(
                command=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/-/healthy"),
                interval_seconds=15,
                start_seconds=15,
            ),
            networks=(Network.OBSERVABILITY,),
            user="65534",
            memory_mb=64,
        )


def configuration() -> str:
    """Return ``blackbox.yml``."""
    return yaml.safe_dump(
        {
            "modules": {
                MODULE: {
                    "prober": "http",
                    "timeout": "8s",
                    "http": {
                        "valid_status_codes": [200],
                        "follow_redirects": False,
                        "fail_if_not_ssl": True,
                        "preferred_ip_protocol": "ip4",
                        "tls_config": {"ca_file": f"{FILES}/authority.pem"},
                    },
                }
            }
        }
    )
