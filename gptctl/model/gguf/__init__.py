"""Export of models as GGUF files, for llama.cpp and programs that use it."""
