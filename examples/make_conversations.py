"""Write a small set of instructions with exact answers, as conversations, for `gptctl finetune --task chat`.

    python examples/make_conversations.py FOLDER [--count 3000] [--seed 0]

FOLDER/train.jsonl and FOLDER/val.jsonl hold rows of `messages`; a tenth of the conversations have two turns.
No question of val stands in train.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WORDS = (
    "apple", "bread", "chair", "door", "eagle", "field", "grape", "house", "island", "juice", "king", "lemon", "moon",
    "night", "ocean", "paper",
)  # fmt: skip
VAL_SHARE = 0.1


def questions() -> Iterator[tuple[str, str]]:
    """Yield every question with its answer."""
    for number, day in enumerate(DAYS):
        yield f"Which day comes after {day}?", f"{DAYS[(number + 1) % 7]}."
        yield f"Which day comes before {day}?", f"{DAYS[number - 1]}."
    for number in range(200):
        yield f"Is {number} even or odd?", f"{number} is {'odd' if number % 2 else 'even'}."
        yield f"What comes after {number}?", f"{number + 1}."
    for first in WORDS:
        yield f"Which letter does {first} begin with?", f"The letter {first[0]}."
        for second in WORDS:
            if first != second:
                yield f"Say {first} and {second}.", f"{first} and {second}."
                yield f"Which comes first, {first} or {second}?", f"{min(first, second)}."


def conversations(pairs: list[tuple[str, str]], count: int, draw: random.Random) -> Iterator[dict[str, object]]:
    """Yield `count` conversations of one question each, or two."""
    for number in range(count):
        turns = draw.sample(pairs, 2 if number % 10 == 0 else 1)
        messages = [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        yield {"id": f"conversation-{number}", "messages": messages}


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    pairs = list(questions())
    draw.shuffle(pairs)
    held = round(len(pairs) * VAL_SHARE)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, part, count in (("val", pairs[:held], held), ("train", pairs[held:], arguments.count)):
        with (arguments.folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in conversations(part, count, draw):
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
