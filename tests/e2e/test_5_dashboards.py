"""The pages of the monitoring: who may see them, and whether every panel of the dashboards can be answered."""

import json
import re
import time
from typing import Any

import pytest
from playwright.sync_api import expect

from components.observability.dashboards import catalogue, users_sessions
from components.observability.nvidia_exporter import NvidiaExporter
from operations import users
from operations.lifecycle import Options
from operations.project import Project
from tests.e2e.conftest import ASK_MODEL, STACK, Deployed, Person
from tests.e2e.test_3_services import sql
from tests.e2e.test_4_monitoring import get


def panels(platform: Deployed) -> list[tuple[str, str]]:
    """Return every query with the panel that it belongs to."""
    # Grafana's own image need not be there: what it would ask is known without it.
    names = frozenset(service.name for service in platform.services)
    return [
        (f"{made.title}: {panel['title']}", target["expr"])
        for made in catalogue.dashboards(platform.settings, names)
        for panel in json.loads(json.dumps(made, cls=catalogue.JSONEncoder))["panels"]
        for target in panel.get("targets", ())
    ]


def asked(expression: str) -> str:
    """Fill in what Grafana would: variables with everything, and the time span with five minutes."""
    for name, value in {"$__rate_interval": "1m", "$__range_s": "300", "$__range": "5m"}.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$[a-z]+\b", ".+", expression)


def answer(platform: Deployed, expression: str) -> list[dict[str, Any]]:
    """Return the series that Prometheus answers with."""
    path = "/api/v1/query?query=" + "".join(f"%{byte:02X}" for byte in expression.encode())
    return get(platform, "prometheus", 9090, path)["data"]["result"]


@pytest.mark.spec("BASE-07", "DSH-01", "DSH-02", "DSH-03", "DSH-04", "DSH-05", "DSH-06", "K-06", "K-07")
def test_every_panel_is_answered_by_what_is_really_measured(platform: Deployed, person: Person) -> None:
    queries = panels(platform)
    assert len(queries) > 120
    assert NvidiaExporter.name not in {service.name for service in platform.services}
    # Somebody signs in, and a model is asked: on a platform that nobody uses there is nothing to count.
    person.sign_in(f"{platform.url('metrics')}/", "admin")
    person.page.wait_for_url(f"{platform.url('metrics')}/**")
    assert platform.run("open-webui", "python3", "-c", ASK_MODEL).strip() == "200"
    # Rates need two measurements, and an earlier test may just have restarted a service.
    deadline = time.monotonic() + 60
    unanswered = queries
    while unanswered := [(panel, query) for panel, query in unanswered if not answer(platform, asked(query))]:
        assert time.monotonic() < deadline, unanswered
        time.sleep(2)


@pytest.mark.spec("DSH-05")
def test_key_numbers_are_what_they_say(platform: Deployed) -> None:
    # A number comes before the curve of the same title.
    queries = dict(reversed(panels(platform)))

    def value(panel: str) -> float:
        return float(answer(platform, asked(queries[panel]))[0]["value"][1])

    assert value("Processor and graphics cards: Cores") == platform.docker.info()["NCPU"]
    assert value("Processor and graphics cards: Memory of the machine") == platform.docker.info()["MemTotal"]
    assert value("Executive summary: Pages") == len([each for each in platform.outputs["services"] if each["url"]])
    assert value("Ollama: the models' server: Ollama") == 1
    assert 0 < value("Costs: An hour") < 100
    assert value("Costs: A month") == pytest.approx(30 * value("Costs: A day"), rel=0.1)


