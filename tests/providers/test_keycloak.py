"""The Keycloak provider: names and rules of the official one, and its whole life on a real Keycloak by the real engine."""

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import pulumi
import pulumi_keycloak as keycloak
import pytest

from providers.keycloak import KeycloakProvider, mapping
from providers.keycloak.client import Keycloak, Settings
from providers.keycloak.users import User
from providers.resource import ProviderError
from tests.providers.conftest import CLIENT_ID, CLIENT_SECRET, Program, Run, Server

REALM = "kit"
SECRETS = {
    "client": "web-secret-5f0a",
    "password": "Initial-passw0rd",
    "smtp": "smtp-secret-91ab",
    "broker": "broker-secret-c3d4",
    "google": "google-secret-aa10",
}
Stacks = Callable[[Program], Run]
NOBODY = "http://127.0.0.1:9"
"""A port that nothing listens on."""


def test_configuration_keys_are_the_official_ones() -> None:
    official = set(inspect.signature(keycloak.ProviderArgs.__init__).parameters)
    assert {re.sub(r"([A-Z])", r"_\1", key).lower() for key in KeycloakProvider.configuration} <= official


# Values


@pytest.mark.parametrize(
    ("text", "seconds", "normal"),
    [
        ("10h", 36000, "10h0m0s"),
        ("300s", 300, "5m0s"),
        ("1h30m", 5400, "1h30m0s"),
        ("1.5m", 90, "1m30s"),
        ("0s", 0, "0s"),
    ],
)
def test_durations_are_those_of_go(text: str, seconds: int, normal: str) -> None:
    assert mapping.seconds(text) == seconds
    assert mapping.duration(seconds) == normal


@pytest.mark.parametrize("text", ["5", "5 m", "-1s", "1d", ""])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        mapping.seconds(text)


def test_a_value_that_means_the_same_keeps_its_form() -> None:
    lifespan = mapping.Field("lifespan", codec=mapping.DURATION)
    assert lifespan.read({"lifespan": 60}, "60s") == "60s"
    assert lifespan.read({"lifespan": 61}, "60s") == "1m1s"
    names = mapping.Field("names", codec=mapping.NAMES)
    assert names.read({"names": ["b", "a"]}, ["a", "b"]) == ["a", "b"]
    assert names.read({"names": ["b"]}, ["a", "b"]) == ["b"]
    hidden = mapping.Field("password", codec=mapping.SECRET)
    assert hidden.read({"password": mapping.MASK}, "known") == "known"


def test_an_upper_case_user_name_is_refused() -> None:
    assert "lower case" in User().check({"realmId": REALM, "username": "Ada"})["username"]


# Without a server


def _program(
    url: str, build: Callable[[pulumi.ResourceOptions], None], secret: str = CLIENT_SECRET
) -> Callable[[], None]:
    def program() -> None:
        provider = keycloak.Provider(
            "keycloak", url=url, client_id=CLIENT_ID, client_secret=pulumi.Output.secret(secret), initial_login=False
        )
        build(pulumi.ResourceOptions(provider=provider))

    return program


def test_a_preview_needs_no_server(stack: Stacks) -> None:
    run = stack(_program(NOBODY, _everything(_Phase())))
    assert run.preview()["create"] > 30


def test_an_unreachable_server_is_one_sentence() -> None:
    nobody = Keycloak(Settings(url=NOBODY, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, startup_seconds=0.1))
    with pytest.raises(ProviderError, match=r"Keycloak at http://127\.0\.0\.1:9 cannot be reached"):
        nobody.get("realms")


def test_missing_credentials_are_one_sentence() -> None:
    with pytest.raises(ProviderError, match="has no credentials: set clientId and clientSecret"):
        Keycloak(Settings(url=NOBODY)).get("realms")


def test_a_malformed_certificate_is_one_sentence() -> None:
    with pytest.raises(ProviderError, match="rootCaCertificate of the Keycloak provider is no PEM"):
        Keycloak(Settings(url=NOBODY, root_ca_certificate="nonsense"))


# With a server


