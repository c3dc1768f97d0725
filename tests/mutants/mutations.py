"""Small wrong changes of meaning, and the tests that should notice each.

A mutation that no test can notice has a reason; `run.py` prints it in place of a verdict.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One wrong change."""

    kind: str
    """What it breaks: windows, masks, weights, schedule, …"""
    file: str
    """Under `sodakit/`."""
    before: str
    """The exact text, which stands there once."""
    after: str
    """What stands there instead."""
    tests: str
    """Files under `tests/` that should notice, by blanks."""
    reason: str = ""
    """Why no test can notice; '' where one must."""


def _of(kind: str, file: str, tests: str, *changes: tuple[str, ...]) -> list[Mutation]:
    return [Mutation(kind, file, before, after, tests, *reason) for before, after, *reason in changes]


MUTATIONS: list[Mutation] = [
    *_of(
        "windows", "data/windows.py", "data/test_native.py data/test_loader.py",
        ("self.num_positions // self.window_positions", "-(-self.num_positions // self.window_positions)"),
        ("return self.num_positions % self.window_positions", "return self.num_positions // self.window_positions"),
        ("if at + length > 0:", "if at + length >= 0:"),
        ("seen = slice(max(at, 0),", "seen = slice(max(at, 1),"),
        ('side="right")) - 1', 'side="left")) - 1'),
        ('permute_all(len(view), derive_key("documents", seed))', "np.arange(len(view), dtype=np.int32)"),
    ),
    *_of(
        "windows", "data/packing.py", "data/test_pairs.py",
        ("if room >= length), None)", "if room > length), None)"),
        ("if len(documents) == MAX_DOCUMENTS:", "if len(documents) > MAX_DOCUMENTS:"),
        ("fullest = min(range(len(opened))", "fullest = max(range(len(opened))"),
        ("if len(opened) > OPEN_WINDOWS:", "if len(opened) >= OPEN_WINDOWS:"),
        ("(self.view.lengths_U > self.window_positions).sum()", "(self.view.lengths_U >= self.window_positions).sum()"),
        ("pieces[-1][:, 0] = self.view.template.vocabulary.eos", "pieces[-1][:, 0] = self.view.template.vocabulary.bos"),
    ),
    *_of(
        "mixture", "data/mixture.py", "data/test_mixture.py",
        ("(limit - seen[source]) // counts[source]", "-((seen[source] - limit) // counts[source])"),
        ("limit - seen[source] < counts[source]", "limit - seen[source] <= counts[source]"),
        ("rest[source] = self._limits[source] - seen[source]", "rest[source] = 0"),
        ("seen = self.rows_before(row) if self._stretches else", "seen = np.zeros(len(weights), np.int64) if self._stretches else"),
        ("counts[np.argsort(counts - exact, kind=", "counts[np.argsort(exact - counts, kind="),
        ("return min(blocks) if blocks else None", "return max(blocks) if blocks else None"),
        ("if whole and any(w > 0 and c == 0", "if whole and any(w < 0 and c == 0"),
    ),
    *_of(
        "mixture", "data/loader.py", "data/test_loader.py data/test_pairs.py",
        ("int(s.max_epochs * stream.num_windows)", "int(s.max_epochs) * stream.num_windows"),
        ('derive_key("windows", self.config.seed, source, epoch)', 'derive_key("windows", self.config.seed, source)'),
        ("p.from_step * config.batch_rows,", "p.from_step,"),
        ("step * self.config.batch_rows + rank * share for step", "step * self.config.batch_rows for step"),
        ("times = [2 if isinstance", "times = [1 if isinstance"),
    ),
    *_of(
        "masks", "train/scored.py", "train/test_scored.py",
        ("scored_T[ends[-1] - row[-1] :] = False", "scored_T[ends[-1] - row[-1] + 1 :] = False"),
        ("if len(opens) > given:", "if len(opens) >= given and len(opens):"),
        ("scored_T[: opens[given]] = False", "scored_T[: opens[given] + 1] = False"),
        ("return len(row) > 1 and", "return len(row) > 0 and",
         "a row has two positions at least, so a piece that begins with EOS is never alone in it"),
    ),
    *_of(
        "masks", "model/flat.py", "train/test_loss_recipes.py train/test_parity.py",
        ("wanted_BP[:, 0] = False", "wanted_BP[0, 0] = False"),
        ("(places_T - 1, ids_T, places_T)", "(places_T, ids_T, places_T)"),
    ),
    *_of(
        "masks", "model/attention.py", "model/test_attention.py",
        ("return seen_PP.tril_()", "return seen_PP"),
        ("starts_BT[:, 1:] = document_ids_BT[:, 1:] != document_ids_BT[:, :-1]", "starts_BT[:, 1:] = False"),
    ),
    *_of(
        "grammar", "tokens/grammar.py", "tokens/test_grammar.py",
        ("token < v.text_size and token not in (v.bos, v.eos)", "token < v.text_size and token != v.bos"),
        ("token < v.text_size and token not in (v.bos, v.eos)", "token < v.text_size and token != v.eos"),
        ("(slot + 1) % self.num_codebooks", "(slot + 1) % (self.num_codebooks + 1)"),
        ("BETWEEN if slot == 0 and token == v.audio_end", "BETWEEN if token == v.audio_end"),
        ("if is_text and state == OPENED else None", "if is_text else None"),
        ("np.where(target_ids == vocabulary.audio_end, 1, slots)", "slots"),
    ),
    *_of(
        "weights", "train/objective.py", "train/test_loss_recipes.py train/test_trainer.py",
        ("100.0 ** (1 - number / len(acoustic))", "100.0 ** (1 - (number - 1) / len(acoustic))"),
        ("means[FIRST_AUDIO_KIND:] = 1", "means[FIRST_AUDIO_KIND + 1 :] = 1"),
        ("weights = [100.0] * len(names)", "weights = [1.0] * len(names)"),
        ("[:, 1:, None] & (ids_BPW >= 0)", "[:, :-1, None] & (ids_BPW >= 0)"),
        ("ones_T * counted", "ones_T"),
        ("[FIRST_AUDIO_KIND:].sum() / np.log(2)", "[FIRST_AUDIO_KIND:].sum()"),
    ),
    *_of(
        "weights", "train/loss.py", "train/test_loss.py",
        ("z_loss * lse_M.square()", "z_loss * lse_M"),
        ("(1 + 2 * z_loss * lse_M)", "(1 + z_loss * lse_M)"),
        ("targets[num_targets:] = first", "targets[num_targets:] = 0",
         "what is padded weighs nothing, and a target outside the rows is looked up at their edge"),
    ),
    *_of(
        "schedule", "train/schedule.py", "train/test_optim.py",
        ("warmup = config.warmup_fraction * steps", "warmup = config.decay_fraction * steps"),
        ("left = (steps - step) / decay if", "left = (steps - step - 1) / decay if"),
        ("left = (1 - cos(pi * left)) / 2", "left = (1 - cos(pi * left / 2)) / 2"),
        ("(1 - config.final_fraction) * left", "left"),
        ("min(rising, falling, 1.0)", "rising * falling"),
    ),
    *_of(
        "update", "train/optim.py", "train/test_optim.py",
        ("parameter.ndim >= 2 and \"embedding\" not in name", "parameter.ndim >= 2"),
        ("ratio = lr / self.peak_lr if self.config.decay_follows_lr else 1.0", "ratio = 1.0"),
        ("re.sub(r\"\\.\\d+\\.\", \".*.\", name)", "name"),
        ("correction1 = 1 - self.config.beta1", "correction1 = 1 - self.config.beta2"),
        ("(1 - self.config.beta2 ** self._updates.double()).sqrt()", "(1 - self.config.beta2 ** self._updates.double())"),
        ("return self.config.kind != \"adamw\"", "return True"),
        ("self.updates - 1, dtype=torch.int32", "self.updates, dtype=torch.int32"),
        ("if p is not here:", "if False:"),
    ),
    *_of(
        "update", "train/optim.py", "train/test_optim.py",
        ("self._factor = (self.config.clip_norm / (norm + 1e-12)).clamp(max=1.0)",
         "self._factor = self.config.clip_norm / (norm + 1e-12)"),
        ("self._updates += self._ok", "self._updates += 1"),
    ),
    *_of(
        "update", "train/update.py", "train/test_optim.py",
        ("value=(1 - beta2) * factor * factor)", "value=(1 - beta2) * factor)"),
        ("torch.sign(g_).mul_(m_) > 0", "torch.sign(g_).mul_(m_) >= 0"),
    ),
    *_of(
        "recipe", "recipes/ingredients.py", "recipes/test_recipes.py",
        ('"emilia-yodas-en": 0.2878, "emilia-en": 0.1459', '"emilia-yodas-en": 0.1459, "emilia-en": 0.2878'),
    ),
    *_of(
        "recipe", "recipes/ablations.py", "recipes/test_recipes.py",
        ("decay_fraction=ANNEAL_STEPS / steps", "decay_fraction=0.2"),
        ("0.003 * sqrt(SWEEP_ROWS / 256) * sqrt(512 / 1024)", "0.003 * sqrt(SWEEP_ROWS / 256) * sqrt(1024 / 512)"),
        ('order="both" if complete else "audio_first"', 'order="both"'),
        ('optim=replace(base.optim, kind="adamw")', "optim=base.optim"),
    ),
    *_of(
        "recipe", "recipes/suite.py", "recipes/test_recipes.py",
        ("width = max(1024, MODEL_SIZES", "width = min(1024, MODEL_SIZES"),
        ("SODA_OPTIM = OptimConfig(beta1=0.98, beta2=0.98", "SODA_OPTIM = OptimConfig(beta1=0.95, beta2=0.98"),
    ),
    *_of(
        "recipe", "recipes/finetune_config.py", "recipes/test_finetune.py",
        ("warmup_fraction=0.03,\n            decay_fraction=0.97", "warmup_fraction=0.1,\n            decay_fraction=0.9"),
        ("ceil(windows / (settings.batch_rows * (1 - settings.replay_fraction)))",
         "ceil(windows / settings.batch_rows)"),
    ),
    *_of(
        "run", "train/validate.py", "train/test_validate.py train/test_trainer.py",
        ("batch_rows=1, seed=0)", "batch_rows=1)"),
        ("min(rows, available)", "rows"),
    ),
    *_of(
        "run", "train/run.py", "train/test_cost.py train/test_trainer.py",
        ("self.audio_frames = round(frames) if self.ranks.is_first else 0", "self.audio_frames = round(frames)"),
        ("self.step = state[\"step\"]", "self.step = state[\"step\"] + 1"),
        ("self.optimizer.skipped_in_a_row >= MAX_BAD_STEPS", "self.optimizer.skipped >= MAX_BAD_STEPS"),
        ("[total / self.ranks.size for total in totals]", "[total for total in totals]",
         "one rank divides by one; `train/test_parallel.py` sees it on several, in minutes"),
    ),
    *_of(
        "resume", "train/identity.py", "train/test_identity.py",
        ('"compile_blocks", "attention")', '"compile_blocks", "attention", "steps")'),
        ("if not codes or codes[-1] != ours[\"code\"][0]:", "if codes and codes[-1] != ours[\"code\"][0]:"),
        ("for s in (*config.data.sources, *config.validation)", "for s in config.data.sources"),
        ('train["init_from"] is None else "given"', 'train["init_from"] is None else train["init_from"]'),
    ),
    *_of(
        "resume", "train/metrics.py", "train/test_identity.py train/test_trainer.py",
        ('if row["step"] <= from_step]', 'if row["step"] < from_step]'),
        ("positions = (step - config.first_step) * config", "positions = step * config"),
    ),
    *_of(
        "resume", "train/saving.py", "train/test_trainer.py",
        ("[: -max(self._keep, 1)]", "[: -max(self._keep + 1, 1)]"),
        ("if old.name not in self._kept:", "if True:"),
    ),
    *_of(
        "policies", "eval/policies.py", "eval/test_policies.py eval/test_pairs.py",
        ("table.codebook_P < policy.codebooks", "table.codebook_P <= policy.codebooks"),
        ('_SODAKIT = Policy(name="sodakit", tie="half", missing="worst", softmax="slot")',
         '_SODAKIT = Policy(name="sodakit", tie="wrong", missing="worst", softmax="slot")'),
        ('_LLAMA_MIMI = Policy(name="llama-mimi", tie="wrong"', '_LLAMA_MIMI = Policy(name="llama-mimi", tie="half"'),
        ('_SODA = Policy(name="soda", tie="wrong")', '_SODA = Policy(name="soda", tie="half")'),
        ("replace(_LLAMA_MIMI, codebooks=1, close_marker=True)", "replace(_LLAMA_MIMI, codebooks=1)"),
        ("scores / np.maximum(counts, 1)", "scores"),
        ("best = max(wrong)", "best = min(wrong)"),
        ('"lexical": replace(_ZEROSPEECH, group="voice_then_id")', '"lexical": _ZEROSPEECH'),
        ("counted_P &= table.ending_P", "counted_P |= table.ending_P"),
        ('(q.frequency == 0) == (policy.subset == "out_of_vocabulary")', 'q.frequency != 0'),
    ),
    *_of(
        "WER", "eval/words.py", "eval/test_words.py",
        ('sum(step.kind != "equal" for step', 'sum(step.kind not in ("equal", "insertion") for step'),
        ('sum(step.kind != "insertion" for step', 'sum(step.kind != "deletion" for step'),
        ("align(said, text or \"\", written)", "align(said, text or said, written)"),
        ("return sum(not item.hypothesis", "return sum(not item.reference"),
    ),
    *_of(
        "WER", "eval/words.py", "eval/test_spoken_scores.py",
        ("micro=ratio_estimate(errors, words, clusters", "micro=ratio_estimate(errors, np.maximum(words, 1), clusters"),
        ("macro=estimate(rates, clusters", "macro=estimate(rates, clusters, weights=words"),
    ),
    *_of(
        "intervals", "eval/results.py", "eval/test_results.py",
        ("student_t.ppf(0.975,", "student_t.ppf(0.95,"),
        ("math.sqrt(num_clusters / (num_clusters - 1)) * student_t", "student_t"),
        ("np.abs(by_chance) >= abs(observed) - 1e-12", "by_chance >= abs(observed) - 1e-12"),
        ("there = (counts > 0).sum(axis=1)", "there = np.full(len(means), means.shape[1])"),
        ("(1 + (np.abs(by_chance)", "(0 + (np.abs(by_chance)"),
    ),
    *_of(
        "intervals", "eval/corpus_scores.py", "eval/test_corpus_scores.py eval/test_translation.py",
        ("metric.all_points(drawn_DS @ counts_SC)", "metric.all_points(np.minimum(drawn_DS, 1) @ counts_SC)"),
        ("metric.all_points(one) - metric.all_points(opposite)", "metric.all_points(one)"),
    ),
    *_of(
        "splits", "prepare/splits.py", "prepare/test_splits.py",
        ("if share < rule.test_fraction:", "if share < rule.validation_fraction:"),
        ("share < rule.test_fraction + rule.validation_fraction", "share < rule.validation_fraction"),
        ("return min(max(1, round(share * count)), max(0, count - spare))", "return min(round(share * count), max(0, count - spare))"),
        ("own[group] = max(name,", "own[group] = min(name,"),
        ('test_fraction=0.0 if "test" in there else rule.test_fraction', "test_fraction=rule.test_fraction"),
        ("parent[max(one, other)] = min(one, other)", "pass"),
        ("digest(str(seed), group)", "digest(group)"),
    ),
    *_of(
        "splits", "prepare/twins.py", "prepare/test_splits.py",
        ("return [min(groups[keys[recording]]) for", "return [recording for"),
    ),
    *_of(
        "checks", "prepare/checks.py", "prepare/test_stages.py prepare/test_cleaning.py",
        ("loudest > limits.max_peak", "loudest >= limits.max_peak * 100"),
        ("len(rows) > max_failed_fraction * total or len(rows) >= total", "len(rows) > max_failed_fraction * total"),
        ("abs(sound_s - told_s) > limits.max_duration_error_s", "sound_s - told_s > limits.max_duration_error_s"),
        ("count < MIN_TIMED_CHARACTERS or count", "count"),
        ("min(end_s, sound_s) - min(start_s, sound_s)", "end_s - start_s"),
        ("duration_s < limits.min_duration_s", "duration_s <= 0"),
        ("duration_s > limits.max_duration_s", "duration_s > 2 * limits.max_duration_s"),
        ("if clipped > limits.max_clipped_fraction:", "if clipped > 10 * limits.max_clipped_fraction:"),
    ),
    *_of(
        "limits", "generate/engine.py", "generate/test_engine.py generate/test_stream.py",
        ("if len(self.prompt_PW) >= context:", "if len(self.prompt_PW) > context + 1:"),
        ("elif len(self.ids) + len(done) > self.budget:", "elif len(self.ids) + len(done) > self.budget + 1:"),
        ("self._full = self.budget == 0", "self._full = False"),
        ("return min(self.room, self.budget)", "return self.budget"),
        ("return self.ended or self._full or self.room == 0", "return self.ended or self._full or self.room <= 1"),
        ("ids = ids[: len(ids) - (self.cursor.state - FIRST_SLOT)]", "pass"),
        ("np.add.at(counts_BR, (numbers, places), 1)", "counts_BR[numbers, places] = 1"),
        (": len(row.prompt_PW) - 1\n", ": len(row.prompt_PW)\n"),
        ("self._cache.copy_row(last, place)", "pass"),
    ),
    *_of(
        "limits", "generate/frame_graph.py", "generate/test_frame_graph.py generate/test_step_graphs.py",
        ("semantic if k in vocabulary.semantic_codebooks else acoustic", "acoustic"),
        ("torch.where(wanted_B == DRAWN, drawn_B, wanted_B)", "drawn_B"),
        ("first = {} if row.cursor.is_tail else {0: DRAWN}", "first = {0: DRAWN}"),
        ("moved=[self._x_BD, self._positions_B]", "moved=[self._x_BD]"),
    ),
    *_of(
        "limits", "generate/graphs.py", "generate/test_frame_graph.py generate/test_step_graphs.py",
        ("<= positions_B[:, None])", "< positions_B[:, None])"),
        ("self.captures = False", "pass"),
    ),
    *_of(
        "limits", "generate/step_graphs.py", "generate/test_step_graphs.py",
        ("span_of(max(lengths[:rows]) + 1,", "span_of(max(lengths[:rows]),"),
        ("ids_B = codes_B + first_id", "ids_B = codes_B"),
        ("self._graphs.run((batch, *how),", "self._graphs.run(batch,"),
    ),
    *_of(
        "limits", "generate/sampling.py", "generate/test_sampling.py",
        ("cumulative_BR - probabilities_BR < sampling.top_p", "cumulative_BR - probabilities_BR <= sampling.top_p"),
        ("sorted_BR[:, sampling.top_k :] = -torch.inf", "sorted_BR[:, sampling.top_k + 1 :] = -torch.inf"),
        ("sampling.temperature < COLDEST", "sampling.temperature == 0"),
    ),
    *_of(
        "limits", "generate/translate.py", "generate/test_translate.py",
        ("seed=seed + number))", "seed=seed))"),
        ("ended = made.ended and answer.ended", "ended = answer.ended"),
    ),
    *_of(
        "limits", "generate/stream.py", "generate/test_stream.py",
        ("min(longest_period, length // 2) + 1", "min(longest_period, length // 2)"),
        (">= agreement:", "> agreement:"),
        ("self._silent_frames + 1 if silent else 0", "self._silent_frames + 1 if silent else self._silent_frames"),
        ("silent = level_db < max(", "silent = level_db < min("),
    ),
    *_of(
        "limits", "generate/long_form.py", "generate/test_long_form.py",
        ("if model.prompt_positions(spans) + room > model.context_positions:", "if model.prompt_positions(spans) + room >= model.context_positions:"),
        ("if text and completion.ended else []", "if text else []"),
        ("self._why = min(limits,", "self._why = max(limits,"),
        ("view_KF = codes_KF[:, codes_KF.shape[1] - heard :]", "view_KF = codes_KF[:, :heard]"),
        ("seed=self.seed + len(self.pieces),", "seed=self.seed,"),
    ),
    *_of(
        "evaluation", "eval/generation.py", "eval/test_generation.py",
        ("np.random.default_rng(config.seed).permutation", "np.random.default_rng(0).permutation"),
        ("frames = round(config.max_s * spec.frame_rate_hz)", "frames = int(config.max_s * spec.frame_rate_hz)"),
        ("case.read().cut(0, config.prompt_s)", "case.read()"),
        ("frames = config.max_new_tokens // spec.num_codebooks", "frames = config.max_new_tokens"),
    ),
    *_of(
        "evaluation", "eval/harness.py", "eval/test_harness.py",
        ("given = given[1:] if given[:1] == [self.prefix_token_id] else given", "pass"),
        ("])[-context:]", "])[:context]"),
        ("self.tok_encode(text)[-room:]", "self.tok_encode(text)[:room]"),
        ("min(len(wanted), len(ids) - 1)", "len(ids) - 1"),
    ),
    *_of(
        "exports", "checkpoint/qwen3.py", "checkpoint/test_hf.py",
        ('plain.get("num_key_value_heads", 32) or', 'plain.get("num_key_value_heads") or'),
        ('plain.get("rms_norm_eps", 1e-6)', 'plain.get("rms_norm_eps", 1e-5)'),
        ('plain.get("head_dim") or 128', 'plain.get("head_dim") or 64'),
        ('plain.get("tie_word_embeddings", False)', 'plain.get("tie_word_embeddings", True)'),
        ('or plain.get("rope_theta") or 10_000.0', 'or 10_000.0'),
    ),
    *_of(
        "exports", "checkpoint/hf_folder.py", "checkpoint/test_hf_folder.py",
        ('"eos_token_id": [vocabulary.eos, vocabulary.text_end, vocabulary.audio_end]', '"eos_token_id": [vocabulary.eos, vocabulary.text_end]'),
        ('"top_p": 0.8', '"top_p": 1.0'),
        ("vocabulary = replace(vocabulary, tokenizer_fingerprint=\"\")", "pass"),
    ),
    *_of(
        "sound", "audio/files.py", "audio/test_files.py audio/test_lengths.py",
        ('RESAMPLER = "soxr HQ"', 'RESAMPLER = "soxr LQ"'),
        ("_QUALITY = RESAMPLER.split()[1]", '_QUALITY = "LQ"'),
        ("if found < promised - sound.slack_samples:", "if found < promised - rate_hz * 10:"),
        ("if longest_s is not None and heard > longest_s * rate_hz:", "if longest_s is not None and heard > longest_s * rate_hz * 10:"),
    ),
]  # fmt: skip
