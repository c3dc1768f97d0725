"""The page, used by a real browser."""

import os
from pathlib import Path

import pytest

from tests.serve.browser import CHROMIUM, Browser
from tests.serve.conftest import HEARD, MEANT, slow_steps, sound, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]
SHOTS = os.environ.get("SODAKIT_SCREENSHOTS")
"""A folder for pictures to look at."""


def opened(address):
    browser = Browser()
    try:
        browser.open(address)
        browser.wait("document.getElementById('about').textContent.includes('tiny')")
        browser.run(REMEMBER)
        yield browser
    finally:
        browser.close()
    assert browser.errors == []


@pytest.fixture
def page(address):
    yield from opened(address)


@pytest.fixture
def translating_page(translating_address):
    yield from opened(translating_address)


@pytest.fixture
def frames_page(frames_address):
    yield from opened(frames_address)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "hello.wav"
    path.write_bytes(sound(1.5))
    return path


def shoot(page, name):
    if SHOTS:
        page.screenshot(Path(SHOTS) / f"{name}.png")


def speak(page):
    page.run("document.getElementById('say').click()")
    page.wait("!document.getElementById('download').hidden && !document.getElementById('say').disabled")


REMEMBER = """const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => { window.lastBlob = blob; return make.call(URL, blob); };
    undefined"""
NAMELESS = """[...document.querySelectorAll('button, input, select, textarea, canvas')].filter(e =>
    !(e.labels?.length || e.ariaLabel || e.textContent.trim())).map(e => e.outerHTML)"""
LOUDEST = "window.lastBlob.arrayBuffer().then((b) => Math.max(...new Int16Array(b.slice(44)).map(Math.abs)))"


def test_a_text_is_spoken_shown_and_can_be_heard(page):
    speak(page)
    assert page.run(LOUDEST) > 300
    assert page.run("document.getElementById('first-sound').textContent").endswith("ms")
    assert page.run("document.getElementById('factor').textContent").endswith("s")
    page.wait("document.querySelector('#result audio').duration > 0")
    page.run("document.querySelector('#result audio').play()")
    page.wait("document.querySelector('#result audio').currentTime > 0")
    shoot(page, "spoken")


def test_a_recording_is_written_down_and_goes_on(page, recording):
    page.choose_file("#file", recording)
    page.wait("!document.getElementById('given').hidden && !document.getElementById('transcribe').disabled")
    page.run("document.getElementById('transcribe').click()")
    page.wait("document.getElementById('transcript-caption').textContent.includes('real time')")
    page.run("document.getElementById('continue').click()")
    page.wait("!document.getElementById('download').hidden")
    assert page.run(LOUDEST) > 300
    shoot(page, "heard")


def test_the_word_that_sounds_is_lit(page, recording):
    """At any moment of the recording the lit word is the one whose time it is; a click on a word goes there."""
    page.choose_file("#file", recording)
    page.wait("!document.getElementById('given').hidden && !document.getElementById('timed').disabled")
    page.run("document.getElementById('timed').click()")
    page.wait("!document.getElementById('words').hidden && !document.getElementById('timed').disabled")
    times = page.run(
        "[...document.querySelectorAll('#words button')].map(b => [+b.dataset.start, +b.dataset.end])"
    )
    assert times and all(start <= end for start, end in times)
    lit = "[...document.querySelectorAll('#words button')].findIndex(b => b.ariaCurrent === 'true')"
    for number, (start_s, end_s) in enumerate(times):
        if end_s - start_s > 0.05:
            page.run(
                f"document.querySelector('#given audio').currentTime = {(start_s + end_s) / 2}; undefined"
            )
            page.wait(f"{lit} === {number}")
    page.run("document.querySelector('#words button').click()")
    page.wait(f"{lit} >= 0 && !document.querySelector('#given audio').paused")
    shoot(page, "words")


def value(page, name):
    return page.run(f"document.getElementById('{name}').value")


@pytest.mark.parametrize("family", ["flat", "frames"])
def test_a_recording_is_translated_written_and_heard(request, family, recording):
    """Heard while it is being made, whether a position is a code or a frame."""
    page = request.getfixturevalue({"flat": "translating_page", "frames": "frames_page"}[family])
    assert page.run("document.getElementById('translate-it').disabled")
    page.choose_file("#file", recording)
    page.wait("!document.getElementById('translate-it').disabled")
    page.run("document.getElementById('to').value = 'en'; document.getElementById('translate-it').focus()")
    page.press("Enter")
    page.wait("document.getElementById('translated-caption').textContent.includes('real time')")
    assert (value(page, "heard"), value(page, "meant")) == (HEARD, MEANT)
    assert page.run("document.getElementById('heard').lang") == "es"
    assert page.run("document.getElementById('meant-label').textContent") == "Its translation (English)"
    assert page.run("document.getElementById('first-sound').textContent").endswith("ms")
    assert page.run("document.getElementById('factor').textContent").endswith("s")
    assert page.run("document.getElementById('ending').textContent") == "ended by itself"
    assert page.run(LOUDEST) > 300
    shoot(page, "translated")
    for width, dark in ((400, False), (320, True)):
        page.resize(width, 900, dark)
        assert page.run("document.documentElement.scrollWidth") <= width
        page.run("new Promise(done => setTimeout(done, 400))")
        shoot(page, f"translated-{width}")
    assert page.run(NAMELESS) == []