@dataclasses.dataclass
class _Phase:
    """What the program says at one time."""

    title: str = "Kit"
    redirects: tuple[str, ...] = ("https://chat.localhost/*", "https://automation.localhost/*")
    lifespan: str = "300s"
    web_authn: bool = True
    roles: tuple[str, ...] = ("viewer", "editor")
    username: str = "ada"
    frame_options: str = "SAMEORIGIN"


def _hidden(name: str) -> pulumi.Output[str]:
    return pulumi.Output.secret(SECRETS[name])


def _everything(phase: _Phase) -> Callable[[pulumi.ResourceOptions], None]:
    """Return a program with a resource of each type."""

    def build(opts: pulumi.ResourceOptions) -> None:
        realm = keycloak.Realm(
            "realm",
            realm=REALM,
            display_name=phase.title,
            login_with_email_allowed=True,
            reset_password_allowed=True,
            ssl_required="external",
            password_policy="length(8)",
            access_token_lifespan=phase.lifespan,
            sso_session_idle_timeout="30m",
            sso_session_max_lifespan="10h",
            attributes={"purpose": "test"},
            internationalization={"supported_locales": ["en", "de"], "default_locale": "en"},
            security_defenses={
                "headers": {"x_frame_options": phase.frame_options},
                "brute_force_detection": {"max_login_failures": 5, "wait_increment_seconds": 30},
            },
            otp_policy={"digits": 8, "type": "totp"},
            web_authn_policy={"relying_party_entity_name": "Kit"} if phase.web_authn else None,
            smtp_server={
                "host": "mail.localhost",
                "from_": "kit@localhost",
                "starttls": True,
                "auth": {"username": "mailer", "password": _hidden("smtp")},
            },
            opts=opts,
        )
        where: Any = {"realm_id": realm.id, "opts": opts}
        keycloak.RealmEvents(
            "events", events_enabled=True, events_expiration=3600, events_listeners=["jboss-logging"], **where
        )
        keycloak.RequiredAction(
            "totp", alias="CONFIGURE_TOTP", enabled=True, default_action=True, name="Configure OTP", **where
        )

        roles = {name: keycloak.Role(name, name=name, description=f"May be {name}", **where) for name in phase.roles}
        everything = keycloak.Role(
            "all",
            name="all",
            composite_roles=[role.id for role in roles.values()],
            attributes={"level": "1##2"},
            **where,
        )
        parent = keycloak.Group("staff", name="staff", attributes={"floor": "3"}, **where)
        child = keycloak.Group("admins", name="admins", parent_id=parent.id, **where)
        keycloak.GroupRoles("group-roles", group_id=parent.id, role_ids=[roles["viewer"].id], **where)
        keycloak.DefaultGroups("default-groups", group_ids=[parent.id], **where)

        web = keycloak.openid.Client(
            "web",
            client_id="web",
            name="Chat",
            access_type="CONFIDENTIAL",
            client_secret=_hidden("client"),
            standard_flow_enabled=True,
            service_accounts_enabled=True,
            valid_redirect_uris=list(phase.redirects),
            valid_post_logout_redirect_uris=["https://chat.localhost/", "+"],
            web_origins=["+"],
            pkce_code_challenge_method="S256",
            access_token_lifespan="600",
            extra_config={"some.attribute": "kept"},
            **where,
        )
        spa = keycloak.openid.Client(
            "spa", client_id="spa", access_type="PUBLIC", standard_flow_enabled=True,
            valid_redirect_uris=["https://spa.localhost/*"], **where,
        )  # fmt: skip
        robot = keycloak.openid.Client(
            "robot", client_id="robot", access_type="CONFIDENTIAL", service_accounts_enabled=True, **where
        )
        use = keycloak.Role("use", name="use", client_id=web.id, **where)
        keycloak.DefaultRoles(
            "default-roles",
            default_roles=["offline_access", "account/view-profile", pulumi.Output.concat("web/", use.name)],
            **where,
        )
        keycloak.openid.ClientServiceAccountRole(
            "robot-use", service_account_user_id=robot.service_account_user_id, client_id=web.id, role=use.name, **where
        )
        keycloak.openid.ClientServiceAccountRealmRole(
            "robot-all", service_account_user_id=robot.service_account_user_id, role=everything.name, **where
        )
        scope = keycloak.openid.ClientScope(
            "scope", name="kit-roles", description="Roles", include_in_token_scope=False, gui_order=3, **where
        )
        keycloak.openid.ClientDefaultScopes(
            "default-scopes", client_id=web.id, default_scopes=["profile", "email", scope.name], **where
        )
        keycloak.openid.ClientOptionalScopes("optional-scopes", client_id=spa.id, optional_scopes=["phone"], **where)
        _mappers({"client_scope_id": scope.id, **where}, {"client_id": web.id, **where})
        _users(phase, where, roles, child)
        _brokers(roles["viewer"], opts)

    return build


