"""How people sign in: the steps of a login, as authentication flows of the realm."""

import dataclasses
from collections.abc import Mapping

import pulumi
import pulumi_keycloak as keycloak

from settings import Keycloak

BROWSER = "aikit-browser"
"""Flow of every login at the login page."""
DIRECT_GRANT = "aikit-direct-grant"
"""Flow of a program that sends someone's name and password itself: refused, as no second factor could be asked for there.

No client of the platform may do it, but Keycloak makes one in every realm that may: ``admin-cli``.
"""
AFTER_PROVIDER = "aikit-after-provider"
"""Flow after another identity provider has said who someone is."""
FIRST_LOGIN = {True: "aikit-first-login-new", False: "aikit-first-login-known"}
"""Flow of the first login from another identity provider, by whether people without an account get one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One authenticator of Keycloak, and what it is configured with."""

    authenticator: str
    requirement: str = "REQUIRED"
    config: Mapping[str, pulumi.Input[str]] = dataclasses.field(default_factory=dict[str, pulumi.Input[str]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Branch:
    """A flow inside another one; CONDITIONAL means that its conditions decide whether it is gone through."""

    alias: str
    requirement: str
    steps: tuple["Step | Branch", ...]


def browser(rules: Keycloak, admin: pulumi.Input[str], *, providers: bool) -> tuple[Step | Branch, ...]:
    """Return the steps of a login at the login page; ``providers`` says whether there are others to go to."""
    return (
        Step(authenticator="auth-cookie", requirement="ALTERNATIVE"),
        *((Step(authenticator="identity-provider-redirector", requirement="ALTERNATIVE"),) if providers else ()),
        Branch(
            alias=f"{BROWSER}-form",
            requirement="ALTERNATIVE",
            steps=(
                # Accepts a passkey in place of name and password, too, where the realm allows that.
                Step(authenticator="auth-username-password-form"),
                *_second_factor(BROWSER, rules, admin),
                *_session_limit(rules),
            ),
        ),
    )


def after_provider(rules: Keycloak, admin: pulumi.Input[str]) -> tuple[Step | Branch, ...]:
    """Return the steps after another identity provider's login: whoever needs a second factor needs it there, too."""
    return (
        # A flow in which no condition holds would count as failed.
        Step(authenticator="allow-access-authenticator"),
        *_second_factor(AFTER_PROVIDER, rules, admin),
        *_session_limit(rules),
    )


def first_login(*, new_accounts: bool) -> tuple[Step | Branch, ...]:
    """Return the steps of the first login from another identity provider.

    An account that exists is never linked because of an equal address or name alone, which anyone could claim elsewhere: its
    owner confirms the link with the account's password.
    """
    link = (
        Step(authenticator="idp-confirm-link"),
        Step(authenticator="idp-username-password-form"),
    )
    if not new_accounts:
        return (Step(authenticator="idp-detect-existing-broker-user"), *link)
    alias = FIRST_LOGIN[new_accounts]
    return (
        Step(authenticator="idp-review-profile", config={"update.profile.on.first.login": "missing"}),
        Branch(
            alias=f"{alias}-account",
            requirement="REQUIRED",
            steps=(
                Step(
                    authenticator="idp-create-user-if-unique",
                    requirement="ALTERNATIVE",
                    config={"require.password.update.after.registration": "false"},
                ),
                Branch(alias=f"{alias}-link", requirement="ALTERNATIVE", steps=link),
            ),
        ),
    )


def _second_factor(flow: str, rules: Keycloak, admin: pulumi.Input[str]) -> tuple[Branch, ...]:
    """Return the steps that ask for a second factor, or have one set up by those who need it."""
    without_passkey = Step(
        authenticator="conditional-credential", config={"credentials": "webauthn-passwordless", "included": "false"}
    )
    owned = Branch(
        alias=f"{flow}-second-factor",
        requirement="CONDITIONAL",
        steps=(
            Step(authenticator="conditional-user-configured"),
            without_passkey,
            Step(authenticator="auth-otp-form", requirement="ALTERNATIVE"),
            Step(authenticator="webauthn-authenticator", requirement="ALTERNATIVE"),
        ),
    )
    if rules.multi_factor == "optional":
        return (owned,)
    admins = Step(authenticator="conditional-user-role", config={"condUserRole": admin, "negate": "false"})
    return (
        owned,
        Branch(
            alias=f"{flow}-enrolment",
            requirement="CONDITIONAL",
            steps=(
                *((admins,) if rules.multi_factor == "admins" else ()),
                Step(
                    authenticator="conditional-sub-flow-executed",
                    config={"flow_to_check": owned.alias, "check_result": "not-executed"},
                ),
                without_passkey,
                # Required and not an alternative: only then Keycloak has those set it up who have none.
                Step(authenticator="auth-otp-form"),
            ),
        ),
    )


def _session_limit(rules: Keycloak) -> tuple[Step, ...]:
    if not rules.sessions_per_person:
        return ()
    return (
        Step(
            authenticator="user-session-limits",
            config={
                "userRealmLimit": str(rules.sessions_per_person),
                "userClientLimit": "0",
                "behavior": "Terminate oldest session",
            },
        ),
    )


def deploy(
    realm: keycloak.Realm,
    rules: Keycloak,
    *,
    admin: pulumi.Input[str],
    first_logins: frozenset[bool],
    options: pulumi.ResourceOptions,
) -> Mapping[str, pulumi.Resource]:
    """Make the flows and bind them; return the last resource of each, after which it is complete.

    Args:
        realm: to sign in to.
        rules: what is asked of people.
        admin: name of the realm's role whose holders are administrators.
        first_logins: values of ``new_accounts`` among the other identity providers; empty if there are none.
        options: of every resource.
    """
    trees: dict[str, tuple[Step | Branch, ...]] = {
        BROWSER: browser(rules, admin, providers=bool(first_logins)),
        DIRECT_GRANT: (Step(authenticator="deny-access-authenticator"),),
    }
    if first_logins:
        trees[AFTER_PROVIDER] = after_provider(rules, admin)
    for new_accounts in sorted(first_logins):
        trees[FIRST_LOGIN[new_accounts]] = first_login(new_accounts=new_accounts)
    flows: dict[str, pulumi.Resource] = {}
    aliases: dict[str, pulumi.Output[str]] = {}
    for alias, steps in trees.items():
        flow = keycloak.authentication.Flow(
            f"flow-{alias}", keycloak.authentication.FlowArgs(realm_id=realm.id, alias=alias), options
        )
        made = _make(alias, flow.alias, steps, realm, options)
        flows[alias], aliases[alias] = made[-1], flow.alias
    keycloak.authentication.Bindings(
        "flow-bindings",
        keycloak.authentication.BindingsArgs(
            realm_id=realm.id, browser_flow=aliases[BROWSER], direct_grant_flow=aliases[DIRECT_GRANT]
        ),
        # Not before their last steps are there: a half-made flow would let people in with a password alone, or nobody.
        pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[flows[BROWSER], flows[DIRECT_GRANT]])),
    )
    for name, alias, enabled in (
        ("one-time-password", "CONFIGURE_TOTP", True),
        ("security-key", "webauthn-register", True),
        ("passkey", "webauthn-register-passwordless", rules.passkeys),
    ):
        keycloak.RequiredAction(
            name,
            keycloak.RequiredActionArgs(realm_id=realm.realm, alias=alias, enabled=enabled, default_action=False),
            options,
        )
    return flows


