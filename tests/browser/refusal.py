"""Taking IndexedDB from a page and giving it back, in the ways browsers refuse it."""

from __future__ import annotations

from tests.browser.pages import Page

KINDS = {
    "absent": "Object.defineProperty(window, 'indexedDB', { value: undefined, configurable: true });",
    "throwing": """Object.defineProperty(window, 'indexedDB', {
        get() { throw new DOMException('not here', 'SecurityError'); }, configurable: true });""",
    "refusing": """Object.defineProperty(window, 'indexedDB', {
        value: { open() { throw new DOMException('not here', 'SecurityError'); } }, configurable: true });""",
}  # fmt: skip


def take(page: Page, kind: str = "absent") -> None:
    page.evaluate(
        "window.before_ ??= Object.getOwnPropertyDescriptor(window, 'indexedDB') ?? null;" + KINDS[kind]
    )


def give_back(page: Page) -> None:
    page.evaluate(
        "if (window.before_ === undefined) return;"
        "delete window.indexedDB; if (window.before_) Object.defineProperty(window, 'indexedDB', window.before_);"
    )
