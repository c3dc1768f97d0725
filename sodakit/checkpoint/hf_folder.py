"""A checkpoint as a complete Hugging Face folder, and such folders, the released SODA models among them, as checkpoints.

config.json model.safetensors generation_config.json                   a Qwen3ForCausalLM, or the published SodaHierForCausalLM
tokenizer.json tokenizer_config.json special_tokens_map.json           text, markers, and one token per code
vocabulary.json codec.json text_tokenizer.json                         ours, so nothing has to be guessed on import
README.md                                                              the model card, with the run's facts
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from sodakit.checkpoint.card import model_card
from sodakit.checkpoint.contents import Checkpoint, model_from_weights
from sodakit.checkpoint.hf import export_hf, import_hf, local_folder
from sodakit.checkpoint.parity import check_parity
from sodakit.checkpoint.save import save_checkpoint
from sodakit.errors import CheckpointError
from sodakit.files import atomic_folder, read_json, write_json, write_text
from sodakit.log import say
from sodakit.tokens.characters import (
    FIRST_CHARACTER,
    MARKER_TEXTS,
    PRIVATE_CHARACTER,
    codes_to_characters,
)
from sodakit.tokens.text import TextTokenizer, parsed
from sodakit.tokens.vocabulary import Vocabulary, soda_vocabulary

AudioText = Literal["private", "published"]
"""The strings of codes in an exported tokenizer: of the private-use planes, which no text holds, or as the public data
sets have them, where some are punctuation and ligatures of ordinary text."""
_FIRST = {"private": PRIVATE_CHARACTER, "published": FIRST_CHARACTER}
TEXT_TOKENIZER = "text_tokenizer.json"
"""The tokenizer of text alone, as the stores have it."""


def export_folder(
    checkpoint: Checkpoint,
    folder: Path | str,
    *,
    dtype: torch.dtype = torch.bfloat16,
    check: bool = True,
    audio_text: AudioText = "private",
) -> Path:
    """Write `checkpoint` as a Hugging Face folder, atomically; returns the folder.

    Args:
        dtype: of the weights.
        check: load the folder in transformers and compare logits before it gets its name.
        audio_text: which strings stand for codes in the tokenizer.
    Raises:
        CheckpointError: saved without vocabulary, or transformers computes other logits.
    """
    source = checkpoint.vocabulary_folder
    if source is None:
        raise CheckpointError(f"{checkpoint.folder} was saved without a vocabulary, so nobody could use it.")
    vocabulary = Vocabulary.load(source)
    with atomic_folder(folder) as temporary:
        inner = temporary / "hf"
        ids = {"bos_token_id": vocabulary.bos, "eos_token_id": vocabulary.eos}
        export_hf(checkpoint, inner, dtype=dtype, more_config=ids)
        for file in inner.iterdir():
            file.rename(temporary / file.name)
        inner.rmdir()
        write_tokenizer(temporary, source, vocabulary, checkpoint.model_config.context, audio_text)
        vocabulary.save(temporary)
        shutil.copyfile(source / "tokenizer.json", temporary / TEXT_TOKENIZER)
        if checkpoint.codec is not None:
            write_json(temporary / "codec.json", checkpoint.codec)
        write_json(temporary / "generation_config.json", generation_config(vocabulary))
        write_text(temporary / "README.md", model_card(checkpoint, vocabulary, dtype, audio_text))
        if check:
            check_parity(temporary, vocabulary)
    return Path(folder)


def generation_config(vocabulary: Vocabulary) -> dict[str, Any]:
    """Sampling as the paper speaks; a span ends at its closing marker, or the document at EOS."""
    return {
        "do_sample": True,
        "temperature": 0.9,
        "top_p": 0.8,
        "bos_token_id": vocabulary.bos,
        "eos_token_id": [vocabulary.eos, vocabulary.text_end, vocabulary.audio_end],
        "pad_token_id": vocabulary.eos,
    }


def write_tokenizer(
    folder: Path, source: Path, vocabulary: Vocabulary, context: int, audio_text: AudioText = "private"
) -> None:
    """The text tokenizer with markers and audio characters as added special tokens; it puts BOS first by itself.

    Raises:
        CheckpointError: the ids of the vocabulary are not those that a tokenizer would give.
    """
    tokenizer = parsed(_of_text_alone(source / "tokenizer.json", vocabulary.text_size))
    known = tokenizer.get_vocab(with_added_tokens=True)
    every = audio_texts(vocabulary, _FIRST[audio_text])
    texts = [text for text in every if text not in known]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in texts])
    for text, token in zip(every, _audio_ids(vocabulary), strict=True):
        if tokenizer.token_to_id(text) != token:
            raise CheckpointError(
                f"Id {token} is {text!r}, and its place in the tokenizer would be {tokenizer.token_to_id(text)}: "
                "only vocabularies of text, markers, audio without gaps can be exported."
            )
    bos = tokenizer.id_to_token(vocabulary.bos)
    eos = tokenizer.id_to_token(vocabulary.eos)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, vocabulary.bos)]
    )
    write_text(folder / "tokenizer.json", tokenizer.to_str())
    special = {"bos_token": bos, "eos_token": eos, "pad_token": eos}
    write_json(folder / "special_tokens_map.json", special)
    more = {"clean_up_tokenization_spaces": False, "model_max_length": context}
    write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special, **more}
    )


def _of_text_alone(file: Path, text_size: int) -> str:
    """The definition in a tokenizer.json without ids from `text_size` on: markers and audio, where it has them."""
    written = file.read_text(encoding="utf-8")
    plain = json.loads(written)
    kept = [token for token in plain["added_tokens"] if token["id"] < text_size]
    vocab = plain["model"].get("vocab")
    words = {w: i for w, i in vocab.items() if i < text_size} if isinstance(vocab, dict) else vocab
    if len(kept) == len(plain["added_tokens"]) and words == vocab:
        return written
    model = plain["model"] | ({"vocab": words} if words is not None else {})
    # What puts BOS first came with the export; sodakit itself asks for no special tokens.
    return json.dumps(plain | {"added_tokens": kept, "model": model, "post_processor": None})


def _text_tokenizer_of(folder: Path, vocabulary: Vocabulary) -> TextTokenizer:
    """The tokenizer that the stores of an exported model have; of other folders, the one there is."""
    if (folder / TEXT_TOKENIZER).exists():
        return TextTokenizer.load(folder / TEXT_TOKENIZER)
    if not (folder / "vocabulary.json").exists():
        return TextTokenizer.load(folder)
    # Exports of an older sodakit hold the whole tokenizer only.
    definition = _of_text_alone(folder / "tokenizer.json", vocabulary.text_size)
    return TextTokenizer(parsed(definition))


def audio_texts(vocabulary: Vocabulary, first_character: int = FIRST_CHARACTER) -> list[str]:
    """The strings of the markers, then of every code, in the order of their ids."""
    codes_KF = np.arange(vocabulary.codebook_size)[None].repeat(vocabulary.num_codebooks, 0)
    # Frame-major; by code point they are in the order of the ids.
    characters = codes_to_characters(codes_KF, vocabulary.codebook_size, first_character)
    return [*MARKER_TEXTS, *sorted(characters)]


def _audio_ids(vocabulary: Vocabulary) -> list[int]:
    stop = vocabulary.audio_base + vocabulary.num_codebooks * vocabulary.codebook_size
    return [*vocabulary.markers, *range(vocabulary.audio_base, stop)]


def import_folder(
    folder_or_hub_id: Path | str, out: Path | str, *, codec: dict[str, Any] | None = None
) -> Path:
    """A Hugging Face folder as a checkpoint of ours, in `out`.

    Folders we exported say all of themselves. Of others (the released soda-research/*-base) the vocabulary is read off
    the tokenizer: the markers by name, audio by its characters.

    Args:
        codec: the plain CodecSpec, for folders without codec.json.
    Raises:
        CheckpointError: neither a Qwen3 nor a soda_hier model, no tokenizer, or a tokenizer without markers.
    """
    folder = local_folder(folder_or_hub_id)
    config, weights = import_hf(folder)
    if not (folder / "tokenizer.json").exists():
        raise CheckpointError(f"{folder_or_hub_id} has no tokenizer.json, so its ids have no meaning.")
    vocabulary = _vocabulary_of(folder)
    tokenizer = _text_tokenizer_of(folder, vocabulary)
    if vocabulary.tokenizer_fingerprint not in ("", tokenizer.fingerprint):
        say(
            f"{folder_or_hub_id} does not hold the tokenizer of its stores as it was (an older sodakit exported it): "
            "stores of any tokenizer with as many ids will be taken. Export it again to have that checked."
        )
        vocabulary = replace(vocabulary, tokenizer_fingerprint="")
    if vocabulary.size > config.vocab_size:
        raise CheckpointError(
            f"{folder_or_hub_id}: a tokenizer of {vocabulary.size} ids for a model of {config.vocab_size}."
        )
    with TemporaryDirectory() as temporary:
        language = Path(temporary)
        vocabulary.save(language)
        tokenizer.save(language)
        if codec is None and (folder / "codec.json").exists():
            codec = read_json(folder / "codec.json")
        model = model_from_weights(config, weights, str(folder_or_hub_id))
        return save_checkpoint(
            out,
            model=model,
            state={"step": 0, "imported_from": str(folder_or_hub_id)},
            config={},
            vocabulary_folder=language,
            codec=codec,
        )


def _vocabulary_of(folder: Path) -> Vocabulary:
    if (folder / "vocabulary.json").exists():
        return Vocabulary.load(folder)
    tokenizer = TextTokenizer.load(folder)
    raw = parsed((folder / "tokenizer.json").read_text(encoding="utf-8"))
    markers = [raw.token_to_id(text) for text in MARKER_TEXTS]
    first_audio = raw.token_to_id(codes_to_characters(np.zeros((1, 1), np.int64), 1))
    if None in markers or first_audio is None:
        raise CheckpointError(
            f"The tokenizer of {folder} has no markers ({', '.join(MARKER_TEXTS)}) or no audio characters: a text model? "
            "To start training from one, name it in init_from."
        )
    soda = soda_vocabulary(tokenizer.fingerprint)
    last = raw.token_to_id(audio_texts(soda)[-1])
    found = (tokenizer.bos, tokenizer.eos, *markers, first_audio, last)
    if found != (soda.bos, soda.eos, *soda.markers, soda.audio_base, soda.size - 1):
        raise CheckpointError(
            f"The ids of {folder} ({found}) are not the published layout, and it has no vocabulary.json to say what they are."
        )
    return soda
