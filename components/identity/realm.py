"""The platform's realm: roles, groups, people, and the clients that the services ask for."""

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_keycloak as keycloak

from components.context import Platform
from components.identity import flows, identity_providers
from components.identity.names import GROUPS
from components.secrets.rotation import Replacement, Rotation
from components.service import SIGN_IN_ROLE, OidcClient
from settings import Keycloak, Role

DESCRIPTIONS = {
    Role.ADMIN: "Full access to all services",
    Role.EDITOR: "May change configuration and data",
    Role.VIEWER: "May look, and use the chat",
}

SIGNATURES = ["ES256", "RS256"]
"""Algorithms of security keys and passkeys: the two that all of them know between them."""

CLAIM = "roles"
"""The one claim in which every service finds a person's roles."""


def client_secret(platform: Platform, client_id: str) -> pulumi.Output[str]:
    """Return the secret that Keycloak and the service share."""
    return platform.secret(f"{client_id}-client-secret", 40)


def first_password(platform: Platform, username: str) -> pulumi.Output[str]:
    """Return the password that a declared person's account is made with; it is theirs to change then."""
    administrator = platform.settings.keycloak.administrator
    return platform.secret(
        "administrator-password" if username == administrator else f"user-{username}-password",
        20,
        rotation=Rotation(
            replacement=Replacement.NEVER,
            reason=f"it is only the first password of {username}: `./aikit users reset {username}` gives another one.",
        ),
    )


def program_client(program: str) -> str:
    """Return the client identifier of a program of the settings."""
    return f"program-{program}"


def program_secret(platform: Platform, program: str) -> pulumi.Output[str]:
    """Return the secret by which a program of the settings gets tokens; it is outside, where no deployment reaches it."""
    return platform.secret(
        f"{program_client(program)}-client-secret",
        40,
        rotation=Rotation(days=0, reason=f"whoever runs {program} must be given the new one."),
    )


def deploy(
    platform: Platform,
    *,
    parent: pulumi.Resource,
    server: pulumi.Resource,
    url: str,
    client_id: str,
    client_secret: pulumi.Output[str],
) -> Sequence[pulumi.Resource]:
    """Make the realm and everything in it; return what must be there before anyone can sign in.

    Args:
        platform: whose people and services they are.
        parent: of every resource.
        server: that must be there before, and with which everything goes.
        url: at which the admin API is reached.
        client_id: of the service account that manages Keycloak.
        client_secret: its secret.
    """
    provider = keycloak.Provider(
        "keycloak-provider",
        keycloak.ProviderArgs(url=url, client_id=client_id, client_secret=client_secret, initial_login=False),
        # Without this login at the first use, a preview would need the server that it is about to plan.
        pulumi.ResourceOptions(parent=parent, depends_on=[server]),
    )
    # The realm lives in the database: when its server is deleted there is nobody to ask, and nothing is to be lost.
    options = pulumi.ResourceOptions(parent=parent, provider=provider, deleted_with=server)
    realm = _realm(platform, options)
    clients = {client.client_id: _client(platform, client, realm, options) for client in platform.clients()}
    granted: dict[Role, list[pulumi.Output[str]]] = {role: [] for role in Role}
    for _, roles in clients.values():
        for role, client_role in roles:
            granted[role].append(client_role.id)
    entered = {route.host: clients[route.host] for route in platform.routes() if route.programs}
    for program in platform.settings.programs:
        _program(platform, program, entered, realm, options)
    groups: dict[Role, keycloak.Group] = {}
    realm_roles: dict[Role, keycloak.Role] = {}
    for role in Role:
        realm_roles[role] = keycloak.Role(
            f"role-{role}",
            keycloak.RoleArgs(
                realm_id=realm.id, name=role, description=DESCRIPTIONS[role], composite_roles=granted[role] or None
            ),
            options,
        )
        groups[role] = keycloak.Group(
            f"group-{role}", keycloak.GroupArgs(realm_id=realm.id, name=GROUPS[role]), options
        )
        keycloak.GroupRoles(
            f"group-{role}-roles",
            keycloak.GroupRolesArgs(realm_id=realm.id, group_id=groups[role].id, role_ids=[realm_roles[role].id]),
            options,
        )
    keycloak.DefaultGroups(
        "default-groups",
        keycloak.DefaultGroupsArgs(realm_id=realm.id, group_ids=[groups[Role.VIEWER].id]),
        options,
    )
    made = flows.deploy(
        realm,
        platform.settings.keycloak,
        admin=realm_roles[Role.ADMIN].name,
        first_logins=frozenset(provider.new_accounts for provider in platform.settings.identity_providers),
        options=options,
    )
    identity_providers.deploy(platform, realm, made, realm_roles, options)
    _users(platform, realm, groups, options)
    return [realm]


