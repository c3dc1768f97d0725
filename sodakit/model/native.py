"""`native.cpp`, compiled for this machine when first needed, and its structures as Python sees them."""

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import lru_cache
from pathlib import Path

from sodakit.compiler import compile_library

SOURCE = Path(__file__).with_name("native.cpp")


class Matrix(Structure):
    """A weight: its numbers, and a scale for each row if they are int8."""

    _fields_ = (("weight", c_void_p), ("scales", c_void_p), ("rows", c_int32), ("columns", c_int32))


class Layer(Structure):
    """The weights of one block."""

    _fields_ = (
        *((name, c_void_p) for name in ("attention_norm", "query_norm", "key_norm", "feed_forward_norm")),
        *((name, Matrix) for name in ("query", "key", "value", "out", "gate", "up", "down")),
    )


class Model(Structure):
    """All blocks, and the shape they share."""

    _fields_ = (
        *((n, c_int32) for n in ("layers", "width", "heads", "groups", "head_width", "feed_forward")),
        ("eps", c_float),
        *((name, c_void_p) for name in ("final_norm", "cos", "sin")),
        ("layer", POINTER(Layer)),
    )


class Cache(Structure):
    """Where keys and values lie; strides in numbers."""

    _fields_ = (
        *((name, c_void_p) for name in ("keys", "values")),
        *((name, c_int64) for name in ("layer_stride", "row_stride", "group_stride")),
    )


class Tokens(Structure):
    """Which row and position each token has."""

    _fields_ = (("count", c_int32), ("rows", c_void_p), ("positions", c_void_p))


class Sampling(Structure):
    """How a code is chosen, as `generate.sampling.Sampling` says."""

    _fields_ = (("temperature", c_float), ("top_p", c_float), ("top_k", c_int32))


class Frame(Structure):
    """A depth decoder: its blocks, what leads into them, and what leads out."""

    _fields_ = (
        ("depth", Model),
        ("project", Matrix),
        ("head", Matrix),
        ("embedding", c_void_p),
        *((name, c_int32) for name in ("codebooks", "size", "sums", "shifted")),
    )


@lru_cache(maxsize=1)
def compiled() -> ctypes.CDLL | None:
    """The compiled step, or None where there is no C++ compiler that takes it."""
    library = compile_library(SOURCE, "-fopenmp", otherwise="Decoding with torch, slower")
    if library is not None:
        library.sodakit_step.restype = library.sodakit_linear.restype = library.sodakit_choose.restype = None
        library.sodakit_frame.restype = c_int32
    return library
