"""Secrets agent of the services with a database: their files have passwords that Vault makes when the databases are there."""

from components.secrets import names
from components.secrets.agent import SecretsAgent


class DatabaseSecretsAgent(SecretsAgent):
    """A second agent, because PostgreSQL, too, starts with a secret that an agent writes."""

    name = names.DATABASE_AGENT
    needs = ("vault", "postgres")
