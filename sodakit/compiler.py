"""C++ beside a Python file, compiled for this machine when first needed."""

import ctypes
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path

from sodakit.files import atomic_path, user_cache

logger = logging.getLogger("sodakit.compiler")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC")
COMPILERS = ("c++", "g++", "clang++")


def compile_library(source: Path, *flags: str, otherwise: str) -> ctypes.CDLL | None:
    """The compiled source, or None where there is no C++ compiler that takes it.

    It is kept in the user's cache folder under a name made of source, flags and processor.

    Args:
        source: one file.
        flags: for the compiler, beside `FLAGS`.
        otherwise: what the warning says will happen instead, such as "Decoding with torch, slower".
    """
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None or platform.system() == "Windows":
        return None
    what = "\n".join([source.read_text(), *FLAGS, *flags, compiler, _processor()])
    path = user_cache() / f"native-{hashlib.sha256(what.encode()).hexdigest()[:16]}.so"
    try:
        if not path.exists():
            with atomic_path(path) as temporary:
                subprocess.run(
                    [compiler, *FLAGS, *flags, "-o", str(temporary), str(source)],
                    check=True,
                    capture_output=True,
                )
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning(
            "%s: %s does not compile with %s. %s", otherwise, source.name, compiler, _reason(error)
        )
        return None


def lacks_for_gpu() -> str | None:
    """What torch needs to compile for a GPU and this machine has not; None where nothing is missing.

    Triton builds a small library in C when it first talks to the driver, so a GPU needs a C compiler and Python's headers.
    """
    if importlib.util.find_spec("triton") is None:
        return "the package triton (it comes with torch for CUDA)"
    asked = os.environ.get("CC")
    if not any(map(shutil.which, [asked] if asked else ["gcc", "clang"])):
        return "a C compiler (gcc or clang)"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        version = ".".join(platform.python_version_tuple()[:2])
        return f"Python's headers (the package python{version}-dev or python3-devel)"
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
