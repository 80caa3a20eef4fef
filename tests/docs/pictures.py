"""Make the pictures of these pages: the report in Chromium, and the live views of a terminal (tmux).

python -m tests.docs.pictures DEMO      # a folder that examples/quickstart.sh wrote
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

from tests.conftest import REPO

PICTURES = REPO / "docs" / "pictures"
COLUMNS, LINES = 92, 24
# name: (the only section that is shown, width, height, dark)
SHOTS = {
    "report-light": ("", 880, 560, False),
    "report-dark": ("output-4", 880, 860, True),
    "report-phone": ("output-6", 500, 1000, False),
}
# name: (command in a terminal, words on the screen when the picture is taken, seconds after that)
VIEWS = {
    "live-training": ("gptctl pretrain tokens -o run --max-minutes 2", "after step", 30.0),
    "live-clean": ("gptctl clean raw.jsonl -o clean --preset web", "%", 0.3),
}


def shoot(page: Path, name: str, part: str, width: int, height: int, dark: bool) -> None:
    """Take a picture of the top of a page, or of one section."""
    target = PICTURES / f"{name}.png"
    if part:
        hidden = f"header,section:not(#{part}){{display:none}}</style>"
        page.with_name("part.html").write_text(
            page.read_text(encoding="utf-8").replace("</style>", hidden, 1), encoding="utf-8"
        )
        page = page.with_name("part.html")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
             f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},{height}",
             f"--screenshot={target}", f"file://{page}"],
            check=True, capture_output=True,
        )  # fmt: skip
    Image.open(target).convert("RGB").quantize(128).save(target, optimize=True)


def record(name: str, command: str, words: str, seconds: float, folder: Path) -> None:
    """Run a command in a terminal, and draw its screen as SVG `seconds` after it shows some words."""
    session = f"pictures-{name}"
    subprocess.run(
        ["tmux", "new-session", "-d", "-s", session, "-x", str(COLUMNS), "-y", str(LINES), "-c", str(folder), command],
        check=True,
    )
    try:
        while words not in (screen := capture(session)):
            time.sleep(0.05)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            screen = capture(session) or screen
            time.sleep(0.1)
    finally:
        subprocess.run(["tmux", "kill-session", "-t", session], check=False, capture_output=True)
    (PICTURES / f"{name}.svg").write_text(draw(command, screen), encoding="utf-8")


def capture(session: str) -> str:
    """Return the screen of a session with its colours, or nothing if it has ended."""
    done = subprocess.run(
        ["tmux", "capture-pane", "-e", "-p", "-t", session], capture_output=True, text=True, check=False
    )
    return done.stdout.rstrip()


def draw(command: str, screen: str) -> str:
    """Return a screen as SVG with a title and a description, in a font of the reader."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(screen))
    svg = console.export_svg(title=command, unique_id="screen")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "ui-monospace, Menlo, Consolas")
    plain = " ".join(Text.from_ansi(screen).plain.split())
    return svg.replace(">", f' role="img"><title>{escape(command)}</title><desc>{escape(plain)}</desc>', 1)


def escape(text: str) -> str:
    """Escape the characters that XML has a meaning for."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def main() -> None:
    """Make all pictures, or those that are named after DEMO."""
    demo, names = Path(sys.argv[1]).resolve(), sys.argv[2:]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        page = folder / "report.html"
        subprocess.run(["gptctl", "report", "scores", "-o", page], cwd=demo, check=True)
        for name, shot in SHOTS.items():
            if not names or name in names:
                shoot(page, name, *shot)
        for name in ("raw.jsonl", "tokens"):
            (folder / name).symlink_to(demo / name)
        for name, view in VIEWS.items():
            if not names or name in names:
                record(name, *view, folder)


if __name__ == "__main__":
    main()
