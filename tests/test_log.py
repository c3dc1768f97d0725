"""Without a terminal a long wait says that it goes on."""

import time

from sodakit import log


def test_work_without_a_terminal_says_so_now_and_then_also_while_nothing_advances(monkeypatch, capsys):
    monkeypatch.setattr(log, "EVERY_S", 0.05)
    for item in log.track(["a", "b"], "probe"):
        time.sleep(0.18 if item == "b" else 0)
    said = capsys.readouterr().err.splitlines()
    assert len(said) >= 2 and all(line.startswith("probe: 1 of 2 after ") for line in said)
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_short_work_says_nothing(capsys):
    assert list(log.track(iter("ab"), "probe")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_half_a_minute_is_the_longest_silence():
    assert log.EVERY_S <= 30
