"""Names in Vault that those need, too, who talk to it without deploying it; importing them costs nothing."""

HOST = "vault"
CLIENT = "vault"

MOUNT = "secret"
SERVICES = "services"
"""Folder with an entry for each service: every secret that it uses, by the secret's name."""
PLATFORM = "platform"
"""Folder with what belongs to no service."""
SHARED = "shared"
"""Folder for secrets that administrators keep beside those of the platform."""
PEOPLE = "people"
"""Folder with a folder for each person."""
CERTIFICATES = f"{PLATFORM}/certificates"
FILES = "files"
"""Folder with an entry for each container: its secrets as files, by the file's name."""

DATABASES = "database"
"""The engine that keeps the passwords of database roles: a static role of the same name for each."""
DATABASE_SERVER = "postgres"
"""What the engine calls the server."""
DATABASE_USER = "vault"
"""Role by which Vault changes the passwords of the others."""
DATABASE_SECRET = "vault-database-password"  # noqa: S105 -- the name of one

PKI = "pki"
"""The engine that issues certificates."""
PKI_ROLE = "internal"
"""For which names it does, and how."""

DEPLOYMENT = "deployment"
"""Role by which the deployment logs in, and the policy of what it may do."""
DEPLOYMENT_SECRET = "vault-deployment-secret"  # noqa: S105 -- the name of one
AGENT = "secrets-agent"
"""Service that writes the containers' secrets, the role by which it logs in, and the policy of what it may read."""
AGENT_SECRET = "secrets-agent-secret"  # noqa: S105 -- the name of one
DATABASE_AGENT = "database-secrets-agent"
"""Service that does so, with the same login, for the containers of services with a database, once the databases are there."""
AGENTS = (AGENT, DATABASE_AGENT)
SERVICE_LOGINS = "services"
"""Where services log in: an AppRole for each, of the service's name."""
SIGN_IN = "oidc"
"""Where people sign in, by way of Keycloak."""
ADMIN, PERSON = "admin", "person"
"""Roles of people: what they ask for when they sign in, and the roles of the client that allow it."""
AUDIT = "stdout"
"""The log of accesses: where Vault writes it, so that it is among the container's lines."""


def entry(service: str) -> str:
    """Return the path of a service's secrets."""
    return f"{SERVICES}/{service}"


def files(container: str) -> str:
    """Return the path of a container's secrets."""
    return f"{FILES}/{container}"


def database_credentials(database: str) -> str:
    """Return the path at which Vault says the password of a database's role."""
    return f"{DATABASES}/static-creds/{database}"


def database_generation(database: str) -> str:
    """Return the name of what says which password of a database's role it is; with a new value Vault makes another password."""
    return f"postgres-{database}-password"
