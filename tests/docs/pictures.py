"""Make the pictures of these pages: the report in Chromium, the live view of the same run, and the bar of clean.

python -m tests.docs.pictures DEMO      # a folder that examples/quickstart.sh wrote
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from html import escape
from pathlib import Path

from PIL import Image
from rich.console import Console, RenderableType
from rich.text import Text

from gptctl.cli.training_view import TrainingView
from gptctl.reporting.events import lasting, read_events
from tests.conftest import REPO

PICTURES = REPO / "docs" / "pictures"
COLUMNS = 92
SHARE = 0.75  # of the run, when the picture of the live view is taken
# name: (the only section that is shown, width, height, dark)
SHOTS = {
    "report-light": ("", 880, 560, False),
    "report-dark": ("output-4", 880, 860, True),
    "report-phone": ("output-6", 500, 1000, False),
}


def shoot(page: Path, name: str, part: str, width: int, height: int, dark: bool) -> None:
    """Take a picture of the top of a page, or of one section."""
    target = PICTURES / f"{name}.png"
    if part:
        hidden = f"header,section:not(#{part}){{display:none}}</style>"
        text = page.read_text(encoding="utf-8").replace("</style>", hidden, 1)
        page = page.with_name("part.html")
        page.write_text(text, encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
             f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},{height}",
             f"--screenshot={target}", f"file://{page}"],
            check=True, capture_output=True,
        )  # fmt: skip
    reduce_colours(target)


def reduce_colours(picture: Path) -> None:
    """Make a file smaller."""
    Image.open(picture).convert("RGB").quantize(128).save(picture, optimize=True)


def draw_live_view(run: Path, title: str) -> str:
    """Return the live view of a run at three quarters of its steps, from its events, as SVG."""
    events = lasting(read_events(str(run)))
    steps = [event for event in events if event.get("event") == "step"]
    total, view = steps[-1], TrainingView()
    figures = {"steps": total["step"], "unit": "tokens"}
    for event in events:
        if event.get("step", 0) > SHARE * total["step"]:
            break
        if event["event"] == "step":
            view.update(figures | event | {"seconds_left": total["train_seconds"] - event["train_seconds"]})
            figures |= {name: view.figures[name] for name in view.figures if name != "event"}
        elif event["event"] == "eval":
            figures |= {"val_loss": event["val_loss"], "best_loss": event["val_loss"]}
        elif event["event"] == "sample":
            figures |= {"sample": event["text"], "sample_step": event["step"]}
        elif event["event"] == "checkpoint":
            figures |= {"checkpoint": event["step"]}
    return draw(view, title)


def draw_command(command: str, folder: Path) -> str:
    """Run a command on a terminal, and return its bar at three quarters of the work, and its last words, as SVG."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(command.split(), cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(65536):
                written += piece
        except OSError:  # Linux reports the end of a terminal so
            pass
    assert process.wait() == 0
    *bars, rest = written.decode().replace("\r\n", "\n").split("\x1b[2K")
    bar = next(bar for bar in bars if (found := re.search(r" (\d+)%", bar)) and int(found[1]) >= 100 * SHARE)
    shown = Text("\n").join(Text.from_ansi(part.strip("\r\n")) for part in (f"$ {command}", bar, "", rest))
    return draw(shown, command)


def draw(content: RenderableType, title: str) -> str:
    """Return what a console of these pages' width shows, as SVG in a font of the reader."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(content)
    described = " ".join(console.export_text(clear=False).split())
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title, unique_id="live"), flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas")
    return svg.replace(">", f' role="img"><title>{escape(title)}</title><desc>{escape(described)}</desc>', 1)


def main() -> None:
    """Make all pictures."""
    demo = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        subprocess.run(["gptctl", "report", "scores", "-o", page], cwd=demo, check=True)
        for name, shot in SHOTS.items():
            shoot(page, name, *shot)
    picture = draw_live_view(demo / "run", "gptctl pretrain tokens -o run --max-minutes 2")
    (PICTURES / "live-view.svg").write_text(picture, encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "raw.jsonl").symlink_to(demo / "raw.jsonl")
        picture = draw_command("gptctl clean raw.jsonl -o clean --pii", Path(folder))
    (PICTURES / "clean.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
