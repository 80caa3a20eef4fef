"""Small model folders as other programs write them: a Llama with random weights and the tokenizer of a model family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "Once upon a time there was a small model, and it had 12 layers.",
    "Wörter, слова, 言葉: the words of the world.",
]
CONTEXT = 64
LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] "
    "+ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
INST_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# Special tokens, whether BOS precedes a text, settings of the tokenizer, tokens that end a generated text.
FAMILIES: dict[str, tuple[list[str], str | None, dict[str, Any], list[str]]] = {
    "llama-2": (["<unk>", "<s>", "</s>"], "<s>",
                {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": INST_TEMPLATE}, ["</s>"]),
    "llama-3": (["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
                "<|begin_of_text|>",
                {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": LLAMA3_TEMPLATE},
                ["<|end_of_text|>", "<|eot_id|>"]),
    "qwen": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None,
             {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML},
             ["<|im_end|>", "<|endoftext|>"]),
    "mistral": (["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], "<s>",
                {"bos_token": {"content": "<s>", "__type": "AddedToken"}, "eos_token": "</s>", "unk_token": "<unk>",
                 "add_bos_token": True, "chat_template": INST_TEMPLATE}, ["</s>"]),
    "gemma": (["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"], "<bos>",
              {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
               "chat_template": GEMMA_TEMPLATE}, ["<eos>", "<end_of_turn>"]),
    "gpt2": (["<|endoftext|>"], None, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}, ["<|endoftext|>"]),
}  # fmt: skip
METASPACE = ("llama-2", "mistral", "gemma")


def make_tokenizer(family: str) -> Tokenizer:
    """Train the tokenizer of a family on a few sentences."""
    special, begins, _, _ = FAMILIES[family]
    if family in METASPACE:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        if family == "gemma":
            tokenizer.normalizer = normalizers.Replace(" ", "▁")
            tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
            steps.append(decoders.Strip(" ", 1, 0))
        tokenizer.decoder = decoders.Sequence(steps)
        alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special + alphabet, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    if family in METASPACE:  # the bytes are ordinary tokens
        definition = json.loads(tokenizer.to_str())
        definition["added_tokens"] = [one for one in definition["added_tokens"] if one["content"] in special]
        tokenizer = Tokenizer.from_str(json.dumps(definition))
    if family == "qwen":
        tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    if begins:
        token = (begins, tokenizer.token_to_id(begins))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{begins} $A", special_tokens=[token])
    return tokenizer


def make_folder(folder: Path, family: str, model_type: str = "llama", **changes: Any) -> Path:
    """Write a small model with the tokenizer of a family; give the folder. It is a Llama unless `model_type` differs."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = make_tokenizer(family)
    _, _, settings, ends = FAMILIES[family]
    stops = [tokenizer.token_to_id(name) for name in ends]
    begins = tokenizer.token_to_id("<|endoftext|>" if family == "qwen" else name_of(settings["bos_token"]))
    torch.manual_seed(0)
    settings_of_model = {
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "bos_token_id": begins,
        "eos_token_id": stops if len(stops) > 1 else stops[0],
    }  # fmt: skip
    config = AutoConfig.for_model(model_type, **settings_of_model | changes)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.generation_config.update(temperature=0.6, top_p=0.9, do_sample=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return folder


def name_of(token: Any) -> str:
    """Return the name of a token in tokenizer_config.json."""
    return str(token["content"] if isinstance(token, dict) else token)
