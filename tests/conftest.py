"""What every test owes the others, and what a run says at its end."""

import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.recordings import stood_in
from tests.skips import reason_of, skip_lines

LONG = ("train", "scaling", "recipes", "codec", "serve", "hostile")
"""Folders whose files take longest: where several processes share the files, they come first."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long files first, so that no process is left with one while the others have nothing to do."""
    if hasattr(config, "workerinput"):
        order = {name: place for place, name in enumerate(LONG)}
        items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What one of several processes used in place of recordings, for the one that sums up."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["stood_in"] = sorted(stood_in)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The same, where it is summed up."""
    stood_in.update(getattr(node, "workeroutput", {}).get("stood_in", ()))


def pytest_configure(config: pytest.Config) -> None:
    """A GPU is for the tests that are about one, and one of several processes has one thread.

    The other tests train on the default device and compare bit for bit, which the order of a GPU's sums does not allow.
    Two threads on two cores would wait for each other's neighbours.
    """
    if hasattr(config, "workerinput"):
        os.environ["OMP_NUM_THREADS"] = "1"  # for the commands that tests start
        torch.set_num_threads(1)
    if "SODAKIT_GPU_ALL" in os.environ:  # a time limit ends it as Ctrl-C does: what has failed so far is told
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not wants_gpu(config.getoption("markexpr")):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def wants_gpu(marks: str) -> bool:
    """Whether `-m` asks for tests that need a GPU."""
    return "gpu" in marks.split() and "not gpu" not in marks


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a GPU are skipped where none is in use."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU: `make test-gpu` on a machine with one")


@pytest.fixture(autouse=True)
def _the_process_is_left_as_found() -> Iterator[None]:
    """Another number of threads changes the last digits of every later test that compares bit for bit.

    Logging that is off takes the messages away that later tests look for.
    """
    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before, f"the test left {after} threads behind instead of {before}"
    off = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    assert off == logging.NOTSET, "the test, or a fixture of it, left logging off"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tests that did not run are no tests that passed."""
    skipped = map(reason_of, terminalreporter.stats.get("skipped", ()))
    lines = skip_lines(skipped, sorted(stood_in))
    if lines:
        terminalreporter.section("not run, and why")
    for line in lines:
        terminalreporter.write_line(line)