def _mappers(scope: dict[str, Any], client: dict[str, Any]) -> None:
    openid = keycloak.openid
    openid.AudienceProtocolMapper("audience", name="audience", included_custom_audience="web", **scope)
    openid.AudienceResolveProtocolMapper("audiences", **scope)
    openid.FullNameProtocolMapper("full-name", name="full name", add_to_id_token=False, **client)
    openid.GroupMembershipProtocolMapper("groups", name="groups", claim_name="groups", full_path=False, **client)
    openid.HardcodedClaimProtocolMapper("fixed", name="fixed", claim_name="kit", claim_value="yes", **client)
    openid.UserAttributeProtocolMapper("attribute", name="floor", claim_name="floor", user_attribute="floor", **client)
    openid.UserClientRoleProtocolMapper(
        "client-roles",
        name="client roles",
        claim_name="roles",
        client_id_for_role_mappings="web",
        multivalued=True,
        **client,
    )
    openid.UserPropertyProtocolMapper("property", name="mail", claim_name="mail", user_property="email", **client)
    openid.UserRealmRoleProtocolMapper(
        "realm-roles", name="realm roles", claim_name="groups2", multivalued=True, **client
    )


def _users(phase: _Phase, where: Any, roles: dict[str, keycloak.Role], group: keycloak.Group) -> None:
    user = keycloak.User(
        "user",
        username=phase.username,
        email=f"{phase.username}@localhost",
        email_verified=True,
        first_name="Ada",
        last_name="Lovelace",
        initial_password={"value": _hidden("password"), "temporary": False},
        **where,
    )
    keycloak.UserGroups("user-groups", user_id=user.id, group_ids=[group.id], exhaustive=False, **where)
    keycloak.UserRoles(
        "user-roles", user_id=user.id, role_ids=[role.id for role in roles.values()], exhaustive=False, **where
    )


def _brokers(role: keycloak.Role, opts: pulumi.ResourceOptions) -> None:
    where: Any = {"realm": role.realm_id, "opts": opts}
    partner = keycloak.oidc.IdentityProvider(
        "partner",
        alias="partner",
        authorization_url="https://partner.localhost/auth",
        token_url="https://partner.localhost/token",
        jwks_url="https://partner.localhost/keys",
        client_id="kit",
        client_secret=_hidden("broker"),
        **where,
    )
    google = keycloak.oidc.GoogleIdentityProvider(
        "google", client_id="kit", client_secret=_hidden("google"), hosted_domain="example.org", **where
    )
    keycloak.HardcodedRoleIdentityMapper(
        "google-role", name="viewer", identity_provider_alias=google.alias, role=role.name,
        extra_config={"syncMode": "INHERIT"}, **where,
    )  # fmt: skip
    keycloak.HardcodedGroupIdentityProviderMapper(
        "google-group", name="staff", identity_provider_alias=google.alias, group="/staff", **where
    )
    keycloak.AttributeToRoleIdentityMapper(
        "partner-role", name="viewer", identity_provider_alias=partner.alias, role=role.name,
        claim_name="title", claim_value="chief", **where,
    )  # fmt: skip


