"""Use of a trained model: generate text, score tokens, classify.

generator.py holds a model with its tokenizer. It generates with engine.py, which runs decoder.py and chooses tokens
with sampling.py. On CUDA, static_decoding.py and decoding_step.py do this, with a graph of each step. rows.py holds the
state of samples. speculative.py makes generation faster. prompts.py, prompt_sampler.py, sample_rows.py and terminal.py
serve `gptctl generate`. chat_prompt.py and conversation.py are for chat models. score.py and classify.py need no
generation.
"""
