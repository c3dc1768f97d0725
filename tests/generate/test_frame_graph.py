from dataclasses import replace

import numpy as np
import pytest
import torch

from sodakit.checkpoint.load import load_checkpoint
from sodakit.codec.toy import ToyCodec
from sodakit.errors import CheckpointError, ConfigError
from sodakit.generate import speech_model
from sodakit.generate.engine import Engine
from sodakit.generate.frame_graph import FrameEngine
from sodakit.generate.sampling import GREEDY, Sampling
from sodakit.model.config import model_size
from sodakit.model.transformer import Transformer
from tests.eval.small_model import small_checkpoint
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
    monkeypatch.setattr("sodakit.generate.graphs.SPAN_TOKENS", 32)
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


def test_each_codebook_is_drawn_by_its_own_sampling(engine):
    semantic, acoustic = Sampling(temperature=1.3), GREEDY
    requests = [replace(speak(n, semantic), acoustic=acoustic) for n in (3, 17)]
    frames = FrameEngine(engine, 2, semantic=semantic, acoustic=acoustic)
    found, expected = frames.generate(requests), engine.generate(requests)
    assert [c.ids_T.tolist() for c in found] == [c.ids_T.tolist() for c in expected]
    swapped = engine.generate([replace(r, semantic=acoustic, acoustic=semantic) for r in requests])
    assert [c.ids_T.tolist() for c in swapped] != [c.ids_T.tolist() for c in expected]


def test_an_engine_with_graphs_takes_them_for_speech_and_gives_the_same_answers(engine, monkeypatch):
    """A GPU's way, whose steps run here without a graph; text, penalties and prompts inside a frame go the other way."""
    how = Sampling(temperature=0.9, top_p=0.8)
    requests = [
        speak(3, how),
        replace(speak(5, how), semantic=Sampling(repeat_penalty=1.0)),
        speak(17, how, 41),
    ]
    requests.append(replace(speak(4, how, 20), closing=V.eos))
    requests.append(speak(9, GREEDY))
    expected = engine.generate(requests)
    with_graphs = Engine(engine.model, V, 4, graphs=True)
    answered = []
    plain = FrameEngine.answer
    monkeypatch.setattr(
        FrameEngine, "answer", lambda self, rows: answered.append(len(rows)) or plain(self, rows)
    )
    for _ in range(2):
        found = with_graphs.generate(requests)
        assert [c.ids_T.tolist() for c in found] == [c.ids_T.tolist() for c in expected]
    assert sorted(answered) == [1, 1, 2, 2] and len(with_graphs._with_graphs) == 2


def test_scores_that_are_no_numbers_are_told(engine):
    model = Transformer(model_size("nano", V.size, context=256, init_std=0.2), seed=3).double()
    with torch.no_grad():
        model.final_norm.weight.fill_(float("nan"))
    frames = FrameEngine(Engine(model, V, 4), 1, semantic=FREE, acoustic=FREE)
    with pytest.raises(CheckpointError, match="NaN"):
        frames.generate([speak(3, FREE)])


@pytest.mark.parametrize(
    ("precision", "dtype"), [(None, torch.bfloat16), ("float32", torch.float32), ("int8", None)]
)
def test_a_model_is_loaded_in_bfloat16_on_a_gpu(tmp_path, monkeypatch, precision, dtype):
    """In float32, as it is stored, it would read twice the memory for every code."""
    checkpoint = load_checkpoint(small_checkpoint(tmp_path))
    wanted = []
    monkeypatch.setattr(speech_model, "device_named", lambda name: "cuda:0")
    monkeypatch.setattr(speech_model, "load_codec_of", lambda *_, **__: ToyCodec(2, 32))
    monkeypatch.setattr(speech_model, "load_checkpoint", lambda path: checkpoint)
    monkeypatch.setattr(
        type(checkpoint), "model", lambda self, device, dtype: wanted.append((device, dtype)) or 1 / 0
    )
    with pytest.raises(ConfigError if dtype is None else ZeroDivisionError):
        speech_model.SpeechModel.load(tmp_path, precision=precision)
    assert wanted == ([] if dtype is None else [("cuda:0", dtype)])
