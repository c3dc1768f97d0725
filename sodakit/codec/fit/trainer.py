"""Training the mini codec, on a CPU or a GPU, within a given time. Killed at any moment, it resumes from its checkpoint."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sodakit.codec.fit.config import FitConfig
from sodakit.codec.fit.ema import EntryAverages
from sodakit.codec.fit.losses import RESOLUTIONS, envelope_mismatch, spectral_distances
from sodakit.codec.fit.sounds import UNKNOWN, Batch, Batches, recordings, synthetic, taught
from sodakit.codec.fit.teacher import Teacher
from sodakit.codec.mini import MiniCodec, load_mini
from sodakit.codec.network import MiniConfig, MiniNetwork
from sodakit.config import config_digest, to_plain
from sodakit.errors import CheckpointError, ConfigError, Stopped
from sodakit.files import atomic_path, write_json
from sodakit.hardware import torch_threads
from sodakit.holding import hold
from sodakit.log import say
from sodakit.signals import StopSignals
from sodakit.units import format_count, format_duration

_LOG_EVERY_STEPS = 25  # odd, so that logged steps alternate between resolutions


class Fit:
    """A training run: its network, optimiser, entry averages and clock.

    `build` makes the network; benchmarks/codec_architectures.py gives others than mini's.
    """

    def __init__(
        self,
        config: FitConfig,
        batches: Batches,
        teacher_width: int = 0,
        build: Callable[[MiniConfig], MiniNetwork] = MiniNetwork,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self._batches = config, batches
        self.network = build(config.network).to(config.device)
        # From what codebook 0 says to what the teacher, if there is one, hears; of use in training only.
        heads = [nn.Linear(config.network.code_width, teacher_width)] if teacher_width else []
        self.teacher_head = nn.Sequential(*heads).to(config.device)
        self.averages = EntryAverages(self.network.quantizer)
        self.optimizer = torch.optim.AdamW(
            self._parameters(), lr=config.peak_lr, betas=(0.8, 0.98), weight_decay=0.01, fused=True
        )
        self.step, self.elapsed_s = 0, 0.0

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.network.parameters(), *self.teacher_head.parameters()]

    @property
    def progress(self) -> float:
        """From 0 to 1, by steps where the config counts them, else by time."""
        if self.config.steps:
            return min(1.0, self.step / self.config.steps)
        return min(1.0, self.elapsed_s / (60 * self.config.minutes))

    @property
    def left(self) -> str:
        """What remains, for people."""
        if self.config.steps:
            return f"{self.config.steps - self.step} steps"
        return format_duration(60 * self.config.minutes - self.elapsed_s)

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine down to 3% of the peak."""
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return self.config.peak_lr * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * self.progress)))

    def train_step(self) -> dict[str, float]:
        """One step; the losses."""
        # Drawn from the step's own seed, so a resumed run sees what an uninterrupted one would.
        random = np.random.default_rng((self.config.seed, self.step))
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        losses = self._losses(self._batches.draw(random), random)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()} | {
            "gradient_norm": float(norm)
        }

    def _losses(self, batch: Batch, random: np.random.Generator) -> dict[str, Tensor]:
        config, network = self.config, self.network
        drawn = _draw_depths(config, self.progress, random)
        depth_B, bypass_B = (torch.from_numpy(rows).to(config.device) for rows in drawn)
        kind = torch.device(config.device).type
        with torch.autocast(kind, torch.bfloat16):
            latent = network.latents(batch.wave_BS)
        with torch.autocast(kind, enabled=False):
            quantized = network.quantizer(
                latent.float(), depth_B, bypass_B, config.semantic_gradient, self.averages.observe
            )
            with torch.no_grad():
                log_pitch_BT = network.melody.log_pitch(network.listen(batch.wave_BS))
        with torch.autocast(kind, torch.bfloat16):
            decoded_BS = network.decode_latents(quantized.latent_BFD, quantized.acoustic_BFD, log_pitch_BT)
        original_BS = batch.wave_BS[:, : decoded_BS.shape[1]]
        # Two of the four a step, a long window and a short one: spectra are half the cost.
        some = RESOLUTIONS[self.step % 2 :: 2]
        mel, stft = spectral_distances(decoded_BS.float(), original_BS, config.network.sample_rate_hz, some)
        envelope = envelope_mismatch(decoded_BS.float(), original_BS, config.network.sample_rate_hz)
        phone, accuracy = self._phone_loss(quantized.semantic_BFD, batch.phones_BT)
        teacher = self._teacher_loss(quantized.semantic_BFD, batch.features_BFD)
        steady, kept = self._steady_loss(latent, batch)
        total = config.mel_weight * mel + config.stft_weight * stft
        total = total + config.commitment_weight * quantized.commitment + config.phone_weight * phone
        total = total + config.envelope_weight * envelope + config.teacher_weight * teacher
        total = total + config.steady_weight * steady
        return {
            "total": total,
            "mel": mel,
            "stft": stft,
            "commitment": quantized.commitment,
            "envelope": envelope,
            "phone": phone,
            "phone_accuracy": accuracy,
            "teacher": teacher,
            "steady": steady,
        } | ({} if kept is None else {"steady_share": kept})

    def _phone_loss(self, semantic_BFD: Tensor, phones_BT: Tensor) -> tuple[Tensor, Tensor]:
        if not self.config.network.phones or not bool((phones_BT != UNKNOWN).any()):
            return torch.zeros((), device=semantic_BFD.device), torch.full((), math.nan)
        logits = self.network.phone_logits(semantic_BFD)
        loss = functional.cross_entropy(logits.flatten(0, 1), phones_BT.flatten(), ignore_index=UNKNOWN)
        known = phones_BT != UNKNOWN
        return loss, (logits.argmax(-1) == phones_BT)[known].float().mean()

    def _teacher_loss(self, semantic_BFD: Tensor, features_BFD: Tensor | None) -> Tensor:
        if features_BFD is None:
            return torch.zeros((), device=semantic_BFD.device)
        said_BFD = self.teacher_head(semantic_BFD)
        return 1 - functional.cosine_similarity(said_BFD, features_BFD, dim=-1).mean()

    def _steady_loss(self, latent_BFD: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """What damaged rows say against the codes of codebook 0 of the whole ones; the share that is the same, if any is damaged.

        An entry is as likely as a Gaussian about it makes a latent: as wide as whole latents lie from their entries and
        damaged ones from whole ones, so that a strange sound is no infinite surprise.
        """
        rows_B = batch.damaged_B
        if not bool(rows_B.any()):
            return torch.zeros((), device=latent_BFD.device), None
        quantizer, book = self.network.quantizer, self.network.quantizer.book(0)
        kind = latent_BFD.device.type
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16):
            whole_BFD = self.network.latents(batch.whole_BS[rows_B])
        with torch.autocast(kind, enabled=False):
            said_ND = quantizer.semantic_in(latent_BFD[rows_B].float()).flatten(0, 1)
            with torch.no_grad():
                meant_ND = quantizer.semantic_in(whole_BFD.float()).flatten(0, 1)
                codes_N = book.nearest(meant_ND)
                near = functional.mse_loss(meant_ND, book(codes_N))
                variance = near + functional.mse_loss(said_ND, meant_ND) + 1e-6
            apart_NC = torch.cdist(said_ND, book.entries).square()
            loss = functional.cross_entropy(-apart_NC / (2 * variance), codes_N)
        return loss, (apart_NC.argmin(-1) == codes_N).float().mean()

    def save(self) -> None:
        """Write the checkpoint, and the codec as it is now."""
        state = {
            "network": self.network.state_dict(),
            "teacher_head": self.teacher_head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averages": self.averages.state(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "config": config_digest(self.config.network),
        }
        with atomic_path(self.config.out / "checkpoint.pt") as temporary:
            torch.save(state, temporary)
        self.codec().save(self.config.out)

    def codec(self) -> MiniCodec:
        """A copy of the network as a codec, rounded to float16 as it will be shipped."""
        copy = MiniNetwork(self.config.network)
        copy.load_state_dict(
            {name: value.half().float().cpu() for name, value in self.network.state_dict().items()}
        )
        return MiniCodec(copy)

    def start_from(self, folder: Path) -> None:
        """Take over every tensor of the mini codec in `folder` that has the same name and shape here.

        Raises:
            ConfigError: not one does.
        """
        theirs, ours = load_mini(folder).network.state_dict(), self.network.state_dict()
        fitting = {
            name: tensor
            for name, tensor in theirs.items()
            if name in ours and ours[name].shape == tensor.shape
        }
        if not fitting:
            raise ConfigError(
                f"Nothing in {folder} fits this network. Start from a codec of a similar shape."
            )
        self.network.load_state_dict(fitting, strict=False)
        self.averages = EntryAverages(self.network.quantizer)
        self.averages.started = True  # entries are not drawn anew from the first batch
        left_out = sorted(set(ours) - set(fitting))
        say(f"{len(fitting)} tensors from {folder}; new: {', '.join(left_out) or 'none'}.")

    def resume(self) -> bool:
        """Load the checkpoint if there is one; whether there was.

        Raises:
            CheckpointError: it belongs to a codec of another shape.
        """
        path = self.config.out / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True, map_location=self.config.device)
        if state["config"] != config_digest(self.config.network):
            raise CheckpointError(
                f"{path} belongs to a codec of another shape or other phones. Use another --out, or the settings it began with."
            )
        self.network.load_state_dict(state["network"])
        self.teacher_head.load_state_dict(state["teacher_head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averages.load(state["averages"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        return True


def train(config: FitConfig) -> MiniCodec:
    """Train a codec for `config.minutes` and save it in `config.out`; a run that was stopped or killed is continued.

    Raises:
        Stopped: a signal came, and its checkpoint is written.
        ConfigError: another process trains in the folder, or nothing can be trained on.
    """
    with torch_threads(config.threads), hold(config.out, "trained"):
        config, batches, teacher = _prepare(config)
        fit = Fit(config, batches, teacher.width if teacher else 0)
        resumed = fit.resume()
        if not resumed and config.start is not None:
            fit.start_from(config.start)
        say(f"{'Resuming at' if resumed else 'Starting at'} step {fit.step}: {_describe(fit)}")
        write_json(config.out / "config.json", to_plain(config))
        stopped = _run(fit)
        fit.save()
        if stopped:
            say(f"Stopped at step {fit.step}; the same command resumes from there.")
            raise Stopped(fit.step)
        return fit.codec()


def _prepare(config: FitConfig) -> tuple[FitConfig, Batches, Teacher | None]:
    started_s = time.monotonic()
    spoken, phones = synthetic(config) if config.voices_hours > 0 else ([], ())
    recorded = recordings(config)
    rate_hz = config.network.sample_rate_hz
    both = (spoken, [sound for pool in recorded for sound in pool])
    hours = [sum(len(sound.samples_S) for sound in pool) / rate_hz / 3600 for pool in both]
    took = format_duration(time.monotonic() - started_s)
    say(f"{hours[0]:.2f} h of voices, {hours[1]:.2f} h of recordings, {len(phones)} phones, in {took}.")
    config = replace(config, network=replace(config.network, phones=phones))
    teacher = None
    if config.teacher is not None:
        teacher = Teacher.load(
            config.teacher, layer=config.teacher_layer, device=config.device, threads=config.threads
        )
        spoken, *recorded = taught([spoken, *recorded], teacher, rate_hz, config.out / "teacher")
    return config, Batches(config, spoken, recorded, teacher), teacher


def _run(fit: Fit) -> bool:
    """The steps that are left; whether a signal ended them."""
    last_s = saved_s = time.monotonic()
    with open(fit.config.out / "metrics.jsonl", "a", encoding="utf-8") as metrics, StopSignals() as stop:
        while fit.progress < 1:
            if stop:
                return True
            losses = fit.train_step()
            now_s = time.monotonic()
            fit.elapsed_s += now_s - last_s
            last_s = now_s
            if fit.step % _LOG_EVERY_STEPS == 0:
                _report(fit, losses, metrics)
            if now_s - saved_s > fit.config.save_every_s:
                fit.save()
                saved_s = now_s
    return False


def _report(fit: Fit, losses: dict[str, float], metrics: Any) -> None:
    row: dict[str, Any] = {"step": fit.step, "elapsed_s": round(fit.elapsed_s, 1), "lr": fit.learning_rate()}
    row |= {name: round(value, 4) for name, value in losses.items() if math.isfinite(value)}
    metrics.write(json.dumps(row) + "\n")
    metrics.flush()
    names = ["mel", "stft", "envelope", "phone", "phone_accuracy", "commitment", "steady_share"]
    names += ["teacher"] if fit.config.teacher else []
    shown = "  ".join(f"{name} {losses[name]:.3f}" for name in names if name in losses)
    say(f"step {fit.step}  {shown}  left {fit.left}")


def _describe(fit: Fit) -> str:
    shape = fit.config.network
    seconds = fit.config.batch_rows * fit.config.segment_frames * shape.frame_samples / shape.sample_rate_hz
    count = format_count(fit.network.num_parameters())
    return f"{count} parameters, {seconds:.0f} s of sound a step, {fit.left} to go."


def _draw_depths(
    config: FitConfig, progress: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Levels of the chain each row keeps, and which rows are not quantised at all."""
    most = config.network.chain_levels
    shallow_B = random.integers(0, most + 1, config.batch_rows)
    depth_B = np.where(random.random(config.batch_rows) < config.full_depth_fraction, most, shallow_B)
    share = config.bypass_fraction * max(0.0, 1 - progress / 0.6)
    return depth_B, (depth_B == most) & (random.random(config.batch_rows) < share)