def _realm(platform: Platform, options: pulumi.ResourceOptions) -> keycloak.Realm:
    rules = platform.settings.keycloak
    realm = keycloak.Realm(
        "realm",
        keycloak.RealmArgs(
            realm=rules.realm,
            display_name=platform.settings.chat.title,
            ssl_required="external",
            registration_allowed=False,
            reset_password_allowed=False,
            login_with_email_allowed=True,
            duplicate_emails_allowed=False,
            remember_me=True,
            password_policy=_password_policy(rules),
            access_token_lifespan=f"{rules.access_token_minutes}m0s",
            sso_session_idle_timeout=_hours(rules.session_idle_minutes),
            sso_session_max_lifespan=f"{rules.session_max_hours}h0m0s",
            internationalization=keycloak.RealmInternationalizationArgs(
                supported_locales=["en", "es"], default_locale=platform.settings.chat.language[:2]
            ),
            security_defenses=keycloak.RealmSecurityDefensesArgs(
                brute_force_detection=keycloak.RealmSecurityDefensesBruteForceDetectionArgs(
                    max_login_failures=rules.login_failures,
                    wait_increment_seconds=60,
                    max_failure_wait_seconds=rules.login_wait_minutes * 60,
                )
            ),
            # A code that was seen over a shoulder is worth nothing.
            otp_policy=keycloak.RealmOtpPolicyArgs(type="totp", digits=6, period=30, code_reusable=False),
            web_authn_policy=keycloak.RealmWebAuthnPolicyArgs(
                relying_party_entity_name=platform.settings.chat.title, signature_algorithms=SIGNATURES
            ),
            web_authn_passwordless_policy=keycloak.RealmWebAuthnPasswordlessPolicyArgs(
                relying_party_entity_name=platform.settings.chat.title,
                signature_algorithms=SIGNATURES,
                # Found without a name being typed, and opened by a finger, a face or a PIN: thus both factors in one.
                discoverable_credential="required",
                user_verification_requirement="required",
                passwordless_passkeys_enabled=rules.passkeys,
            ),
        ),
        # Bound to flows that need the realm first.
        pulumi.ResourceOptions.merge(
            options, pulumi.ResourceOptions(ignore_changes=["browserFlow", "directGrantFlow"])
        ),
    )
    keycloak.RealmEvents(
        "realm-events",
        keycloak.RealmEventsArgs(
            realm_id=realm.id,
            events_enabled=True,
            # Thirty days, the least that logs are to be kept.
            events_expiration=30 * 86400,
            admin_events_enabled=True,
            admin_events_details_enabled=False,
            events_listeners=["jboss-logging"],
        ),
        options,
    )
    return realm


def _password_policy(rules: Keycloak) -> str:
    parts = [f"length({rules.password_length})", "notUsername", "notEmail"]
    if rules.password_history:
        parts.append(f"passwordHistory({rules.password_history})")
    return " and ".join(parts)


def _hours(minutes: int) -> str:
    """Write minutes as Go does, or the provider sees a difference for ever."""
    hours, rest = divmod(minutes, 60)
    return f"{hours}h{rest}m0s" if hours else f"{rest}m0s"


def _client(
    platform: Platform, client: OidcClient, realm: keycloak.Realm, options: pulumi.ResourceOptions
) -> tuple[keycloak.openid.Client, list[tuple[Role, keycloak.Role]]]:
    """Make a client with its roles and claims; return it, and which of the platform's roles include which of its own."""
    address = platform.url(client.host)
    resource = keycloak.openid.Client(
        f"client-{client.client_id}",
        keycloak.openid.ClientArgs(
            realm_id=realm.id,
            client_id=client.client_id,
            name=client.title,
            client_secret=client_secret(platform, client.client_id),
            access_type="CONFIDENTIAL",
            standard_flow_enabled=True,
            implicit_flow_enabled=False,
            direct_access_grants_enabled=False,
            service_accounts_enabled=False,
            # Its tokens tell the roles of its own and none of those that the person has elsewhere.
            full_scope_allowed=False,
            pkce_code_challenge_method="S256",
            root_url=address,
            base_url=address,
            valid_redirect_uris=[
                *(f"{address}{path}" for path in client.redirect_paths),
                *client.local_redirects,
            ],
            valid_post_logout_redirect_uris=[address, f"{address}/"],
            web_origins=[address],
            backchannel_logout_url=client.backchannel_logout_path and f"{address}{client.backchannel_logout_path}",
            backchannel_logout_session_required=True if client.backchannel_logout_path else None,
        ),
        options,
    )
    _claims(f"client-{client.client_id}", resource, client.client_id, realm, options)
    granted: list[tuple[Role, keycloak.Role]] = []
    for name, roles in client.roles.items():
        role = keycloak.Role(
            f"client-{client.client_id}-role-{name}",
            keycloak.RoleArgs(
                realm_id=realm.id, client_id=resource.id, name=name, description=f"{client.title}: {name}"
            ),
            options,
        )
        granted += [(included_in, role) for included_in in roles]
    return resource, granted


