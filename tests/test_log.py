"""Without a terminal a long wait says that it goes on."""

import re
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


def test_a_line_has_the_time_left_and_is_said_at_once_when_asked(monkeypatch, capsys):
    """Counted from where the work began: a run that is resumed at step 900 has not done 900 steps in a second."""
    monkeypatch.setattr(log, "EVERY_S", 0.3)
    with log.progress_bar() as bar:
        task = bar.add_task("step", total=1000, completed=900, note="")
        hidden = bar.add_task("of another rank", total=10, note="", visible=False)
        bar.update(task, completed=950, note="loss 2.5")
        time.sleep(0.1)
        bar.speak()
        assert re.fullmatch(
            r"step: 950 of 1000 after 0\.\ds, about 0\.\ds left, loss 2\.5\n", capsys.readouterr().err
        )
        bar.update(hidden, completed=3)
        time.sleep(0.2)
        assert capsys.readouterr().err == "", "what was just said breaks the silence"
        time.sleep(0.3)
        assert capsys.readouterr().err.count("step: 950 of 1000") == 1


def test_short_work_says_nothing(capsys):
    assert list(log.track(iter("ab"), "probe")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_half_a_minute_is_the_longest_silence():
    assert log.EVERY_S <= 30
