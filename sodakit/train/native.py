"""`native.cpp`, compiled for this machine when first needed."""

import ctypes
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import lru_cache
from pathlib import Path

from sodakit.compiler import compile_library

SOURCE = Path(__file__).with_name("native.cpp")


@lru_cache(maxsize=1)
def compiled() -> ctypes.CDLL | None:
    """The compiled passes, or None where there is no C++ compiler that takes them."""
    library = compile_library(SOURCE, "-fopenmp", "-fno-math-errno", otherwise="Updates by torch, slower")
    if library is not None:
        library.sodakit_moments.restype = c_int64
        library.sodakit_moments.argtypes = (*(c_void_p,) * 3, c_int64, *(c_float,) * 4, c_int32)
        library.sodakit_weights.restype = None
        library.sodakit_weights.argtypes = (*(c_void_p,) * 4, c_int64, *(c_float,) * 3, *(c_int32,) * 2)
    return library