@pytest.mark.spec("DSH-03", "K-07")
def test_numbers_of_people_and_of_work_are_those_of_keycloak_and_n8n(platform: Deployed, person: Person) -> None:
    queries = dict(reversed(panels(platform)))

    def value(panel: str) -> float:
        return float(answer(platform, asked(queries[panel]))[0]["value"][1])

    def sign_ins() -> float:
        realm = platform.settings.keycloak.realm
        count = f'sum({users_sessions.SIGN_INS}{{realm="{realm}",outcome="valid"}})'
        return float(answer(platform, count)[0]["value"][1])

    before = sign_ins()
    person.sign_in(f"{platform.url('metrics')}/", "admin")
    person.page.wait_for_url(f"{platform.url('metrics')}/**")
    deadline = time.monotonic() + 60
    while sign_ins() != before + 1:
        assert time.monotonic() < deadline, (before, sign_ins())
        time.sleep(1)
    with users.administration(Options(Project(), STACK)) as admin:
        realm = ("realms", platform.settings.keycloak.realm)
        known = sum(len(admin.get(*realm, "users", each["id"], "sessions")) for each in admin.get(*realm, "users"))
    assert value("Users and sessions: Sessions") == known > 0
    assert value("The other services: n8n: active workflows") == int(
        sql(platform, "n8n", "SELECT count(*) FROM workflow_entity WHERE active")
    )
    assert value("The other services: n8n: workers") == platform.settings.n8n.workers


@pytest.mark.spec("SSO-15", "HAP-04", "K-06")
@pytest.mark.parametrize(
    ("label", "heading"), [("metrics", re.compile("Prometheus")), ("alerts", re.compile("Alertmanager"))]
)
def test_an_administrator_signs_in_to_the_monitorings_pages_and_out_again(
    platform: Deployed, person: Person, label: str, heading: re.Pattern[str]
) -> None:
    address = platform.url(label)
    person.sign_in(f"{address}/", "admin")
    person.page.wait_for_url(f"{address}/**")
    expect(person.page).to_have_title(heading)
    assert person.page.evaluate("async () => (await fetch('/-/ready')).status") == 200
    person.page.goto(f"{address}/oauth2/logout", wait_until="domcontentloaded")
    # Keycloak's session has ended as well: it asks for the password.
    expect(person.page.locator("#username")).to_be_visible()
    assert person.page.url.startswith(platform.url("auth"))


@pytest.mark.spec("SSO-17", "SSO-16")
@pytest.mark.parametrize("username", ["edith", "victor"])
def test_others_are_refused_with_a_page_that_says_why(platform: Deployed, person: Person, username: str) -> None:
    address = platform.url("metrics")
    person.sign_in(f"{address}/", username)
    expect(person.page.get_by_role("heading", name="Not allowed")).to_be_visible()
    expect(person.page.get_by_text("for people with the role admin only")).to_be_visible()
    expect(person.page.get_by_text("esta página es solo para personas con el rol admin")).to_be_visible()
    assert person.page.evaluate("async () => (await fetch('/api/v1/query?query=up')).status") == 403
    person.page.get_by_role("link", name="Sign out").click()
    expect(person.page.locator("#username")).to_be_visible()


@pytest.mark.spec("HAP-04")
def test_strangers_see_nothing_of_the_monitoring(platform: Deployed) -> None:
    with platform.client() as client:
        for label, path in (
            ("metrics", "/api/v1/query?query=up"),
            ("metrics", "/metrics"),
            ("alerts", "/api/v2/alerts"),
        ):
            found = client.get(f"{platform.url(label)}{path}", headers={"X-Requested-With": "XMLHttpRequest"})
            assert found.status_code == 401, path
            sent = client.get(f"{platform.url(label)}{path}", headers={"Accept": "text/html"})
            assert sent.status_code == 302
            assert sent.headers["location"].startswith(
                f"{platform.url('auth')}/realms/aikit/protocol/openid-connect/auth"
            )
            assert "code_challenge_method=S256" in sent.headers["location"]
        # Claims that somebody makes up are not believed.
        made_up = {"OIDC_CLAIM_roles": "access", "X-Forwarded-User": "admin", "X-Requested-With": "XMLHttpRequest"}
        assert client.get(f"{platform.url('metrics')}/api/v1/query?query=up", headers=made_up).status_code == 401
