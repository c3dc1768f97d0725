import importlib.util
import json
from dataclasses import replace

import pytest

from sodakit.codec.toy import ToyCodec
from sodakit.eval.codecs import as_text, measure_codec, measure_speed, page
from sodakit.eval.copies import voices_set
from sodakit.eval.voiceprints import SpectralSpeaker
from tests.codec.test_quality import speechlike

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)


@needs_espeak
def test_a_report_covers_sounds_codebooks_and_speed_in_all_three_forms() -> None:
    codec = ToyCodec()
    sets = [voices_set(2, None)]
    report, copies = measure_codec(codec, sets, SpectralSpeaker(), phone_sentences=6)
    plain = json.loads(json.dumps(report.plain(), allow_nan=False))
    assert 0 < plain["sets"][0]["stoi"]["value"] < 0.9
    assert len(plain["codebooks"]) == 4 and plain["bitrate_bps"] == 12.5 * 4 * 5
    assert 0 < plain["entropy_bps"] < plain["bitrate_bps"]
    text = as_text(report)
    assert "| unseen voices | 2 |" in text and "no judge asked for" in text
    html = page(report, sets, copies).html()
    assert html.count("<audio") == 4 and "What the codebooks carry" in html


@needs_espeak
def test_purity_is_that_of_codebook_0_over_the_best_other() -> None:
    report, _ = measure_codec(ToyCodec(), [voices_set(1, None)], SpectralSpeaker(), phone_sentences=6)
    uses = [
        replace(use, phone_purity=purity)
        for use, purity in zip(report.codebooks, (0.6, 0.2, 0.3, 0.1), strict=True)
    ]
    assert replace(report, codebooks=tuple(uses)).purity_ratio == pytest.approx(2)


def test_a_codec_whose_stream_differs_is_found_out() -> None:
    class Forgetful(ToyCodec):
        def stream(self):  # type: ignore[no-untyped-def]
            stream = super().stream()
            push = stream.push
            stream.push = lambda codes_KF: 0.9 * push(codes_KF)  # type: ignore[method-assign]
            return stream

    assert measure_speed(ToyCodec(), speechlike(), rounds=1).streaming_max_difference < 1e-6
    assert measure_speed(Forgetful(), speechlike(), rounds=1).streaming_max_difference > 1e-3
