"""The options of `gptctl split`: the shares, what stays together, and what counts as a duplicate."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import field_validator

from gptctl.core.config import SeedOption, flag, key
from gptctl.core.errors import UsageError
from gptctl.core.plugins import did_you_mean
from gptctl.text.dedup import minhash
from gptctl.text.dedup.minhash import Banding
from gptctl.text.dedup.shingles import Shingling
from gptctl.text.dedup.whole_documents.criteria import Criteria

PANEL = "Splits"
TOGETHER = "Duplicates"
CRITERIA = ("cluster", "group:COLUMN", "time:COLUMN")
MINHASH_SEED = 0  # --seed chooses among equal divisions; which documents are duplicates does not depend on it


class SplitBy(NamedTuple):
    """What divides documents: "cluster", "group" or "time", with the column that it reads."""

    kind: str
    column: str


class SplitOptions(SeedOption):
    """How documents are divided, and which of them stay together."""

    val: float = flag(0.1, "Share of documents for validation.", panel=PANEL, ge=0, lt=1)
    test: float = flag(0.1, "Share of documents for testing.", panel=PANEL, ge=0, lt=1)
    stratify: str | None = flag(
        None, "Column of labels: each label has the same share in each split.", metavar="COLUMN", panel=PANEL
    )
    by: str = flag(
        "cluster", "cluster: at random, duplicates together; group:COLUMN: also documents with the same value; "
        "time:COLUMN: the latest documents are test, those before them val.", metavar="CRITERION", panel=PANEL,
    )  # fmt: skip
    method: Literal["minhash", "exact"] = flag(
        "minhash", "Duplicates that stay together: near-duplicates (minhash), or exact copies alone.", panel=TOGETHER
    )
    threshold: float = flag(
        0.8, "Jaccard similarity of shingles from which documents are near-duplicates.", panel=TOGETHER, gt=0, lt=1
    )
    ngram: int = flag(5, "Words (or characters) in a shingle.", panel=TOGETHER, ge=1, le=50)
    shingle: Literal["words", "chars"] = key("words", "Whether shingles consist of words or characters.")
    num_perm: int = key(128, "Permutations of a MinHash signature.", ge=8, le=1024)
    bands: int = key(32, "Bands of the signature. More find more pairs; all pairs are compared exactly.", ge=1)

    @field_validator("by")
    @classmethod
    def check_by(cls, value: str) -> str:
        """Raise ValueError for what is no criterion."""
        parse_by(value)
        return value

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.method == "exact":
            found |= dict.fromkeys(("threshold", "ngram", "shingle", "num_perm", "bands"), "with --method exact")
        if self.split_by().kind == "time":
            found["stratify"] = "with --by time: the time alone decides"
        return found

    def check(self) -> None:
        """Raise UsageError (2) for shares that leave no document to train on, or divide nothing."""
        if self.val + self.test >= 1:
            raise UsageError(
                f"--val {self.val} and --test {self.test} leave nothing to train on", "their sum must be below 1"
            )
        if not self.val + self.test:
            raise UsageError("--val 0 and --test 0 divide nothing", "give one of them a share")

    def split_by(self) -> SplitBy:
        """Return what divides documents."""
        return parse_by(self.by)

    def criteria(self) -> Criteria:
        """Return what makes two documents duplicates."""
        is_minhash = self.method == "minhash"
        return Criteria(
            near_duplicates=is_minhash,
            normalize_exact=False,
            shingling=Shingling(self.ngram, self.shingle),
            threshold=self.threshold,
            num_perm=self.num_perm,
            banding=minhash.choose_banding(self.threshold, self.num_perm, self.bands) if is_minhash else Banding(0, 0),
            seed=MINHASH_SEED,
            verify=True,
        )


def parse_by(value: str) -> SplitBy:
    """Split a criterion into its kind and its column. Raises ValueError for what is none."""
    kind, colon, column = value.partition(":")
    if (kind == "cluster" and not colon) or (kind in ("group", "time") and column):
        return SplitBy(kind, column)
    near = did_you_mean(kind, ["cluster", "group", "time"])
    raise ValueError(f"'{value}' does not say what to divide by{near}; known: {', '.join(CRITERIA)}")
