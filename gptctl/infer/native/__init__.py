"""Kernels in C for decoding in int8, and the layers that call them."""
