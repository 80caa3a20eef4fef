"""Make the pictures of the chat page of `gptctl serve`, with playwright and Chromium.

python -m tests.docs.chat_pictures FOLDER      # a folder that examples/chat.sh wrote
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.docs.pictures import PICTURES, reduce_colours
from tests.docs.test_serve import free_port, started


def ask(page: Any, *messages: str) -> None:
    """Send messages, and wait for the answers."""
    for message in messages:
        page.locator("#message").fill(message)
        page.locator("#message").press("Enter")
        page.locator(".turn:last-child:not(.running)").wait_for()


def chat(page: Any) -> None:
    """Ask two questions, and point at a token."""
    ask(page, "Which day comes after Monday?", "Which letter does grape begin with?")
    page.locator(".token").nth(-2).hover()


def chat_on_a_phone(page: Any) -> None:
    """Ask two questions."""
    ask(page, "Which comes first, moon or lemon?", "Is 77 even or odd?")


def continue_a_text(page: Any) -> None:
    """Let a text be continued beside the settings, and look at its tokens."""
    page.get_by_role("button", name="Settings").click()
    for label, value in (("Temperature", "0.7"), ("Max tokens", "80"), ("Seed", "3")):
        page.get_by_label(label, exact=True).fill(value)
    ask(page, "Return the number of")
    page.get_by_role("button", name="Probabilities").press("Enter")
    for _ in range(12):
        page.keyboard.press("ArrowRight")


# name: (folder of the model, its name, width, height, colour scheme, what is done)
SHOTS: dict[str, tuple[str, str, int, int, str, Callable[[Any], None]]] = {
    "chat-light": ("full", "assistant", 880, 620, "light", chat),
    "chat-dark": ("run", "run", 880, 620, "dark", continue_a_text),
    "chat-phone": ("full", "assistant", 390, 700, "light", chat_on_a_phone),
}


def main() -> None:
    """Make all pictures."""
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as models:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (folder, model, width, height, scheme, use) in SHOTS.items():
            shutil.copytree(Path(sys.argv[1], folder), Path(models, model), dirs_exist_ok=True)
            port = free_port()
            with started(f"gptctl serve {model}", port, Path(models)):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(f"http://127.0.0.1:{port}/")
                page.locator("#welcome").wait_for()
                use(page)
                page.screenshot(path=PICTURES / f"{name}.png")
                page.close()
            reduce_colours(PICTURES / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
