"""The model: one GPT for every family, its configs and presets, and the folders that store it.

gpt.py puts attention.py, moe.py and sliding_window.py together; config.py and presets/ give its shape. classifier.py
and lora.py change it for finetuning. folder.py reads any model folder, save.py writes one, and files/ has the files in
it. hf/ and gguf/ convert to and from other programs. device.py chooses device and precision.
"""
