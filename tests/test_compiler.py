import logging
import shutil

import pytest

from sodakit import compiler
from sodakit.compiler import compile_library


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.skipif(not any(map(shutil.which, compiler.COMPILERS)), reason="needs a C++ compiler")
def test_a_source_is_compiled_once_and_what_does_not_compile_is_told(home, caplog):
    source = write(home / "seven.cpp", 'extern "C" int seven() { return 7; }')
    for _ in range(2):
        assert compile_library(source, otherwise="Counting by hand").seven() == 7
    kept = list((home / ".cache" / "sodakit").glob("*.so"))
    assert len(kept) == 1
    with caplog.at_level(logging.WARNING):
        assert compile_library(write(source, "int seven("), otherwise="Counting by hand") is None
    assert "Counting by hand: seven.cpp does not compile" in caplog.text


def test_no_compiler_is_no_error(home, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert compile_library(write(home / "seven.cpp", ""), otherwise="Counting by hand") is None


def test_what_a_gpu_needs_to_compile_is_named(monkeypatch, tmp_path):
    """Triton builds a library in C at the first kernel; without a compiler the first step would end in a traceback."""
    found = {"triton": object(), "gcc": "/usr/bin/gcc"}
    monkeypatch.setattr(compiler.importlib.util, "find_spec", found.get)
    monkeypatch.setattr(shutil, "which", found.get)
    monkeypatch.setattr(compiler.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.delenv("CC", raising=False)
    assert "Python's headers" in compiler.lacks_for_gpu()
    (tmp_path / "Python.h").touch()
    assert compiler.lacks_for_gpu() is None
    monkeypatch.setenv("CC", "not-a-compiler")  # Triton takes what CC names, and nothing else
    assert "C compiler" in compiler.lacks_for_gpu()
    monkeypatch.delenv("CC")
    del found["gcc"]
    assert "C compiler" in compiler.lacks_for_gpu()
    del found["triton"]
    assert "triton" in compiler.lacks_for_gpu()
