"""Use of a model: generate text, score tokens, classify.

generator.py is a loaded model for text, which engine.py drives with decoder.py and sampling.py; speculative.py makes it
faster with a draft model. prompts.py, prompt_sampler.py and sample_rows.py serve `gptctl generate`; chat_prompt.py and
conversation.py serve chats. score.py and classify.py do the rest. Nothing here trains.
"""
