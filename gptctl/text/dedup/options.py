"""The options of deduplication: what counts as a duplicate, and which document is kept."""

from __future__ import annotations

from typing import Literal, cast

from pydantic import field_validator

from gptctl.core.config import StageConfig, flag, key
from gptctl.core.errors import UsageError
from gptctl.core.formatting import parse_bytes
from gptctl.text.dedup import minhash
from gptctl.text.dedup.minhash import Banding
from gptctl.text.dedup.repeated_text.method import Method, Name
from gptctl.text.dedup.shingles import Shingling
from gptctl.text.dedup.whole_documents import keep_policy
from gptctl.text.dedup.whole_documents.criteria import Criteria
from gptctl.text.dedup.whole_documents.facts import SurvivorFacts

PANEL = "Duplicates"

MIN_MEMORY = 10**6  # for sorting; reading, hashing and writing take more than that


class MemoryOption(StageConfig):
    """The memory of a search for duplicates."""

    max_memory: str = flag(
        "1GB",
        "Memory for sorting and clustering, in all workers together; the rest is kept on disk.",
        metavar="SIZE",
        panel="Workers",
        runtime=True,
    )

    @field_validator("max_memory")
    @classmethod
    def check_memory(cls, value: str) -> str:
        """Raise ValueError for what is not a size, and for too small a size."""
        if parse_bytes(value) < MIN_MEMORY:
            raise ValueError(f"{value} is too little; give 1MB or more")
        return value


class DuplicateOptions(StageConfig):
    """What counts as a duplicate."""

    method: Literal["minhash", "exact", "lines", "paragraphs", "substring"] = flag(
        "minhash",
        "Drop duplicate documents (minhash, exact), or remove lines, paragraphs or passages that occurred earlier in "
        "the input (the others).",
        panel=PANEL,
    )
    threshold: float = flag(
        0.8, "Jaccard similarity of shingles from which documents are near-duplicates.", panel=PANEL, gt=0, lt=1
    )
    num_perm: int = flag(128, "Permutations of a MinHash signature.", panel=PANEL, ge=8, le=1024)
    ngram: int = flag(5, "Words (or characters) in a shingle.", panel=PANEL, ge=1, le=50)
    verify: bool = flag(
        True, "Compare candidate pairs exactly; otherwise all of them count as duplicates.", panel=PANEL
    )
    keep: str = flag(
        "first", "Which of several duplicates to keep: first, longest, highest:COLUMN, or priority:SOURCE,SOURCE.",
        metavar="POLICY", panel=PANEL,
    )  # fmt: skip
    label_column: str = flag(
        "label", "Column that holds the label, if there is one. Duplicates with different labels are listed.",
        metavar="COLUMN", panel=PANEL,
    )  # fmt: skip
    index: Literal["sorted", "datasketch"] = flag(
        "sorted", "sorted: on disk, exact; datasketch: its MinHashLSH, in memory or in Redis (redis=URL).", panel=PANEL
    )
    redis: str | None = key(
        None, "URL of the Redis server that stores datasketch's index for later runs.", runtime=True
    )
    redis_name: str = key("documents", "Name of the index in Redis.")
    bands: int | None = key(
        None, "Bands of the signature; by default the number that datasketch chooses for the threshold.", ge=1
    )
    shingle: Literal["words", "chars"] = key("words", "Whether shingles consist of words or characters.")
    normalize: bool = key(True, "Ignore case and punctuation in shingles. Exact copies are compared as they are.")
    min_chars: int = key(20, "Length in characters from which lines and paragraphs are compared.", ge=1)
    fold: bool = key(False, "Ignore case in lines and paragraphs, and treat all numbers as equal.")
    min_words: int = key(50, "Words from which a repeated passage is removed (method substring).", ge=2)
    normalize_exact: bool = key(False, "Ignore case, punctuation and white space in exact copies, too.")

    @field_validator("keep")
    @classmethod
    def check_keep(cls, value: str) -> str:
        """Raise ValueError for an unknown policy."""
        keep_policy.parse(value)
        return value

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        of_methods = {
            ("minhash",): ("threshold", "num_perm", "ngram", "verify", "bands", "shingle", "normalize", "seed"),
            ("minhash", "exact"): ("normalize_exact", "label_column"),
            ("lines", "paragraphs"): ("min_chars", "fold"),
            ("substring",): ("min_words",),
        }
        for methods, keys in of_methods.items():
            if self.method not in methods:
                found |= dict.fromkeys(keys, f"with --method {self.method}")
        if self.index == "datasketch":
            found["verify"] = "with --index datasketch"
        if self.redis is None:
            found["redis_name"] = "without redis"
        return found

    def check(self, has_against: bool) -> None:
        """Raise UsageError (2) for options that exclude each other."""
        uses_index = self.index == "datasketch"
        if uses_index and (self.method != "minhash" or self.keep != "first" or has_against):
            raise UsageError(
                "--index datasketch works with --method minhash and --keep first only, and without --against",
                "leave these out, or use --index sorted",
            )
        if self.redis and not uses_index:
            raise UsageError("redis=URL needs --index datasketch", "add that, or leave the URL out")
        if self.removes_repeated_text and self.keep != "first":
            raise UsageError(
                f"--keep {self.keep} chooses among documents, but --method {self.method} cuts text out of them",
                "leave out --keep: the first occurrence stays",
            )

    @property
    def removes_repeated_text(self) -> bool:
        """Return whether the method cuts repeated text out of documents instead of dropping documents."""
        return self.method in ("lines", "paragraphs", "substring")

    def text_method(self) -> Method:
        """Return how lines, paragraphs or passages are compared."""
        return Method(cast(Name, self.method), self.min_chars, self.min_words, self.fold)

    def criteria(self, seed: int) -> Criteria:
        """Return what makes two documents duplicates."""
        is_minhash = self.method == "minhash"
        return Criteria(
            near_duplicates=is_minhash,
            normalize_exact=self.normalize_exact,
            # Runs on other machines, which may have other segmenters, must be able to use datasketch's index.
            shingling=Shingling(self.ngram, self.shingle, self.normalize, segment=self.index == "sorted"),
            threshold=self.threshold,
            num_perm=self.num_perm,
            banding=self.banding() if is_minhash else Banding(0, 0),
            seed=seed,
            verify=self.verify,
        )

    def facts(self) -> SurvivorFacts:
        """Return what is stored of each document besides its text."""
        return SurvivorFacts(self.keep, self.label_column)

    def banding(self) -> Banding:
        """Return how signatures are cut into bands. Raises UsageError (2) for bands that do not fit."""
        return minhash.choose_banding(self.threshold, self.num_perm, self.bands)
