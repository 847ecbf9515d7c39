"""The API of the models, as programs outside reach it with an access token, and people with their sign-in."""

import json
import time

import httpx
import pytest

from components.identity.realm import program_client
from tests.e2e.conftest import Deployed, Person
from tests.e2e.test_3_models import measured

PROGRAM = "reports"
QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "one two three"}], "stream": True}


def token(platform: Deployed, client: httpx.Client, program: str = PROGRAM) -> str:
    """Return an access token, as a program gets it by its client identifier and secret."""
    answer = client.post(
        f"{platform.url('auth')}/realms/aikit/protocol/openid-connect/token",
        data={"grant_type": "client_credentials"},
        auth=(program_client(program), platform.outputs["programSecrets"][program]),
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def bearer(value: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {value}"}


@pytest.mark.spec("API-03", "SSO-07", "K-04")
def test_a_program_asks_a_model_and_its_answer_comes_in_parts(platform: Deployed) -> None:
    """It is counted as a program of the API, also if it says that it is a person at the chat."""
    before = measured(platform, "ollama_answer_seconds_count", 'consumer="api",model="tiny"')
    with platform.client() as client:
        authorized = bearer(token(platform, client))
        listed = client.get(f"{platform.url('api')}/v1/models", headers=authorized)
        assert [model["id"] for model in listed.json()["data"]] == ["tiny:latest"]
        asked, took = 0, 0.0
        # Whoever is busy elsewhere finds all parts there at once.
        while took < 0.005 and asked < 5:
            asked += 1
            arrived = parts(platform, client, authorized)
            assert len(arrived) > 5
            took = arrived[-1] - arrived[0]
        assert took >= 0.005, "the parts came all at once"
    assert measured(platform, "ollama_answer_seconds_count", 'consumer="api",model="tiny"') == before + asked


def parts(platform: Deployed, client: httpx.Client, authorized: dict[str, str]) -> list[float]:
    """Ask a question, and return when each part of the answer came, in seconds."""
    arrived: list[float] = []
    with client.stream(
        "POST",
        f"{platform.url('api')}/v1/chat/completions",
        json=QUESTION,
        headers={**authorized, "X-OpenWebUI-User-Id": "somebody"},
    ) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                arrived.append(time.monotonic())
                assert json.loads(line.removeprefix("data: "))["object"] == "chat.completion.chunk"
    return arrived


@pytest.mark.spec("API-03", "SSO-14")
def test_without_a_token_for_it_nobody_uses_the_api(platform: Deployed) -> None:
    """Refused are no token, a forged one, and one that is good where it is not for: in administration."""
    address = f"{platform.url('api')}/v1/models"
    with platform.client() as client:
        good = token(platform, client)
        assert client.get(address).status_code == 401
        head, body, signature = good.split(".")
        forged = ".".join((head, body, signature[:-8] + ("A" * 8 if signature[-8:] != "A" * 8 else "B" * 8)))
        assert client.get(address, headers=bearer(forged)).status_code == 401
        refused = client.post(f"{platform.url('api')}/api/delete", json={"model": "tiny"}, headers=bearer(good))
        assert refused.status_code == 403
        assert client.get(address, headers=bearer(good)).json()["data"]
        metrics = client.get(f"{platform.url('metrics')}/api/v1/targets", headers=bearer(good))
        assert metrics.status_code in {302, 401, 403}, "a program's token opens pages of administrators"


@pytest.mark.spec("API-03")
def test_people_use_it_with_their_sign_in_and_not_with_a_token_for_another_service(person: Person) -> None:
    """A viewer opens it in the browser and sees the models; what the chat knows them by is worth nothing here."""
    person.sign_in(person.platform.url("chat"), "victor")
    person.page.locator("#chat-input").wait_for()
    held = {str(cookie.get("name")): str(cookie.get("value")) for cookie in person.context.cookies()}
    with person.platform.client() as client:
        answer = client.get(f"{person.platform.url('api')}/v1/models", headers=bearer(held["oauth_id_token"]))
        assert answer.status_code in {401, 403}, answer.text
    person.page.goto(f"{person.platform.url('api')}/v1/models")
    person.page.wait_for_url("**/v1/models")
    assert "tiny:latest" in person.page.inner_text("body")
