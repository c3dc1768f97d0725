"""How likely a text is to a language model of text: what the perplexity of a transcript is counted from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from sodakit.errors import ConfigError
from sodakit.files import digest
from sodakit.pretrained import Pretrained, revision_of, shown_name


@dataclass(frozen=True)
class Likelihood:
    """Of one text."""

    nats: float
    """Negative log-probability of the tokens counted, added up."""
    tokens: int
    """How many those are."""


@dataclass(frozen=True, eq=False)
class TextModel:
    """A causal language model from the Hugging Face hub or a folder, in float32."""

    model_id: str
    """Hub id or folder."""
    revision: str
    """Commit on the hub, or a digest of the folder's weights."""
    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, model_id: str, *, revision: str | None = None, device: str = "cpu") -> "TextModel":
        """The model, ready to read, for example `meta-llama/Llama-3.2-1B`.

        Args:
            revision: branch, tag or commit on the hub; a score should name a commit.
        Raises:
            ConfigError: no such model, or its tokenizer does not say where in a text its tokens begin.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        found = Pretrained(
            model_id,
            "a language model of text",
            "the hub id or folder of a causal language model with its tokenizer",
            revision,
        )
        model, tokenizer = found.model(AutoModelForCausalLM, device), found.part(AutoTokenizer)
        if not tokenizer.is_fast:
            raise ConfigError(
                f"The tokenizer of {model_id!r} gives no offsets. Needed: one with tokenizer.json."
            )
        return cls(model_id, revision_of(model), model, tokenizer)

    @property
    def name(self) -> str:
        """For example `meta-llama/Llama-3.2-1B@4e20de362430`."""
        return shown_name(self.model_id, self.revision)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the revision and the tokenizer."""
        return digest(self.revision, self.tokenizer.backend_tokenizer.to_str())

    def likelihoods(self, prompts: Sequence[str], texts: Sequence[str]) -> list[Likelihood]:
        """Each text after its prompt; one by one, so neighbours do not matter.

        Prompt, a blank and text are read as one. Counted are the tokens that begin after the prompt; what the tokenizer
        adds by itself, and the first token of all where it adds nothing before it, are read and not counted.

        Raises:
            ConfigError: a text longer than the model's context.
        """
        return [self._likelihood(*pair) for pair in zip(prompts, texts, strict=True)]

    @torch.inference_mode()
    def _likelihood(self, prompt: str, text: str) -> Likelihood:
        prompt, text = prompt.strip(), text.strip()
        read = self.tokenizer(
            f"{prompt} {text}".strip() if text else prompt,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        ids_T = torch.tensor(read["input_ids"], dtype=torch.long, device=self.model.device)
        context = getattr(self.model.config, "max_position_embeddings", None)
        if context is not None and len(ids_T) > context:
            raise ConfigError(f"A transcript of {len(ids_T)} tokens; {self.name} reads {context} at once.")
        counted_T = torch.tensor(
            [
                place > 0 and not special and begin >= len(prompt)
                for place, (special, (begin, _)) in enumerate(
                    zip(read["special_tokens_mask"], read["offset_mapping"], strict=True)
                )
            ],
            dtype=torch.bool,
        )
        if not counted_T.any():
            return Likelihood(0.0, 0)
        log_probs_TV = self.model(ids_T[None]).logits[0, :-1].float().log_softmax(-1)
        nats_T = -log_probs_TV.gather(1, ids_T[1:, None])[:, 0].double().cpu()
        return Likelihood(float(nats_T[counted_T[1:]].sum()), int(counted_T.sum()))