def _make(
    alias: str,
    parent: pulumi.Input[str],
    steps: tuple[Step | Branch, ...],
    realm: keycloak.Realm,
    options: pulumi.ResourceOptions,
) -> list[pulumi.Resource]:
    """Make the steps of a flow, each after the one before; return them and all that is in them."""
    made: list[pulumi.Resource] = []
    for place, step in enumerate(steps):
        # One after the other: Keycloak numbers what is added to a flow at the same time alike.
        after = pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=made[-1:]))
        if isinstance(step, Branch):
            branch = keycloak.authentication.Subflow(
                f"flow-{step.alias}",
                keycloak.authentication.SubflowArgs(
                    realm_id=realm.id,
                    parent_flow_alias=parent,
                    alias=step.alias,
                    requirement=step.requirement,
                    priority=(place + 1) * 10,
                ),
                after,
            )
            made += [branch, *_make(step.alias, branch.alias, step.steps, realm, options)]
            continue
        name = f"{alias}-{step.authenticator}"
        execution = keycloak.authentication.Execution(
            f"step-{name}",
            keycloak.authentication.ExecutionArgs(
                realm_id=realm.id,
                parent_flow_alias=parent,
                authenticator=step.authenticator,
                requirement=step.requirement,
                priority=(place + 1) * 10,
            ),
            after,
        )
        made.append(execution)
        if step.config:
            made.append(
                keycloak.authentication.ExecutionConfig(
                    f"step-{name}-config",
                    keycloak.authentication.ExecutionConfigArgs(
                        realm_id=realm.id, execution_id=execution.id, alias=name, config=step.config
                    ),
                    options,
                )
            )
    return made
