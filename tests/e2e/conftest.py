"""The real platform: stack ``test`` brought up by the command that people use, once for these tests, and gone after the last one."""

import base64
import dataclasses
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

import settings
from components.registry import SERVICES
from components.service import Service
from toolchain.tiny_model import tiny_model

STACK = os.environ.get("AIKIT_TEST_STACK", "test")
KEEP = "AIKIT_KEEP" in os.environ
"""Set it to use a stack that runs already, and to leave it running: for writing tests."""
ASK_MODEL = """
import json, urllib.request
request = urllib.request.Request(
    "http://haproxy:11434/api/generate",
    json.dumps({"model": "tiny", "prompt": "?", "stream": False, "options": {"num_predict": 5}}).encode(),
    {"Content-Type": "application/json"},
)
print(urllib.request.urlopen(request, timeout=60).status)
"""
"""Asks a model, in a container that reaches the queue, for five tokens."""

SCREENSHOTS = settings.ROOT / ".aikit" / "screenshots"


def aikit(*arguments: str, check: bool = True, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person does."""
    done = subprocess.run(
        [sys.executable, "-m", "operations", *arguments],
        cwd=settings.ROOT,
        env={**os.environ, "AIKIT_STACK": STACK, "PYTHONPATH": str(settings.ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        pytest.fail(
            f"aikit {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        )
    return done


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployed:
    """The running platform, as a person who deployed it knows it."""

    settings: settings.Settings
    outputs: dict[str, Any]
    docker: docker.DockerClient

    @property
    def passwords(self) -> dict[str, str]:
        """Password of each person by user name."""
        return {
            self.outputs["administrator"]["username"]: self.outputs["administratorPassword"],
            **self.outputs["userPasswords"],
        }

    @property
    def services(self) -> list[Service]:
        """The services that run."""
        running = {service["name"] for service in self.outputs["services"]}
        return [service for kind in SERVICES if (service := kind(self.settings)).name in running]

    def url(self, label: str) -> str:
        """Return the public address that begins with ``label``."""
        return f"https://{label}.{self.settings.domain}:{self.settings.https_port}"

    def container(self, service: str) -> Any:
        """Return the container of a service."""
        return self.docker.containers.get(f"aikit-{STACK}-{service}")

    def run(self, service: str, *command: str) -> str:
        """Run a command in a service's container and return what it prints."""
        code, output = self.container(service).exec_run(list(command))
        assert code == 0, output.decode()
        return output.decode()

    def health(self) -> Mapping[str, str]:
        """Return what is said of each container, by its name without the stack's."""
        shown = json.loads(aikit("status", "--json", check=False).stdout)
        return {str(row["container"]).removeprefix(f"aikit-{STACK}-"): row["health"] for row in shown["services"]}

    def client(self) -> httpx.Client:
        """Return an HTTP client that trusts the platform's authority alone and finds every host on this machine."""
        context = ssl.create_default_context(cadata=self.outputs["caCertificate"])
        return httpx.Client(transport=_ThisMachine(verify=context), timeout=30)


class _ThisMachine(httpx.HTTPTransport):
    """Connects to 127.0.0.1 whatever the host is, as browsers do for names below localhost; the name is still verified."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        # Another request, because the client looks at its own for the host that cookies are for.
        return super().handle_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host="127.0.0.1"),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": request.url.host},
            )
        )


@pytest.fixture(scope="package")
def up() -> str:
    """Bring the platform up and return what the command said."""
    model = settings.ROOT / ".aikit" / "tiny.gguf"
    model.parent.mkdir(exist_ok=True)
    if not model.exists():
        tiny_model(model)
    if KEEP:
        return ""
    # Leftovers of a run that was cut off; nothing to do on a fresh machine.
    aikit("destroy", "--yes", "--data", "--keep-images", check=False)
    return aikit("up", "--yes").stdout


@pytest.fixture(scope="package")
def platform(up: str) -> Iterator[Deployed]:
    """Return the running platform; it is removed after the last test."""
    del up
    outputs = json.loads(aikit("outputs", "--json", "--show-secrets").stdout)
    yield Deployed(settings=settings.load(STACK), outputs=outputs, docker=docker.from_env())
    if not KEEP:
        aikit("destroy", "--yes", "--data", "--keep-images")


@pytest.fixture(scope="package")
def browser(platform: Deployed) -> Iterator[Browser]:
    """Return Debian's Chromium; it accepts the platform's certificate and no other unknown one."""
    certificate = x509.load_pem_x509_certificate(platform.outputs["caCertificate"].encode())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--ignore-certificate-errors-spki-list={base64.b64encode(hashlib.sha256(key).digest()).decode()}",
            ],
        )
        yield browser
        browser.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Person:
    """A person with a browser of their own."""

    platform: Deployed
    context: BrowserContext
    page: Page

    def sign_in(self, address: str, username: str) -> None:
        """Open a page, be sent to Keycloak, and sign in there."""
        self.open_sign_in(address)
        self.give(username, self.platform.passwords[username])

    def give(self, username: str, password: str) -> None:
        """Fill in Keycloak's form, which is open, and send it."""
        self.page.locator("#username").fill(username)
        self.page.locator("#password").fill(password)
        self.page.locator("#kc-login").click()

    def choose_password(self, password: str) -> None:
        """Fill in the form that Keycloak shows to those who must change theirs."""
        self.page.locator("#password-new").fill(password)
        self.page.locator("#password-confirm").fill(password)
        self.page.keyboard.press("Enter")

    def ask(self, question: str) -> None:
        """Send a question to the model that the chat's page has chosen, once it has."""
        chosen = self.page.get_by_role("button", name=re.compile("Selected model"))
        try:
            chosen.first.wait_for(timeout=10_000)
        except Error:
            # Seen once: the page came up without having asked for the models. People load it again.
            self.page.reload()
            chosen.first.wait_for()
        self.page.locator("#chat-input").fill(question)
        self.page.keyboard.press("Enter")

    def open_sign_in(self, address: str) -> None:
        """Open a page and wait until Keycloak asks who it is; the very first visitor is welcomed by the chat before."""
        self.page.goto(address, wait_until="domcontentloaded")
        field = self.page.locator("#username")
        steps = self.page.get_by_role("button", name=re.compile("Get started|Continue with Keycloak"))
        while not field.is_visible():
            field.or_(steps).first.wait_for()
            if steps.first.is_visible():
                steps.first.click()
                self.page.wait_for_timeout(500)

    def arrive_at_chat(self) -> None:
        """Wait for the chat after a sign-in.

        In a browser that was signed in before, the chat now and then forgets what it has just sent to Keycloak: a late answer to its own
        page brings back the cookie of before (authlib says "State not equal"). It offers the way to Keycloak again, and people take it.
        """
        ready, again = self.page.locator("#chat-input"), self.page.get_by_role("button", name="Continue with Keycloak")
        ready.or_(again).first.wait_for()
        if not ready.is_visible():
            again.click()
            ready.wait_for()

    def screenshot(self, name: str) -> Path:
        """Keep a picture of the page for docs/quickstart.md."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path


@pytest.fixture
def person(platform: Deployed, browser: Browser) -> Iterator[Person]:
    """Return a person who has not signed in anywhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
    context.set_default_timeout(60_000)
    yield Person(platform=platform, context=context, page=context.new_page())
    context.close()