def test_languages_are_chosen_by_name_and_keyboard(translating_page, recording):
    page = translating_page
    page.choose_file("#file", recording)
    page.wait("!document.getElementById('translate-it').disabled")
    assert page.run("[...document.getElementById('to').options].map(o => o.text)") == ["English", "French"]
    assert page.run("[...document.getElementById('from').options].map(o => o.value)") == ["", "es"]
    reached = []
    page.run("document.activeElement.blur()")
    for _ in range(30):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id"))
    assert {"from", "to", "translate-it"} <= set(reached)
    page.run("document.getElementById('from').value = 'es'; document.getElementById('from').onchange()")
    page.run("document.getElementById('to').focus()")
    page.press("ArrowDown")
    assert value(page, "to") == "fr"


def test_a_translation_is_stopped(translating_page, translating_app, recording, monkeypatch):

    page, worker = translating_page, translating_app.state.service.worker
    page.choose_file("#file", recording)
    page.wait("!document.getElementById('translate-it').disabled")
    slow_steps(monkeypatch, 0.03)
    page.run("document.getElementById('translate-it').click()")
    page.wait("document.getElementById('heard').value.length > 0")
    page.run("document.getElementById('translate-stop').click()")
    page.wait("!document.getElementById('translate-it').disabled")
    assert wait_until(lambda: worker.num_active == 0, 5)


def test_a_model_that_does_not_translate_says_why(page):
    assert page.run("document.getElementById('translate-part').hidden")
    assert "does not translate" in page.run("document.getElementById('translate-reason').textContent")


def test_a_voice_is_kept_and_chosen(page, recording, client):
    page.choose_file("#file", recording)
    page.wait("!document.getElementById('given').hidden && !document.getElementById('clone').disabled")
    page.run("document.getElementById('clone').click()")
    page.run(
        "document.getElementById('voice-name').value = 'Ada'; document.getElementById('voice-text').value = 'open'"
    )
    shoot(page, "voice")
    page.run("document.querySelector('#voice-form .primary').click()")
    page.wait("document.getElementById('voice').value === 'Ada'")
    speak(page)
    client.delete("/v1/audio/voices/Ada")


def test_stop_ends_the_work_on_the_server_too(page, service, monkeypatch):
    import time

    slow_steps(monkeypatch, 0.01)
    page.run("document.getElementById('text').value = 'Open the door, please. '.repeat(9)")
    page.run("document.getElementById('say').click()")
    page.wait("document.getElementById('first-sound').textContent !== '–'")
    assert service.worker.num_active == 1
    page.run("document.getElementById('stop').click()")
    page.wait("document.getElementById('ending').textContent === 'stopped'")
    end = time.monotonic() + 5
    while service.worker.num_active and time.monotonic() < end:
        time.sleep(0.05)
    assert service.worker.num_active == 0


def test_the_microphone_is_recorded(page):
    """Chromium's fake microphone beeps."""
    page.run("document.getElementById('record').click()")
    page.wait("document.getElementById('record').ariaPressed === 'true'")
    page.run("new Promise(done => setTimeout(done, 1500))")
    page.run("document.getElementById('record').click()")
    page.wait("!document.getElementById('given').hidden")
    assert "recorded just now" in page.run("document.getElementById('given-caption').textContent")


def test_everything_is_reached_by_keyboard(page):
    speak(page)
    reached = []
    page.run("document.activeElement.blur()")
    for _ in range(40):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.tagName"))
    assert {"record", "file", "text", "voice", "variety", "seed", "say", "tokens", "download"} <= set(reached)
    page.run("document.getElementById('tokens').focus()")
    page.press("ArrowRight")
    assert page.run("document.getElementById('frame').textContent").startswith("Frame 1 at 0.08 s:")
    page.press("Enter")
    page.wait("!document.querySelector('#result audio').paused")


def test_controls_have_names_and_narrow_windows_do_not_scroll_sideways(page, recording):
    page.choose_file("#file", recording)
    page.wait("!document.getElementById('given').hidden && !document.getElementById('say').disabled")
    speak(page)
    for width, dark in ((400, False), (320, True)):
        page.resize(width, 900, dark)
        assert page.run("document.documentElement.scrollWidth") <= width
        page.run("new Promise(done => setTimeout(done, 400))")
        shoot(page, f"narrow-{width}")
    assert page.run(NAMELESS) == []


def test_what_goes_wrong_is_said(page, tmp_path):
    path = tmp_path / "notes.wav"
    path.write_text("these are notes")
    page.choose_file("#file", path)
    page.wait("document.getElementById('problem').textContent.includes('cannot be read as sound')")
    page.run("document.getElementById('text').value = ' '")
    page.run("document.getElementById('say').click()")
    page.wait("document.getElementById('problem').textContent.includes('no text')")
    assert all("400" in error for error in page.errors) and len(page.errors) <= 1
    page.errors.clear()  # the browser itself notes the answer 400
