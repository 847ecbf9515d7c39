"""Names in Keycloak that those need, too, who talk to it without deploying it; importing them costs nothing."""

from settings import Role

CLIENT = "pulumi"
"""Service-account client by which the deployment manages Keycloak; no person can sign in with it."""

CLIENT_SECRET = "keycloak-deployment-secret"  # noqa: S105 -- the name of one
"""Name of the generated secret of that client."""

GROUPS = {Role.ADMIN: "admins", Role.EDITOR: "editors", Role.VIEWER: "viewers"}
"""The group whose members have a role, the most powerful first; new people become viewers."""