def _claims(
    name: str,
    resource: keycloak.openid.Client,
    service: str,
    realm: keycloak.Realm,
    options: pulumi.ResourceOptions,
) -> None:
    """Say in a client's tokens for which service's client they are, and the roles there."""
    keycloak.openid.AudienceProtocolMapper(
        f"{name}-audience",
        keycloak.openid.AudienceProtocolMapperArgs(
            realm_id=realm.id, client_id=resource.id, name="audience", included_client_audience=service
        ),
        options,
    )
    keycloak.openid.UserClientRoleProtocolMapper(
        f"{name}-roles",
        keycloak.openid.UserClientRoleProtocolMapperArgs(
            realm_id=realm.id,
            client_id=resource.id,
            name="roles",
            claim_name=CLAIM,
            client_id_for_role_mappings=service,
            multivalued=True,
            add_to_id_token=True,
            add_to_access_token=True,
            add_to_userinfo=True,
        ),
        options,
    )


def _program(
    platform: Platform,
    program: str,
    entered: Mapping[str, tuple[keycloak.openid.Client, Sequence[tuple[Role, keycloak.Role]]]],
    realm: keycloak.Realm,
    options: pulumi.ResourceOptions,
) -> None:
    """Make the client by which a program of the settings gets tokens for the services that programs may use."""
    client_id = program_client(program)
    resource = keycloak.openid.Client(
        f"client-{client_id}",
        keycloak.openid.ClientArgs(
            realm_id=realm.id,
            client_id=client_id,
            name=f"Program {program}",
            client_secret=program_secret(platform, program),
            access_type="CONFIDENTIAL",
            standard_flow_enabled=False,
            implicit_flow_enabled=False,
            direct_access_grants_enabled=False,
            service_accounts_enabled=True,
        ),
        options,
    )
    for host, (service, roles) in entered.items():
        name = f"client-{client_id}-{host}"
        _claims(
            name,
            resource,
            host,
            realm,
            pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[service])),
        )
        keycloak.openid.ClientServiceAccountRole(
            f"{name}-role",
            keycloak.openid.ClientServiceAccountRoleArgs(
                realm_id=realm.id,
                service_account_user_id=resource.service_account_user_id,
                client_id=service.id,
                role=SIGN_IN_ROLE,
            ),
            # It is given by its name, which tells the engine nothing of the role.
            pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[role for _, role in roles])),
        )


def _users(
    platform: Platform, realm: keycloak.Realm, groups: dict[Role, keycloak.Group], options: pulumi.ResourceOptions
) -> None:
    rules = platform.settings.keycloak
    people = [(rules.administrator, rules.administrator_email, Role.ADMIN)] + [
        (user.username, user.email, user.role) for user in platform.settings.users
    ]
    for username, email, role in people:
        user = keycloak.User(
            f"user-{username}",
            keycloak.UserArgs(
                realm_id=realm.id,
                username=username,
                email=email,
                email_verified=True,
                first_name=username.capitalize(),
                last_name=platform.settings.chat.title,
                enabled=True,
                initial_password=keycloak.UserInitialPasswordArgs(
                    value=first_password(platform, username), temporary=False
                ),
            ),
            # The person may change name, password and second factor, and an administrator may lock the account
            # (`./aikit users disable`); the deployment does not set them back.
            pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(
                    ignore_changes=["initialPassword", "requiredActions", "firstName", "lastName", "enabled"]
                ),
            ),
        )
        keycloak.UserGroups(
            f"user-{username}-groups",
            keycloak.UserGroupsArgs(realm_id=realm.id, user_id=user.id, group_ids=[groups[role].id], exhaustive=False),
            options,
        )
