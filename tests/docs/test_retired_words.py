"""Words that gptctl no longer uses: names of its own for what the field has a name for, and phrases that read badly."""

import re
from pathlib import Path

import pytest

from tests.conftest import REPO

# What stands instead, by the retired word. A word that is still right in some other sense is not listed.
NAMES = {
    r"`ahead`|\bconfig\.ahead\b": "num_draft_tokens",
    r"\basides\b": "side tables",
    r"\bbalance_weight\b": "aux_loss_weight",
    r"\bband_width\b|\bbanded\b": "sliding_window",
    r"\bcoder\b": "tokenizer",
    r"\bcrew\b|\bCrew\b": "WorkerPool",
    r"\bexcerpt_every\b|\bwrite_excerpt\b": "sample",
    r"\bfitting\.": "state",
    r"\bgive_back\b": "trim_memory",
    r"\bgo_on\b": "run_loop",
    r"\b[Gg]uesser\b": "drafter",
    r"\bhuman_bytes\b": "format_bytes",
    r"\bimpatient\b": "should_stop_early",
    r"\bknock\b": "connect_to_store",
    r"\blaid_out\b": "as_dtensor",
    r"\bmicro_batch=|\bconfig\.micro_batch\b|`micro_batch`": "micro_batch_size",
    r"\bpassed[-_]over\b|\bPassedOver\b": "skipped_samples",
    r"\bio\.peek\b|\bio/peek\b": "sniff",
    r"\bplacement\.py\b|\bplaced\(\)": "distributed options",
    r"\bprints_of\b": "fingerprints_of",
    r"\b[Pp]ulse\b": "heartbeat",
    r"\brehears\w*": "simulate_step",
    r"\brope_base\b": "rope_theta",
    r"\brunner(s|_options)?\b|\bRunner\b": "executor",
    r"\b(un)?sealed\b": "checksummed",
    r"\bshard_within_node\b": "hybrid_shard",
    r"\bspool\w*": "scratch folder",
    r"\btensor_parallel\b": "tp_size",
    r"\btiny-(gpt|moe|modern|vaswani)": "test-* presets",
    r"\btrain_timeout\b": "heartbeat_timeout",
    r"\bwritten_out\b": "eager_attention",
    r"--engine\b|\bGPTCTL_ENGINE\b": "--executor",
    r"--memory\b": "--max-memory",
    r"--procs\b": "--nproc-per-node",
    r"--rdzv(?!-endpoint)\b": "--rdzv-endpoint",
}
PHRASES = {
    r'"""Give\b': "Return",
    r"\bforetell|\bforetold": "estimate",
    r"\breckon": "compute, assume",
    r"\bof ours\b": "gptctl's",
    r"\bsign of life\b": "heartbeat",
    r"\bsaid aloud\b": "the same as",
    r"\bgoes? on (?:where|with|as|from)\b": "continue",
    r"\bwhat stands\b|\bstands before\b": "what precedes",
    r"\banew\b": "again",
    r"\bis no (?:table|file|folder|number|model)\b": "is not a",
}
CODE = sorted((REPO / "gptctl").rglob("*.py"))
PAGES = [REPO / "README.md", *sorted(page for page in (REPO / "docs").glob("*.md") if page.stem != "changelog")]
EXAMPLES = sorted(path for path in (REPO / "examples").rglob("*") if path.suffix in (".py", ".sh", ".toml", ".yml"))


@pytest.mark.parametrize("path", [*CODE, *PAGES, *EXAMPLES], ids=lambda path: str(path.relative_to(REPO)))
def test_no_retired_word(path: Path) -> None:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        for word, instead in {**NAMES, **PHRASES}.items():
            if hit := re.search(word, line):
                found.append(f"line {number}: '{hit[0]}' ({instead}): {line.strip()[:90]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    ["coder = Tokenizer(text)", "gptctl clean raw -o out --engine ray", 'Returns """Give the rows', "--rdzv HOST:1"],
)
def test_the_patterns_find_what_they_are_for(line: str) -> None:
    assert any(re.search(word, line) for word in {**NAMES, **PHRASES})
