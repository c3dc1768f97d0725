from dataclasses import replace

import numpy as np
import pytest

from sodakit.errors import ConfigError
from sodakit.generate.engine import Engine
from sodakit.generate.frame_graph import FrameEngine
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from tests.generate.test_engine import FREE, TEMPLATE, Request, V


@pytest.fixture(scope="module")
def engine():
    return Engine(Transformer(model_size("nano", V.size, context=256, init_std=0.2), seed=3).double(), V, 4)


def speak(text_tokens, sampling, new_tokens=90):
    prompt_T = TEMPLATE.speak_prompt(np.arange(2, 2 + text_tokens, dtype=np.int32))
    return Request(
        prompt_T=prompt_T,
        closing=V.audio_end,
        max_new_tokens=new_tokens,
        semantic=sampling,
        acoustic=sampling,
        seed=text_tokens,
    )


@pytest.mark.parametrize("sampling", [GREEDY, FREE, Sampling(temperature=0.9, top_p=0.8, top_k=9)])
def test_frames_of_fixed_shape_hold_the_ids_that_steps_give(engine, sampling, monkeypatch):
    """Rows of other lengths, a row too many, a limit inside a frame, and a span that grows on the way."""
    monkeypatch.setattr("sodakit.generate.frame_graph.SPAN_TOKENS", 32)
    requests = [speak(3, sampling), speak(17, sampling, 41), speak(9, sampling, 230)]
    frames = FrameEngine(engine, 4, semantic=sampling, acoustic=sampling)
    expected = engine.generate(requests)
    for _ in range(2):  # the second time in a used cache
        found = frames.generate(requests)
        assert [c.ids_T.tolist() for c in found] == [c.ids_T.tolist() for c in expected]
        assert [c.ended for c in found] == [c.ended for c in expected]


def test_what_a_frame_cannot_do_is_refused(engine):
    with pytest.raises(ConfigError, match="repeat_penalty"):
        FrameEngine(engine, 1, semantic=Sampling(repeat_penalty=1.0), acoustic=FREE)
    frames = FrameEngine(engine, 1, semantic=FREE, acoustic=FREE)
    with pytest.raises(ConfigError, match="2 requests"):
        frames.generate([speak(3, FREE), speak(4, FREE)])


@pytest.mark.gpu
def test_the_graph_gives_what_the_steps_give():
    model = Transformer(model_size("nano", V.size, context=256, init_std=0.2), seed=3).double().cuda()
    engine = Engine(model, V, 4)
    requests = [speak(3, FREE), speak(17, FREE)]
    found = FrameEngine(engine, 2, semantic=FREE, acoustic=FREE).generate(requests)
    assert [c.ids_T.tolist() for c in found] == [c.ids_T.tolist() for c in engine.generate(requests)]


def test_each_codebook_is_drawn_by_its_own_sampling(engine):
    semantic, acoustic = Sampling(temperature=1.3), GREEDY
    requests = [replace(speak(n, semantic), acoustic=acoustic) for n in (3, 17)]
    frames = FrameEngine(engine, 2, semantic=semantic, acoustic=acoustic)
    found, expected = frames.generate(requests), engine.generate(requests)
    assert [c.ids_T.tolist() for c in found] == [c.ids_T.tolist() for c in expected]
    swapped = engine.generate([replace(r, semantic=acoustic, acoustic=semantic) for r in requests])
    assert [c.ids_T.tolist() for c in swapped] != [c.ids_T.tolist() for c in expected]
