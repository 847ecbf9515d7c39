"""The chat's own comforts, as a person uses them: theme, language, search in old conversations, export."""

import json
import re
import secrets

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Deployed, Person
from tests.e2e.test_3_services import redis


def enter(person: Person) -> Page:
    """Sign in to the chat and return its page."""
    person.sign_in(person.platform.url("chat"), "edith")
    person.page.locator("#chat-input").wait_for()
    return person.page


def open_settings(page: Page, entry: str) -> Locator:
    """Open the person's own settings at an entry of the menu there."""
    page.get_by_label("Open User Profile Menu").first.click()
    page.get_by_text("Settings", exact=True).last.click()
    dialog = page.get_by_role("dialog").last
    dialog.get_by_role("tab", name=entry).or_(dialog.get_by_role("button", name=entry)).first.click()
    return dialog


def look(page: Page) -> tuple[str, bool]:
    """Return the page's language, and whether it is dark."""
    language, classes = page.evaluate("[document.documentElement.lang, document.documentElement.className]")
    return language, "dark" in classes.split()


@pytest.mark.spec("WUI-01", "WUI-02")
def test_theme_and_language_are_chosen_and_stay(person: Person) -> None:
    page = enter(person)
    assert look(page) == ("en-US", False)
    dialog = open_settings(page, "General")
    dialog.get_by_label("Theme").select_option("dark")
    dialog.get_by_label("Language").select_option("es-ES")
    expect(dialog.get_by_role("button", name="Guardar")).to_be_visible()
    page.reload()
    page.get_by_label("Buscar").first.wait_for()
    assert look(page) == ("es-ES", True)
    person.screenshot("chat-dark-spanish")


@pytest.mark.spec("WUI-03", "WUI-04")
def test_a_conversation_is_found_again_and_exported(person: Person) -> None:
    page = enter(person)
    word = f"lighthouse{secrets.token_hex(4)}"
    person.ask(f"What is a {word}?")
    expect(page.locator("#response-content-container").first).to_have_text(re.compile(r"\S"), timeout=90_000)
    # Written down only when the answer is complete.
    expect(page.get_by_label("Stop")).to_have_count(0, timeout=90_000)
    page.goto(person.platform.url("chat"))
    page.locator("#chat-input").wait_for()
    page.get_by_label("Search").first.click()
    page.keyboard.type(word)
    expect(page.get_by_role("dialog").get_by_text(f"What is a {word}?").first).to_be_visible()
    page.keyboard.press("Escape")
    dialog = open_settings(page, "Data Controls")
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Export").first.click()
    exported = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert any(word in json.dumps(chat) for chat in exported)


@pytest.mark.spec("RED-07", "RED-09")
def test_who_is_at_the_chat_is_known_in_redis(platform: Deployed, person: Person) -> None:
    """Sessions of the chat's websockets are in Redis, where every process of the chat finds them."""
    page = enter(person)
    page.wait_for_timeout(1000)
    keys = redis(platform, "-n", "1", "KEYS", "*").split()
    pool = next(key for key in keys if key.endswith("session_pool"))
    assert "edith@example.org" in redis(platform, "-n", "1", "HVALS", pool)