def _changed(run: Run) -> dict[str, int]:
    """Deploy and return the number of resources by what was done to them, those that stayed left out."""
    return {kind: number for kind, number in run.up().items() if kind != "same"}


def _client(server: Server, name: str) -> dict[str, Any]:
    return server.admin.get("realms", REALM, "clients", clientId=name)[0]


def test_a_whole_life(server: Server, stack: Stacks) -> None:
    phase = _Phase()

    def changing(opts: pulumi.ResourceOptions) -> None:
        _everything(phase)(opts)

    run = stack(_program(server.url, changing))
    admin = server.admin

    # Create
    run.up()
    realm = admin.get("realms", REALM)
    assert (realm["id"], realm["displayName"], realm["accessTokenLifespan"], realm["ssoSessionMaxLifespan"]) == (
        REALM, "Kit", 300, 36000,
    )  # fmt: skip
    assert (realm["bruteForceProtected"], realm["failureFactor"], realm["otpPolicyDigits"]) == (True, 5, 8)
    assert realm["smtpServer"]["starttls"] == "true"
    assert realm["attributes"]["purpose"] == "test"
    web = _client(server, "web")
    assert web["secret"] == SECRETS["client"]
    assert web["attributes"]["post.logout.redirect.uris"] == "https://chat.localhost/##+"
    assert web["directAccessGrantsEnabled"] is False
    assert sorted(web["defaultClientScopes"]) == ["email", "kit-roles", "profile"]
    (user,) = admin.get("realms", REALM, "users", username="ada")
    mapped = admin.get("realms", REALM, "users", user["id"], "role-mappings")["realmMappings"]
    # Not exhaustive: the default role that Keycloak gives stays.
    assert {role["name"] for role in mapped} == {"viewer", "editor", f"default-roles-{REALM}"}
    groups = admin.get("realms", REALM, "users", user["id"], "groups")
    assert "/staff/admins" in {group["path"] for group in groups}
    robot = admin.get("realms", REALM, "clients", _client(server, "robot")["id"], "service-account-user")
    robot_roles = admin.get("realms", REALM, "users", robot["id"], "role-mappings")
    assert [role["name"] for role in robot_roles["clientMappings"]["web"]["mappings"]] == ["use"]

    state = json.dumps(run.state())
    for secret in (*SECRETS.values(), CLIENT_SECRET, _client(server, "robot")["secret"]):
        assert secret not in state

    # Nothing to do, before and after a refresh
    assert _changed(run) == {}
    run.refresh()
    assert _changed(run) == {}

    # In place
    phase.title, phase.lifespan, phase.web_authn = "Kit 2", "10m", False
    phase.redirects = ("https://chat.localhost/*",)
    assert _changed(run) == {"update": 2}
    assert admin.get("realms", REALM)["accessTokenLifespan"] == 600
    assert _client(server, "web")["redirectUris"] == ["https://chat.localhost/*"]
    assert _client(server, "web")["secret"] == SECRETS["client"]

    assert sorted(_client(server, "web")["defaultClientScopes"]) == ["email", "kit-roles", "profile"]

    # Replace: a user's name is its identity, and what refers to the user follows
    phase.username = "grace"
    assert _changed(run) == {"replace": 3}
    assert [user["username"] for user in admin.get("realms", REALM, "users")] == ["grace"]

    # Drift
    by_hand = {"redirectUris": ["https://evil.example/*"], "enabled": False}
    admin.put("realms", REALM, "clients", _client(server, "web")["id"], body=by_hand)
    viewer = admin.get("realms", REALM, "roles", "viewer")
    admin.put("realms", REALM, "roles-by-id", viewer["id"], body={**viewer, "description": "by hand"})
    staff = admin.get("realms", REALM, "groups", search="staff", exact="true")[0]
    admin.delete("realms", REALM, "groups", staff["id"], "role-mappings", "realm", body=[viewer])
    admin.put("realms", REALM, body={"failureFactor": 99, "smtpServer": {}})
    broker = admin.get("realms", REALM, "identity-provider", "instances", "partner")
    admin.delete("realms", REALM, "identity-provider", "instances", "partner")
    assert broker["config"]["clientSecret"] == mapping.MASK
    run.refresh()
    assert _changed(run) == {"update": 4, "create": 2}
    web = _client(server, "web")
    assert (web["redirectUris"], web["enabled"]) == (["https://chat.localhost/*"], True)
    assert admin.get("realms", REALM, "roles", "viewer")["description"] == "May be viewer"
    assert admin.get("realms", REALM, "groups", staff["id"], "role-mappings")["realmMappings"][0]["name"] == "viewer"
    assert admin.get("realms", REALM)["failureFactor"] == 5
    assert admin.get("realms", REALM)["smtpServer"]["host"] == "mail.localhost"
    assert _changed(run) == {}

    # Delete
    run.destroy()
    assert admin.find("realms", REALM) is None


