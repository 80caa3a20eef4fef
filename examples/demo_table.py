"""Print what the quickstart did as one table: documents and bytes at each stage, tokens, loss, scores, a sample.

python demo_table.py OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def rows(out: Path) -> list[tuple[str, str, str]]:
    """Collect the figures from the manifests and results."""
    clean, dedup = read(out / "clean/manifest.json")["counts"], read(out / "unique/manifest.json")["counts"]
    tokens = read(out / "tokens/manifest.json")["metrics"]
    trained, scores = read(out / "run/run.json")["summary"]["metrics"], read(out / "eval.json")["metrics"]
    tuned = read(out / "classifier/run.json")["summary"]["metrics"]
    found: list[tuple[str, str, str]] = [
        ("collected", f"{clean['in']:,} documents", size(clean["bytes_in"])),
        ("clean", f"{clean['kept']:,} documents", f"{size(clean['bytes_kept'])}; {reasons(clean)}"),
        ("dedup", f"{dedup['kept']:,} documents", f"{size(dedup['bytes_kept'])}; {reasons(dedup)}"),
        (
            "tokenize",
            f"{tokens['train']['tokens']:,} tokens",
            f"{tokens['vocab_size']:,} symbols, {tokens['bytes_per_token']} bytes per token",
        ),
        (
            "pretrain",
            f"val loss {trained['val_loss']:.3f}",
            f"{trained['parameters']:,} parameters, {trained['steps']:,} steps, {trained['train_seconds']:.0f} s",
        ),
        ("finetune", f"val f1 {tuned['best_val_f1']:.3f}", f"{tuned['steps']:,} steps, {tuned['train_seconds']:.0f} s"),
    ]
    for name in ("accuracy", "precision", "recall", "f1"):
        low, high = scores["intervals"][name]
        found.append(
            (
                f"eval, {scores['split']}",
                f"{name} {scores[name]:.3f}",
                f"95 % interval {low:.3f} to {high:.3f}, n = {scores['n']:,}",
            )
        )
    return found


def size(count: int) -> str:
    """Show bytes."""
    return f"{count / 1e6:.2f} MB of text"


def reasons(counts: Any) -> str:
    """Show why documents were dropped."""
    return ", ".join(f"{n} {reason}" for reason, n in counts["dropped"].items()) or "none dropped"


def main() -> None:
    """Print the table, the sample and the paths."""
    out = Path(sys.argv[1])
    table = rows(out)
    widths = [max(len(row[i]) for row in table) for i in range(2)]
    print()
    for stage, figure, note in table:
        print(f"{stage:<{widths[0]}}  {figure:<{widths[1]}}  {note}")
    print(
        "\nsample:\n"
        + "\n".join("  " + line for line in (out / "sample.txt").read_text(encoding="utf-8").strip().splitlines())
    )
    print("\nwritten:")
    for name in (
        "report.html",
        "raw.jsonl",
        "clean",
        "unique",
        "tokens",
        "run",
        "run/loss.svg",
        "run/model",
        "classifier/model",
        "scores",
        "eval.json",
    ):
        print(f"  {out / name}")


if __name__ == "__main__":
    main()
