"""The way in: TLS, routing, limits, and what is closed."""

import socket
import ssl
import time

import httpx
import pytest

from tests.e2e.conftest import Deployed


@pytest.mark.spec("OPS-01")
def test_up_ends_with_every_service_its_address_and_where_the_credentials_are(up: str, platform: Deployed) -> None:
    if up:
        for service in platform.outputs["services"]:
            assert service["title"] in up
            assert service["url"] in up
        assert "administratorPassword" in up
        assert platform.outputs["administratorPassword"] not in up
    health = platform.health()
    for service in platform.outputs["services"]:
        assert health[service["name"]] == "healthy", service


@pytest.mark.spec("TLS-01", "TLS-04", "TLS-06", "TLS-07", "TLS-16", "HAP-05", "BASE-01", "K-02")
def test_every_public_host_answers_over_https_with_a_trusted_certificate(platform: Deployed) -> None:
    addresses = [service["url"] for service in platform.outputs["services"] if service["url"]]
    assert len(addresses) >= 2
    with platform.client() as client:
        for address in addresses:
            # As a browser asks: programs are not sent to the sign-in, but answered 401.
            answer = client.get(address, headers={"Accept": "text/html"}, follow_redirects=False)
            assert answer.status_code < 400, (address, answer.text[:500])
            assert "max-age" in answer.headers["strict-transport-security"]


@pytest.mark.spec("TLS-07")
def test_a_stranger_does_not_trust_the_certificate_and_old_protocols_are_refused(platform: Deployed) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://127.0.0.1:{platform.settings.https_port}/", verify=ssl.create_default_context())
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", platform.settings.https_port), timeout=10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(raw)


@pytest.mark.spec("TLS-09")
def test_http_is_redirected_to_https(platform: Deployed) -> None:
    answer = httpx.get(
        f"http://127.0.0.1:{platform.settings.http_port}/some/page?x=1",
        headers={"Host": f"chat.{platform.settings.domain}"},
    )
    assert answer.status_code == 308
    assert answer.headers["location"] == f"{platform.url('chat')}/some/page?x=1"


@pytest.mark.spec("TLS-08")
def test_only_the_proxy_publishes_ports_and_its_certificate_is_not_world_readable(platform: Deployed) -> None:
    for container in platform.docker.containers.list(filters={"label": "aikit.stack"}):
        for bindings in container.attrs["HostConfig"]["PortBindings"].values():
            if container.labels["aikit.service"] != "haproxy":
                assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}, container.name
    assert platform.run("haproxy", "stat", "-c", "%a", "/run/secrets/certificate.pem").strip() == "440"


@pytest.mark.spec("OLL-03", "K-04")
def test_the_models_are_reached_through_the_queue_alone(platform: Deployed) -> None:
    ask = "\n".join(
        (
            "import sys, urllib.error, urllib.request as request",
            "try: print(request.urlopen(request.Request(sys.argv[1], method=sys.argv[2]), timeout=3).status)",
            "except urllib.error.HTTPError as error: print(error.code)",
            "except OSError: print('unreachable')",
        )
    )

    def status(address: str, method: str = "GET") -> str:
        return platform.run("open-webui", "python3", "-c", ask, address, method).strip()

    assert status("http://haproxy:11434/api/tags") == "200"
    assert status("http://haproxy:11434/api/delete", "DELETE") == "403"
    assert status("http://haproxy:11434/api/pull", "POST") == "403"
    # Ollama decodes it, and takes it for the call that it is.
    assert status("http://haproxy:11434/api/%64elete", "DELETE") == "403"
    assert status("http://haproxy:11434/api/of-the-next-release", "POST") == "403"
    assert status("http://ollama:11434/api/tags") == "unreachable"


@pytest.mark.spec("HAP-01")
def test_a_dead_service_is_noticed_in_nine_seconds_and_has_a_page_of_its_own(platform: Deployed) -> None:
    container = platform.container("open-webui")
    with platform.client() as client:
        container.pause()
        try:
            time.sleep(9 + 5)
            answer = client.get(f"{platform.url('chat')}/static/favicon.png")
        finally:
            container.unpause()
        assert answer.status_code == 503
        assert "Not available just now" in answer.text
        assert answer.headers["retry-after"] == "10"
        deadline = time.monotonic() + 30
        while client.get(f"{platform.url('chat')}/health").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(1)


@pytest.mark.spec("HAP-06", "HAP-04")
def test_the_proxy_measures_itself_but_not_in_public(platform: Deployed) -> None:
    text = platform.run(
        "haproxy",
        "bash",
        "-c",
        "exec 3<>/dev/tcp/127.0.0.1/8405 && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3",
    )
    assert "haproxy_backend_current_queue" in text
    with platform.client() as client:
        for label in ("chat", "auth"):
            assert "haproxy_backend" not in client.get(f"{platform.url(label)}/metrics").text
            # The chat answers any path with its own page.
            assert "Statistics Report" not in client.get(f"{platform.url(label)}/stats").text
        assert (
            client.get(f"https://unknown.{platform.settings.domain}:{platform.settings.https_port}/").status_code == 404
        )


@pytest.mark.spec("HAP-02")
def test_one_request_too_many_within_ten_seconds_is_refused(platform: Deployed) -> None:
    limit = platform.settings.edge.requests_per_10_seconds
    time.sleep(10)
    with platform.client() as client:
        begun = time.monotonic()
        codes = [client.get(f"{platform.url('auth')}/robots.txt").status_code for _ in range(limit + 10)]
        assert time.monotonic() - begun < 10, "too slow to judge"
        refused = client.get(f"{platform.url('auth')}/robots.txt")
        assert 429 not in codes[: limit - 10]
        assert codes[-1] == 429
        assert refused.headers["retry-after"] == "10"
        # A page's own files never count.
        assert client.get(f"{platform.url('chat')}/static/favicon.png").status_code == 200
    time.sleep(11)
