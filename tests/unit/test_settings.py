"""Settings: every wrong one is refused with a sentence, and the written files are what the models say."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import settings
from operations import checks
from settings import Settings, SettingsError, declarations, load, parse


def test_the_declarations_and_the_reference_are_current() -> None:
    assert (settings.ROOT / "Pulumi.yaml").read_text() == settings.project_file(), "run: python -m settings"
    assert (settings.ROOT / "docs" / "settings.md").read_text() == settings.reference(), "run: python -m settings"


def test_each_setting_is_described_and_has_a_default() -> None:
    for name, _, field in declarations():
        assert field.description, name
        assert field.description.endswith("."), name
        assert not field.is_required(), name


@pytest.mark.parametrize("stack", ["dev", "prod", "test"])
def test_the_stacks_files_are_sound(stack: str) -> None:
    assert isinstance(load(stack), Settings)


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_end_to_end_tests_run_beside_a_stack(stack: str) -> None:
    used = {port for port, _ in checks.ports(load(stack)).values()}
    assert used.isdisjoint(port for port, _ in checks.ports(load("test")).values())


GITHUB = {"name": "hub", "kind": "github", "client_id": "x", "client_secret_file": "x"}
OIDC = {
    **GITHUB,
    "kind": "oidc",
    "issuer": "https://example.org",
    "sign_in_url": "https://example.org/auth",
    "token_url": "https://example.org/token",
    "keys_url": "https://example.org/keys",
}


@pytest.mark.spec("OPS-02")
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"domian": "x"}, "domian is not a setting; did you mean domain?"),
        ({"domain": "-x"}, "domain is"),
        ({"domain": "10.0.0.1"}, "not an IP address"),
        ({"http-port": "80"}, 'http-port is "80"'),
        ({"http-port": 443}, "must be different ports"),
        ({"https-port": 70000}, "https-port is 70000"),
        ({"postgres-max-connections": 3}, "postgres-max-connections is 3"),
        ({"postgres-shared-buffers-mb": 900}, "at most half"),
        ({"accelerator": "tpu"}, "accelerator is"),
        ({"certificates-source": "files"}, "certificates-key-file must be given"),
        ({"certificates-renewal-days": 90}, "must be less than"),
        ({"users": [{"username": "ada", "email": "ada@example.org", "role": "king"}]}, "users[0].role is"),
        ({"users": [{"username": "Ada", "email": "ada@example.org"}]}, "users[0].username is"),
        ({"users": [{"username": "admin", "email": "ada@example.org"}]}, "'admin' twice"),
        ({"users": [{"username": "ada", "email": "ada"}]}, "users[0].email is"),
        (
            {"users": [{"username": "ada", "email": "a@example.org"}, {"username": "ann", "email": "A@example.org"}]},
            "has the e-mail address 'a@example.org' twice",
        ),
        ({"users": [{"username": "ada"}]}, "users[0].email is missing"),
        ({"models": [{"name": "a b"}]}, "models[0].name is"),
        ({"models": [{"name": "a"}, {"name": "a"}]}, "'a' twice"),
        ({"models": [{"name": "a"}, {"name": "a:latest"}]}, "'a' twice"),
        (
            {"models": [{"name": "llama3.2"}, {"name": "llama3-2"}]},
            "taken for -, as in the name of its job) 'llama3.2' twice",
        ),
        ({"models": [{"name": "a", "file": "x:y.gguf"}]}, "has the file 'x:y.gguf'"),
        ({"https-port": 8405}, "https-port is 8405, but the proxy itself needs"),
        ({"keycloak-realm": "master"}, "keycloak-realm is 'master'"),
        ({"models": [{"name": "a", "sise": 1}]}, "models[0].sise is not a setting"),
        ({"models": [{"name": "a", "keep_alive": "soon"}]}, "models[0].keep_alive is"),
        ({"models": [{"name": "a", "url": "http://example.org/a"}]}, "models[0].url is"),
        ({"models": [{"name": "a", "warm": True, "replicas": 2}]}, "has replicas 2, but ollama-replicas is 1"),
        ({"ollama-keep-alive": "soon"}, "ollama-keep-alive is"),
        ({"ollama-replicas": 2, "ollama-gpu-count": 1}, "ollama-gpu-count is 1, but with ollama-replicas 2"),
        ({"ollama-replicas": 3, "ollama-gpu-device-ids": ["0", "1"]}, "names 2 devices, but ollama-replicas is 3"),
        ({"keycloak-password-length": 6}, "keycloak-password-length is 6"),
        ({"keycloak-multi-factor": "some"}, 'keycloak-multi-factor is "some"'),
        ({"keycloak-session-idle-minutes": 90, "keycloak-session-max-hours": 1}, "at most keycloak-session-max-hours"),
        ({"identity-providers": [{"name": "x", "kind": "myspace"}]}, "identity-providers[0].kind is"),
        ({"identity-providers": [GITHUB, GITHUB]}, "'hub' twice"),
        ({"identity-providers": [{"name": "x", "kind": "github"}]}, "needs client_id, client_secret_file"),
        ({"identity-providers": [{**GITHUB, "new_accounts": True}]}, "would let in everyone"),
        ({"identity-providers": [{**GITHUB, "issuer": "x"}]}, "which has no issuer"),
        (
            {"identity-providers": [{**OIDC, "token_url": "http://example.org/token"}]},
            "identity-providers[0].token_url is",
        ),
        ({"identity-providers": [{**OIDC, "sign_in_url": "https://example.org/*"}]}, "must be an https address"),
        ({"identity-providers": [{**OIDC, "roles_claim": "groups"}]}, "together with admin_value"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(values)
    assert any(sentence in problem for problem in caught.value.problems), caught.value.problems


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"modles": [], "https-port": 99999, "domain": "-x"})
    assert [problem.split()[0] for problem in caught.value.problems] == ["modles", "domain", "https-port"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


NAMES = [name for name, _, _ in declarations()]


@pytest.mark.spec("OPS-02")
@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING, min_size=1, max_size=5))
def test_anything_is_either_settings_or_a_sentence_for_each_problem(values: dict[str, Any]) -> None:
    try:
        parse(values)
        problems = ()
    except SettingsError as error:
        problems = error.problems or ("no problem was named",)
    for problem in problems:
        assert problem.endswith("."), problem
        assert any(name in problem for name in NAMES), problem


@pytest.mark.parametrize(
    "text", ["config: [", "- 1\n", "config: 3\n", "config:\n  other:x: 1\n", "config:\n  aikit: 1\n", "\x00"]
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load("dev", tmp_path)
    assert all("Pulumi.dev.yaml" in problem for problem in caught.value.problems)


def test_a_stack_without_a_file_names_those_that_have_one(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": {}}))
    with pytest.raises(SettingsError, match="there are: dev"):
        load("prod", tmp_path)
