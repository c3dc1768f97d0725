"""`native.cpp`, compiled for this machine when first needed, and its structures as Python sees them."""

import ctypes
import hashlib
import logging
import platform
import shutil
import subprocess
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import lru_cache
from pathlib import Path

from sodakit.files import atomic_path

logger = logging.getLogger("sodakit.model")
SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-fopenmp")
COMPILERS = ("c++", "g++", "clang++")


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


@lru_cache(maxsize=1)
def compiled() -> ctypes.CDLL | None:
    """The compiled step, or None where there is no C++ compiler that takes it.

    It is kept in the user's cache folder under a name made of source, flags and processor.
    """
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None or platform.system() == "Windows":
        return None
    what = "\n".join([SOURCE.read_text(), *FLAGS, compiler, _processor()])
    path = Path.home() / ".cache" / "sodakit" / f"native-{hashlib.sha256(what.encode()).hexdigest()[:16]}.so"
    try:
        if not path.exists():
            with atomic_path(path) as temporary:
                subprocess.run(
                    [compiler, *FLAGS, "-o", str(temporary), str(SOURCE)], check=True, capture_output=True
                )
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning(
            "Decoding with torch, slower: %s does not compile with %s. %s",
            SOURCE.name,
            compiler,
            _reason(error),
        )
        return None


def _reason(error: Exception) -> str:
    told = getattr(error, "stderr", None)
    return told.decode(errors="replace")[:500] if told else str(error)


def _processor() -> str:
    # -march=native means another thing on another processor, and home folders travel.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
