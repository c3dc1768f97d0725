"""Captions as programs write them: each word once, in its own cue."""

import pytest

from sodakit.prepare.sources.transcripts import parse_transcript

ROLLING_VTT = """WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:02.500 align:start position:0%
{blank}
good<00:00:00.400><c> evening</c>

00:00:02.500 --> 00:00:02.510 align:start position:0%
good evening
{blank}

00:00:02.510 --> 00:00:05.000 align:start position:0%
good evening
here<00:00:02.900><c> is</c><00:00:03.200><c> the</c><00:00:03.500><c> news</c>

00:00:05.000 --> 00:00:05.010 align:start position:0%
here is the news
{blank}
""".replace("{blank}", " ")
"""As a video site writes what its recogniser heard."""

ROLLING_SRT = """1
00:00:00,000 --> 00:00:04,000
good evening

2
00:00:02,500 --> 00:00:06,000
good evening
here is the news

3
00:00:04,000 --> 00:00:08,000
here is the news
and the weather
"""
"""The same after a download program has turned it into SubRip."""


def said(ending: str, text: str) -> list[tuple[float | None, float | None, str]]:
    found = parse_transcript(ending, text.encode())
    return [(part.start_s, part.end_s, part.text) for part in found.utterances]


def test_lines_that_roll_are_said_once():
    assert said(".vtt", ROLLING_VTT) == [(0.0, 2.5, "good evening"), (2.51, 5.0, "here is the news")]
    words = parse_transcript(".vtt", ROLLING_VTT.encode()).utterances[1].words
    assert [(word.word, word.start_s) for word in words] == [
        ("here", 2.51),
        ("is", 2.9),
        ("the", 3.2),
        ("news", 3.5),
    ]


def test_a_line_that_rolls_ends_where_the_next_one_begins():
    assert said(".srt", ROLLING_SRT) == [
        (0.0, 2.5, "good evening"),
        (2.5, 4.0, "here is the news"),
        (4.0, 8.0, "and the weather"),
    ]


def test_somebody_who_says_a_thing_twice_is_heard_twice():
    cues = [(0, "No."), (1, "No."), (2, "Why not?"), (3, "Because."), (4, "Because of what?"), (5, "Of you.")]
    text = "\n\n".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{line}" for n, line in cues)
    assert [line for _, _, line in said(".srt", text)] == [line for _, line in cues]


@pytest.mark.parametrize("between", ["\n", "\n\n", "\n \n", "\r\n\r\n"])
def test_cues_are_told_apart_by_their_times(between):
    text = f"1\n00:00:00,000 --> 00:00:01,000\none{between}2\n00:00:01,000 --> 00:00:02,000\n2 or 3\n"
    assert [line for _, _, line in said(".srt", text)] == ["one", "2 or 3"]


def test_notes_styles_and_names_of_cues_are_not_said():
    text = (
        "WEBVTT\n\nSTYLE\n::cue {}\n\nintro\n00:00.000 --> 00:01.000\nhello\n\nNOTE cut --here\n\n"
        "7\n00:01.000 --> 00:02.000\nthere\n \nNOTE of the editor\nnobody says this\n"
    )
    assert [line for _, _, line in said(".vtt", text)] == ["hello", "there"]


def test_an_empty_line_inside_subrip_is_no_end():
    text = "1\n00:00:00,000 --> 00:00:01,000\none\n\nand two\n\n2\n00:00:01,000 --> 00:00:02,000\nthree\n"
    assert [line for _, _, line in said(".srt", text)] == ["one and two", "three"]


@pytest.mark.parametrize("ending", [".txt", ".lab"])
def test_labels_of_audacity_are_utterances(ending):
    text = "0.100000\t0.900000\thello there\n\\\t120.0\t800.0\n0,9\t1,1\tyou\n"
    assert said(ending, text) == [(0.1, 0.9, "hello there"), (0.9, 1.1, "you")]


def test_a_label_without_length_tells_no_utterance():
    with pytest.raises(ValueError, match="no length"):
        said(".txt", "0.5\t0.5\there\n")


def test_subtitles_that_are_called_text_are_subtitles():
    assert said(".txt", "WEBVTT\n\n00:00:00.100 --> 00:00:00.900\nhello\n") == [(0.1, 0.9, "hello")]


@pytest.mark.parametrize(
    ("ending", "text", "problem"),
    [
        (".trn", "../data/A11_1.wav.trn", "name of a file"),
        (".txt", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "git lfs pull"),
        (".trn", "one line\nanother one\n", "2 lines"),
    ],
)
def test_what_is_no_text_is_none(ending, text, problem):
    with pytest.raises(ValueError, match=problem):
        said(ending, text)


def test_pinyin_below_the_characters_is_not_said():
    assert said(".trn", "绿 是 阳春\nlv4 shi4 yang2 chun1\nl v4 sh ix4\n") == [(None, None, "绿 是 阳春")]


TIERS = 'File type = "ooTextFile"\nObject class = "TextGrid"\n0\n1\n<exists>\n2\n' + "".join(
    f'"IntervalTier"\n"{{{n}}}"\n0\n1\n1\n0\n1\n"{line}"\n' for n, line in enumerate(["hello", "coughs"])
)


@pytest.mark.parametrize(
    ("names", "heard"),
    [
        (("ann", "bob"), ["hello", "coughs"]),
        (("transcription", "notes"), ["hello"]),
        (("sentence", "English translation"), ["hello"]),
        (("ann", "comments"), ["hello"]),
        (("text", "ipa"), ["hello"]),
        (("text ann", "text bob"), ["hello", "coughs"]),
    ],
)
def test_tiers_that_tell_something_else_are_not_said(names, heard):
    assert [line for _, _, line in said(".textgrid", TIERS.format(*names))] == heard


def test_segments_without_times_are_not_each_the_whole_sound():
    with pytest.raises(ValueError, match="needed: start"):
        said(".json", '{"segments": [{"text": "a", "seek": 0}, {"text": "b", "seek": 100}]}')
    with pytest.raises(ValueError, match="start_frame may say"):
        said(".json", '{"segments": [{"text": "a", "start_frame": 0}]}')


def test_words_beside_a_text_have_their_times():
    text = '{"text": "hi you", "words": [{"word": "hi", "start": 0.1, "end": 0.2}, {"word": "you", "start": 0.3, "end": 1}]}'
    (part,) = parse_transcript(".json", text.encode()).utterances
    assert part.text == "hi you" and [word.start_s for word in part.words] == [0.1, 0.3]
