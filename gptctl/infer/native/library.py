"""Compile int8_kernels.c for this machine, once, and load it.

The library is kept in the folder for compiled kernels. Where the processor has no VNNI instructions, or there is no C
compiler, there is no library, and the kernels of torch are used (gptctl/infer/quantize.py).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import torch

from gptctl.core.cache_folder import cache_folder

SOURCE = Path(__file__).with_name("int8_kernels.c")
COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-pthread")
AVX512 = ("avx512_f", "avx512_bw", "avx512_vl", "avx512_vnni")  # capabilities as torch names them
AVX512_OPTIONS = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mavx2", "-mfma")
AVX2, AVX2_OPTIONS = ("avx_vnni", "avx2", "fma3", "f16c"), ("-mavxvnni", "-mavx2", "-mfma", "-mf16c")
COMPILE_SECONDS = 120
SWITCH = "GPTCTL_NATIVE"  # 0: the kernels of torch


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None where they cannot be used; a warning says so if a compiler is missing."""
    options = processor_options()
    if options is None or os.environ.get(SWITCH) == "0":
        return None
    try:
        return declare(ctypes.CDLL(str(compiled_file(options))))
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", "") or str(error)
        warnings.warn(f"int8 is slower than it could be: {told.strip().splitlines()[-1]}", stacklevel=2)
        return None


def processor_options() -> tuple[str, ...] | None:
    """Return the compiler's options for this processor, or None if it has no VNNI instructions."""
    found = torch.cpu.get_capabilities()
    if sys.platform == "win32":
        return None
    for needed, options in ((AVX512, AVX512_OPTIONS), (AVX2, AVX2_OPTIONS)):
        if all(found.get(name) for name in needed):
            return options
    return None


def compiled_file(options: tuple[str, ...]) -> Path:
    """Return the library, which is compiled if it does not exist yet. Raises OSError or SubprocessError."""
    name = hashlib.sha256(SOURCE.read_bytes() + " ".join(options).encode()).hexdigest()[:16]
    for folder in (cache_folder() / "kernels", None):
        if folder is None:  # the cache folder cannot be written or is full
            folder = Path(tempfile.mkdtemp(prefix="gptctl-"))
        file = folder / f"int8-{name}.so"
        with suppress(OSError):
            if not file.exists():
                folder.mkdir(parents=True, exist_ok=True)
                compile_to(file, options)
            return file
    raise OSError("no folder for the compiled kernels can be written")


def compile_to(file: Path, options: tuple[str, ...]) -> None:
    """Compile the kernels; several processes may do so at once. Raises OSError or SubprocessError."""
    named = os.environ.get("CC", "").split()
    compiler = named or [name for name in COMPILERS if shutil.which(name)][:1]
    if not compiler or not shutil.which(compiler[0]):
        raise subprocess.SubprocessError(f"there is no C compiler ({' '.join(compiler) or 'cc'})")
    made = file.with_name(f"{file.name}.tmp-{os.getpid()}")
    command = [*compiler, *OPTIONS, *options, "-o", str(made), str(SOURCE), "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS)
        made.replace(file)
    finally:
        made.unlink(missing_ok=True)


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the arguments of the functions that int8_layers.py calls."""
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.product.argtypes = [pointer, pointer, pointer, pointer, number, ctypes.c_int]
    library.product.restype = ctypes.c_int
    library.attention.argtypes = [
        *[pointer] * 4, number, number, *[pointer] * 2, number, number, pointer, pointer, number, number, ctypes.c_int
    ]  # fmt: skip
    library.attention.restype = ctypes.c_int
    return library
