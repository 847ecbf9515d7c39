"""Jenkins: runs pipelines, with its people and their rights from Keycloak."""

import pulumi
import yaml

from components.context import Platform
from components.identity import keycloak, realm
from components.images import JENKINS, Image, Machine
from components.service import (
    FILES,
    SECRETS,
    TEMPORARY,
    Container,
    DataVolume,
    Health,
    Network,
    OidcClient,
    Route,
    Service,
    http_health,
)
from settings import Role, SettingsError

HOST = "jenkins"
PORT = 8080
CLIENT = "jenkins"
HOME = "/var/jenkins_home"
TRUST = f"{TEMPORARY}/authorities.p12"
"""Java's own authorities and the platform's, in one file."""

PLUGINS = {
    "configuration-as-code": "2006.v001a_2ca_6b_574",
    "git": "5.8.0",
    "oic-auth": "4.609.v9de140f63d01",
    "role-strategy": "777.v4fe2599cb_f48",
    "workflow-aggregator": "608.v67378e9d3db_1",
}
"""Version by plugin; what they need comes with them."""

RIGHTS = {
    Role.ADMIN: ("Overall/Administer",),
    Role.EDITOR: (
        "Overall/Read",
        "Job/Read",
        "Job/Build",
        "Job/Cancel",
        "Job/Configure",
        "Job/Create",
        "Job/Workspace",
        "Run/Replay",
        "View/Read",
    ),
    Role.VIEWER: ("Overall/Read", "Job/Read", "View/Read"),
}
"""Jenkins' permissions of each of the platform's roles: who only looks can neither run nor change anything."""

START = (
    f'cp "$JAVA_HOME/lib/security/cacerts" {TRUST}'
    f" && keytool -importcert -noprompt -keystore {TRUST} -storepass changeit -alias aikit -file {FILES}/authority.pem"
    f" && jenkins-plugin-cli --plugin-file {FILES}/plugins.txt --plugin-download-directory {HOME}/plugins"
    " && exec /usr/local/bin/jenkins.sh"
)
"""The plugins are fetched at the first start, the only time that Jenkins has to reach their registry."""


class Jenkins(Service):
    """The controller. It runs nothing itself and has no access to Docker: agents connect to it by websocket."""

    name = "jenkins"
    area = "pipelines"
    needs = ("keycloak",)

    @property
    def image(self) -> Image:
        """Jenkins' long-term release."""
        return JENKINS

    def wanted(self) -> bool:
        """Return whether the settings ask for Jenkins."""
        return self.settings.jenkins.deploy

    def left_out(self, machine: Machine) -> str:
        """Raise an error where Jenkins is asked for and cannot be had; nobody gets it without asking.

        Raises:
            SettingsError: images are built on this machine.
        """
        if reason := super().left_out(machine):
            raise SettingsError((f"jenkins-deploy is true, but {reason}; allowed here is false",))
        return ""

    def routes(self) -> tuple[Route, ...]:
        """Return Jenkins' address."""
        return (Route(host=HOST, port=PORT, health_path="/login", title="Jenkins: pipelines"),)

    def clients(self) -> tuple[OidcClient, ...]:
        """Return Jenkins' client: each of the platform's roles is one of Jenkins'."""
        return (
            OidcClient(
                client_id=CLIENT,
                title="Jenkins",
                host=HOST,
                redirect_paths=("/securityRealm/finishLogin",),
                roles={str(role): (role,) for role in RIGHTS},
            ),
        )

    def container(self, platform: Platform) -> Container:
        """Return the controller's container; one file configures it, and its secret is a file that it names."""
        return Container(
            entrypoint=("bash", "-c", START),
            environment={
                "CASC_JENKINS_CONFIG": f"{FILES}/jenkins.yaml",
                "SECRETS": SECRETS,
                "JAVA_OPTS": " ".join(
                    (
                        "-Djenkins.install.runSetupWizard=false",
                        f"-Djavax.net.ssl.trustStore={TRUST}",
                        "-Djavax.net.ssl.trustStorePassword=changeit",
                        "-XX:MaxRAMPercentage=60",
                    )
                ),
            },
            files={
                "authority.pem": pulumi.Output.from_input(platform.certificates.authority),
                "jenkins.yaml": configuration(platform),
                "plugins.txt": "".join(f"{name}:{version}\n" for name, version in sorted(PLUGINS.items())),
            },
            secrets={"client-secret": realm.client_secret(platform, CLIENT)},
            health=Health(command=http_health(PORT, "/login"), interval_seconds=15, start_seconds=600),
            networks=(Network.APPLICATIONS,),
            volumes=(DataVolume(name="jenkins-data", path=HOME),),
            user="1000",
            memory_mb=self.settings.jenkins.memory_mb,
            temporary={TEMPORARY: 512},
            stop_seconds=60,
        )


def configuration(platform: Platform) -> str:
    """Return ``jenkins.yaml`` for Jenkins' plugin Configuration as Code; it names the secret's file and holds no secret."""
    address = platform.url(HOST)
    return yaml.safe_dump(
        {
            "jenkins": {
                "systemMessage": "Pipelines of the AI kit. This Jenkins is configured by the deployment.",
                # Builds belong to agents: the controller holds everybody's secrets.
                "numExecutors": 0,
                "mode": "EXCLUSIVE",
                "slaveAgentPort": -1,
                "crumbIssuer": {"standard": {"excludeClientIPFromCrumb": False}},
                "securityRealm": {
                    "oic": {
                        "clientId": CLIENT,
                        "clientSecret": "${client-secret}",
                        "serverConfiguration": {
                            "wellKnown": {
                                "wellKnownOpenIDConfigurationUrl": (
                                    f"{keycloak.issuer(platform)}/.well-known/openid-configuration"
                                ),
                                "scopesOverride": "openid email profile",
                            }
                        },
                        "properties": ["pkce"],
                        "userNameField": "preferred_username",
                        "fullNameFieldName": "name",
                        "emailFieldName": "email",
                        "groupsFieldName": realm.CLAIM,
                        "userIdStrategy": "caseSensitive",
                        "groupIdStrategy": "caseSensitive",
                        "disableSslVerification": False,
                        "rootURLFromRequest": False,
                        "logoutFromOpenidProvider": True,
                        "postLogoutRedirectUrl": f"{address}/",
                    }
                },
                "authorizationStrategy": {
                    "roleBased": {
                        "roles": {
                            "global": [
                                {
                                    "name": str(role),
                                    "permissions": list(permissions),
                                    "entries": [{"group": str(role)}],
                                }
                                for role, permissions in RIGHTS.items()
                            ]
                        }
                    }
                },
            },
            "unclassified": {"location": {"url": f"{address}/"}},
        },
        sort_keys=False,
    )