@pytest.mark.spec("OPS-01")
def test_what_a_killed_run_has_made_is_taken_up_and_not_made_twice(
    server: Server, stack: Stacks, killed: Stacks
) -> None:
    """Everything is there, and nothing of it is in the state of the second stack."""
    first, again = (
        stack(_program(server.url, _everything(_Phase()))),
        killed(_program(server.url, _everything(_Phase()))),
    )
    first.up()
    steps = _steps(server)
    again.up()
    assert again.identifiers() == first.identifiers()
    assert _steps(server) == steps
    again.refresh()
    assert _changed(again) == {}
    # Without a killed run, what is there is somebody else's.
    other = stack(_program(server.url, _everything(_Phase())))
    assert "already in the realm" in other.up_fails()


def _steps(server: Server) -> dict[str, list[str]]:
    """Return the steps of each flow of the realm."""
    realm = ("realms", REALM, "authentication", "flows")
    return {
        flow["alias"]: [step["id"] for step in server.admin.get(*realm, flow["alias"], "executions")]
        for flow in server.admin.get(*realm)
    }


def test_wrong_credentials_are_one_sentence(server: Server, stack: Stacks) -> None:
    def build(opts: pulumi.ResourceOptions) -> None:
        keycloak.Realm("realm", realm="never", opts=opts)

    printed = stack(_program(server.url, build, secret="not-the-secret")).up_fails()
    sentence = (
        f"Keycloak at {server.url} refuses the login of the client '{CLIENT_ID}' in the realm 'master': Invalid client"
    )
    assert sentence in printed
    assert "not-the-secret" not in printed


def test_a_name_that_is_taken_is_one_sentence(server: Server, stack: Stacks) -> None:
    def build(opts: pulumi.ResourceOptions) -> None:
        keycloak.openid.Client("account", realm_id="master", client_id="account", access_type="PUBLIC", opts=opts)

    printed = stack(_program(server.url, build)).up_fails()
    assert "Keycloak has a client 'account' already in the realm 'master' (keycloak:openid/client:Client)" in printed


def test_a_password_that_the_realm_refuses_makes_no_user(server: Server, stack: Stacks) -> None:
    def build(opts: pulumi.ResourceOptions) -> None:
        realm = keycloak.Realm("realm", realm="strict", password_policy="length(12)", opts=opts)
        keycloak.User("user", realm_id=realm.id, username="eve", initial_password={"value": "sh0rt!"}, opts=opts)

    run = stack(_program(server.url, build))
    assert "sh0rt!" not in run.up_fails()
    assert server.admin.get("realms", "strict", "users") == []
    run.destroy()
    assert server.admin.find("realms", "strict") is None


def test_a_realm_can_be_protected(server: Server, stack: Stacks) -> None:
    protected = True

    def build(opts: pulumi.ResourceOptions) -> None:
        keycloak.Realm("realm", realm="kept", terraform_deletion_protection=protected, opts=opts)

    run = stack(_program(server.url, build))
    run.up()
    with pytest.raises(Exception, match="the realm 'kept' is protected"):
        run.destroy()
    assert server.admin.find("realms", "kept") is not None
    protected = False
    run.up()
    run.destroy()
    assert server.admin.find("realms", "kept") is None
