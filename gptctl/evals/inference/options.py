"""How a model is run on evaluation data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InferenceOptions:
    """Options of inference. Each of them can change a prediction, if only in the last digit.

    label_column: the column of the documents that holds the label.
    max_length: tokens that the model reads at once; 0 for as many as it can.
    stride: new tokens per window of a long document; 0 for max_length.
    count_eos: whether the end-of-text token after a document is scored.
    allow_lossy: whether to score texts that the tokenizer cannot restore.
    delimiter: the text between a context and each choice.
    max_tokens: tokens to generate per prompt, at most.
    stop: texts at which generated text ends; they are not part of it.
    add_bos_token: whether BOS precedes contexts and prompts; None for what the model's tokenizer does.
    """

    label_column: str = "label"
    batch_size: int = 64
    max_length: int = 0
    stride: int = 0
    count_eos: bool = False
    allow_lossy: bool = False
    delimiter: str = " "
    max_tokens: int = 64
    stop: tuple[str, ...] = ("\n",)
    add_bos_token: bool | None = None
