"""Who may do what where, as a document: ``python -m components.identity.access`` writes ``docs/access.md``."""

from collections.abc import Sequence

from components.identity.names import GROUPS
from components.identity.realm import DESCRIPTIONS
from components.registry import SERVICES
from components.service import SIGN_IN_ROLE, OidcClient, Service, clients_of
from settings import ROOT, Role, load, parse

FILE = ROOT / "docs" / "access.md"


def stacks() -> list[str]:
    """Return the stacks that have settings, by name."""
    return sorted(file.name.split(".")[1] for file in ROOT.glob("Pulumi.*.yaml"))


def document() -> str:
    """Return the text of ``docs/access.md``: roles, what each is in every service, and who has which in each stack."""
    services = [kind(parse({})) for kind in SERVICES]
    lines = [
        "# Who may do what",
        "",
        "Written by `python -m components.identity.access` from the services' clients and the stacks' settings.",
        "",
        "| role | group in Keycloak | meaning |",
        "|---|---|---|",
        *(f"| {role} | {GROUPS[role]} | {DESCRIPTIONS[role]} |" for role in Role),
        "",
        "## In each service",
        "",
        "A person's role includes these roles of each service's client. Whoever has none is refused there.",
        "",
        "| service | address | " + " | ".join(Role) + " |",
        "|---|---|" + "---|" * len(Role),
        *_service_rows(services),
        "",
        "## Clients",
        "",
        "Each is confidential and signs people in by the authorization code flow with PKCE (S256); there is no other flow. Keycloak sends",
        "people back to these addresses alone, and tells the address in the last column when somebody has signed out.",
        "",
        "| client | comes back to | told of signing out at |",
        "|---|---|---|",
        *(_client_row(client) for service in services for client in clients_of(service)),
        "",
        "## In each stack",
        "",
        "Declared by the settings; `./aikit users list` shows everyone, those added later, too.",
        "",
        "| stack | user | e-mail | role |",
        "|---|---|---|---|",
    ]
    for stack in stacks():
        chosen = load(stack)
        people = [(chosen.keycloak.administrator, chosen.keycloak.administrator_email, Role.ADMIN)]
        people += [(user.username, user.email, user.role) for user in chosen.users]
        lines += [f"| {stack} | {username} | {email} | {role} |" for username, email, role in people]
    return "\n".join(lines) + "\n"


def _service_rows(services: Sequence[Service]) -> list[str]:
    rows: list[str] = []
    for client in (client for service in services for client in clients_of(service)):
        cells = [", ".join(name for name, roles in client.roles.items() if role in roles) for role in Role]
        meanings = (cell.replace(SIGN_IN_ROLE, "may enter") or "refused" for cell in cells)
        rows.append(f"| {client.title} | {_address(client)} | {' | '.join(meanings)} |")
    return rows


def _client_row(client: OidcClient) -> str:
    back = [_address(client, path) for path in client.redirect_paths]
    back += [f"`{address}` (a command line)" for address in client.local_redirects]
    told = _address(client, client.backchannel_logout_path) if client.backchannel_logout_path else "not told"
    return f"| `{client.client_id}` | {', '.join(back)} | {told} |"


def _address(client: OidcClient, path: str = "") -> str:
    return f"`{client.host}.<domain>{path}`"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
