// The page: what is pressed, and what is shown.

import * as api from "./api.js";
import * as draw from "./draw.js";
import * as sound from "./sound.js";

const $ = (id) => document.getElementById(id);
const state = { model: null, given: null, frames: [], samples: new Float32Array(0), current: -1, parts: [], working: null, stopRecording: null };

// ---- what everybody sees ----

function say(text) { $("status").textContent = text; }

function showProblem(error) {
  if (error.name === "AbortError") return;
  $("problem").textContent = error.message;
  $("problem").hidden = false;
  if (error.status === 401) { $("key-form").hidden = false; $("key").focus(); }
}

function setWorking(controller) {
  state.working = controller;
  for (const id of ["say", "transcribe", "timed", "continue", "clone", "record"]) $(id).disabled = controller !== null;
  $("translate-it").disabled = controller !== null || !state.given;
  $("stop").disabled = $("translate-stop").disabled = controller === null;
}

// One thing at a time; whatever goes wrong is shown, and Stop ends it.
async function work(task) {
  const controller = new AbortController();
  $("problem").hidden = true;
  setWorking(controller);
  try { await task(controller.signal); } catch (error) { showProblem(error); } finally { setWorking(null); }
}

function seconds(value) { return value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`; }

// ---- the recording ----

function showGiven(given, name) {
  state.given = given;
  const figure = $("given");
  figure.hidden = $("given-actions").hidden = false;
  $("transcript-part").hidden = $("translated").hidden = $("words").hidden = true;
  $("translated-caption").textContent = "";
  showTranslates();
  $("translate-it").disabled = state.working !== null;
  drawGiven();
  const player = figure.querySelector("audio");
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(sound.toWav(given));
  $("given-caption").textContent = `${name}, ${seconds(given.samples.length / given.rate)}`;
}

async function take(file) {
  if (!file) return;
  await work(async () => showGiven(await sound.decode(file), file.name || "dropped sound"));
}

async function toggleRecording() {
  const stop = state.stopRecording;
  if (stop) {
    state.stopRecording = null;
    $("record").setAttribute("aria-pressed", "false");
    $("record-label").textContent = "Record";
    const given = stop();
    if (given.samples.length) showGiven(given, "recorded just now");
    return;
  }
  try {
    $("problem").hidden = true;
    state.stopRecording = await sound.startRecording();
    $("record").setAttribute("aria-pressed", "true");
    $("record-label").textContent = "End the recording";
    say("Recording.");
  } catch (error) { showProblem(error); }
}

async function transcribe(signal) {
  const started = performance.now();
  $("transcript-part").hidden = false;
  $("transcript").value = "";
  $("transcript-caption").textContent = "Listening …";
  try {
    for await (const event of api.transcribe(state.model.id, sound.toWav(state.given), signal)) {
      if (event.type === "transcript.text.delta") $("transcript").value += event.delta;
      else $("transcript").value = event.text;
    }
  } catch (error) { $("transcript-caption").textContent = ""; throw error; }
  const took = (performance.now() - started) / 1000, given = state.given.samples.length / state.given.rate;
  const heard = $("transcript").value ? "" : "The model heard no words. ";
  $("transcript-caption").textContent = `${heard}${seconds(took)} for ${seconds(given)} of sound: ${(given / took).toFixed(1)} times real time.`;
}

// Every word is lit while it sounds, and a click on it goes there.
async function timed(signal) {
  $("transcript-part").hidden = false;
  $("transcript-caption").textContent = "Listening …";
  let found;
  try { found = await api.words(state.model.id, sound.toWav(state.given), signal); }
  catch (error) { $("transcript-caption").textContent = ""; throw error; }
  $("transcript").value = found.text;
  $("transcript-caption").textContent = found.words.length ? "" : "The model heard no words.";
  const player = $("given").querySelector("audio");
  $("words").replaceChildren(...found.words.flatMap((word) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = word.word;
    Object.assign(button.dataset, { start: word.start, end: word.end });
    button.onclick = () => { player.currentTime = word.start; player.play(); };
    return [button, " "];
  }));
  $("words").hidden = !found.words.length;
}

function lightWord() {
  const player = $("given").querySelector("audio"), now = player.currentTime;
  for (const button of $("words").querySelectorAll("button")) {
    const lit = now >= Number(button.dataset.start) && now < Number(button.dataset.end);
    if (lit !== (button.getAttribute("aria-current") === "true")) button.setAttribute("aria-current", String(lit));
  }
  if (!player.paused) requestAnimationFrame(lightWord);
}

// ---- what the model makes ----

function clearMade() {
  state.frames = []; state.parts = []; state.samples = new Float32Array(0); state.current = -1;
  $("made").hidden = false;
  for (const id of ["first-sound", "factor", "length"]) $(id).textContent = "–";
  for (const id of ["factor-detail", "ending", "frame"]) $(id).textContent = "";
  $("result").querySelector("audio").hidden = $("download").hidden = true;
  $("made").scrollIntoView({ block: "nearest" });
  redraw();
}

let drawing = 0;
function redraw() {
  if (drawing) return;
  drawing = requestAnimationFrame(() => {
    drawing = 0;
    const figure = $("result");
    draw.drawWave(figure.querySelector(".wave"), state.samples);
    draw.drawSpectrum(figure.querySelector(".spectrum"), state.samples, state.model.sample_rate_hz);
    draw.drawTokens($("tokens"), state.frames, state.model.codebook_size, state.current);
  });
}

async function receive(events) {
  clearMade();
  say("The model is speaking.");
  const started = performance.now(), rate = state.model.sample_rate_hz, player = new sound.Player(rate);
  let finished = null;
  try {
    for await (const event of events) {
      if (event.type === "speech.audio.done") { finished = event; continue; }
      const samples = sound.fromBase64(event.audio);
      if (!state.parts.length) $("first-sound").textContent = `${Math.round(performance.now() - started)} ms`;
      player.push(samples);
      state.parts.push(samples);
      state.samples = sound.join(state.parts);
      (event.codes?.[0] ?? []).forEach((_, f) => state.frames.push(event.codes.map((row) => row[f])));
      showPace((performance.now() - started) / 1000, state.samples.length / rate);
      redraw();
    }
  } catch (error) {
    if (error.name === "AbortError") player.stop();
    throw error;
  } finally { showMade(finished); }
}

function showPace(elapsed, made) {
  $("factor").textContent = `${(elapsed / made).toFixed(2)} s`;
  $("factor-detail").textContent = elapsed < made ? "faster than it is spoken" : "slower than it is spoken";
  $("length").textContent = seconds(made);
}

const ENDINGS = { end: "ended by itself", limit: "cut off at the limit", silence: "ended in silence", loop: "stopped: it repeated itself" };

function showMade(finished) {
  if (!state.samples.length) { if (finished) $("ending").textContent = "the model said nothing"; return; }
  $("ending").textContent = finished ? ENDINGS[finished.ending] : "stopped";
  const player = $("result").querySelector("audio"), link = $("download");
  URL.revokeObjectURL(player.src);
  player.src = link.href = URL.createObjectURL(sound.toWav({ samples: state.samples, rate: state.model.sample_rate_hz, origin: finished?.origin ?? "Synthetic speech by sodakit" }));
  player.hidden = link.hidden = false;
  $("tokens").setAttribute("aria-valuemax", state.frames.length - 1);
  say(`Done: ${seconds(state.samples.length / state.model.sample_rate_hz)} of speech.`);
}

function speak(signal) {
  return receive(api.speak({
    model: state.model.id, input: $("text").value, voice: $("voice").value,
    temperature: Number($("variety").value), seed: Number($("seed").value) || 0,
  }, signal));
}

function goOn(signal) {
  const prompt_s = Math.min(4, state.model.context_s / 2);
  return receive(api.goOn(sound.toWav(state.given), { prompt_s, max_s: Math.min(8, state.model.context_s / 3), seed: Number($("seed").value) || 0 }, signal));
}

// ---- in another language ----

const names = new Intl.DisplayNames("en", { type: "language", fallback: "code" });

function nameOf(code) {
  try { return names.of(code.replaceAll("_", "-")); } catch { return code; }
}

function choices(codes) { return [...new Set(codes)].map((code) => new Option(nameOf(code), code)); }

// What the model translates, or why it does not.
function showTranslates() {
  if (!state.model) return;
  const can = state.model.translation;
  $("translate-part").hidden = !can;
  $("translate-reason").textContent = !can
    ? `${state.model.id} does not translate: it was trained to write what it hears, in the language it hears. Serve a model fine-tuned to translate.`
    : state.given ? `Translates the recording above, in pieces of at most ${seconds(can.longest_piece_s)}.` : "Record, drop or choose a recording above: it is what gets translated.";
}

function showLanguages() {
  const can = state.model.translation, known = can?.languages;
  if (!can) return;
  const source = $("from").value, target = $("to").value;
  $("from-part").hidden = !can.writes_source || !known;
  $("from").replaceChildren(new Option("the model finds out", ""), ...choices((known ?? []).map((pair) => pair.from)));
  $("from").value = source;
  $("to").replaceChildren(...choices((known ?? []).filter((pair) => !source || pair.from === source).map((pair) => pair.to)));
  if ([...$("to").options].some((option) => option.value === target)) $("to").value = target;
  $("to").hidden = !known;
  $("to-any").hidden = Boolean(known);
  $("to-label").htmlFor = known ? "to" : "to-any";
  $("heard-part").hidden = !can.writes_source;
  $("meant-part").hidden = !can.writes;
}

function showWords(event) {
  const [kind, , what] = event.type.split("."), id = kind === "transcript" ? "heard" : "meant";
  if (what === "delta") { $(id).value += event.delta; return; }
  $(id).value = event.text;
  $(id).lang = event.language ?? "";
  if (event.language) $(`${id}-label`).textContent = `${id === "heard" ? "What was heard" : "Its translation"} (${nameOf(event.language)})`;
}

// The sound alone: words are shown as they pass.
async function* soundsOf(events) {
  for await (const event of events) {
    if (event.type.includes(".text.")) showWords(event);
    else yield event;
  }
}

async function translate(signal) {
  const can = state.model.translation, started = performance.now();
  const to = $("to").hidden ? $("to-any").value : $("to").value;
  const from = $("from-part").hidden ? "" : $("from").value;
  $("translated").hidden = !(can.writes || can.writes_source);
  for (const id of ["heard", "meant"]) { $(id).value = ""; $(id).lang = ""; }
  $("heard-label").textContent = "What was heard";
  $("meant-label").textContent = "Its translation";
  $("translated-caption").textContent = "Translating …";
  const fields = { to, ...(from ? { from } : {}), temperature: can.speaks ? Number($("variety").value) : 0, seed: Number($("seed").value) || 0 };
  try {
    const sounds = soundsOf(api.translate(state.model.id, can.speaks, sound.toWav(state.given), fields, signal));
    if (can.speaks) await receive(sounds);
    else for await (const _ of sounds);
  } catch (error) { $("translated-caption").textContent = ""; throw error; }
  const took = (performance.now() - started) / 1000, given = state.given.samples.length / state.given.rate;
  $("translated-caption").textContent = `${seconds(took)} for ${seconds(given)} of sound: ${(given / took).toFixed(1)} times real time.`;
}

// ---- tokens: look at one frame, play from it ----

function goTo(frame) {
  if (!state.frames.length) return;
  state.current = Math.max(0, Math.min(state.frames.length - 1, frame));
  const at = state.current / state.model.frame_rate_hz;
  const text = `Frame ${state.current} at ${at.toFixed(2)} s: ${state.frames[state.current].join(" ")}`;
  $("frame").textContent = text;
  $("tokens").setAttribute("aria-valuenow", state.current);
  $("tokens").setAttribute("aria-valuetext", text);
  redraw();
}

function playFrom(frame) {
  const player = $("result").querySelector("audio");
  if (player.hidden) return;
  player.currentTime = frame / state.model.frame_rate_hz;
  player.play();
}

const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e9, End: 1e9 };

function onTokenKey(event) {
  if (event.key in STEPS) { goTo(Math.max(0, state.current) + STEPS[event.key]); event.preventDefault(); }
  if (event.key === "Enter" || event.key === " ") { playFrom(Math.max(0, state.current)); event.preventDefault(); }
}

function showLegend() {
  $("legend").replaceChildren(...Array.from({ length: state.model.num_codebooks }, (_, k) => {
    const item = document.createElement("li"), dot = document.createElement("i");
    dot.style.background = `hsl(${draw.codebookHue(k)} 55% 52%)`;
    item.append(dot, k === 0 ? "semantic" : `acoustic ${k}`);
    return item;
  }));
}

// ---- voices ----

async function showVoices(chosen) {
  const options = (await api.listVoices()).map((voice) => new Option(voice.name, voice.name));
  $("voice").replaceChildren(new Option("the model’s choice", "default"), ...options);
  if (chosen) $("voice").value = chosen;
}

async function keepVoice() {
  const name = $("voice-name").value.trim();
  await api.keepVoice(name, $("voice-text").value, $("voice-consent").value.trim(), sound.toWav(state.given));
  await showVoices(name);
  say(`The voice ${name} is kept, and chosen for the next text.`);
}

function openVoiceDialog() {
  const longest = state.model.limits.voice_s, length = state.given.samples.length / state.given.rate;
  if (length > longest) return showProblem(new Error(`A voice sample may last ${seconds(longest)} here; this recording lasts ${seconds(length)}. Record or cut a shorter one.`));
  $("voice-text").value = $("transcript-part").hidden ? "" : $("transcript").value;
  $("voice-consent").required = state.model.needs_consent;
  $("voice-dialog").showModal();
}

// ---- the start ----

async function start() {
  try {
    state.model = await api.askModel();
    const m = state.model;
    $("about").textContent = `${m.id} hears and says ${m.num_codebooks} tokens for each of ${m.frame_rate_hz} frames a second, and keeps ${m.context_s} s in mind.`;
    $("key-form").hidden = true;
    $("problem").hidden = true;
    showLegend();
    showTranslates();
    showLanguages();
    await showVoices();
    setWorking(null);
  } catch (error) { setWorking(new AbortController()); showProblem(error); }
}

$("record").onclick = toggleRecording;
$("file").onchange = (event) => { take(event.target.files[0]); event.target.value = ""; };
$("transcribe").onclick = () => work(transcribe);
$("timed").onclick = () => work(timed);
for (const happened of ["play", "seeked"]) $("given").querySelector("audio").addEventListener(happened, lightWord);
$("continue").onclick = () => work(goOn);
$("clone").onclick = openVoiceDialog;
$("translate-it").onclick = () => work(translate);
$("from").onchange = showLanguages;
$("say").onclick = () => work(speak);
$("stop").onclick = $("translate-stop").onclick = () => state.working?.abort();
$("variety").oninput = (event) => { $("variety-value").textContent = event.target.value; };
$("voice-cancel").onclick = () => $("voice-dialog").close();
$("voice-form").onsubmit = () => work(keepVoice);
$("key-form").onsubmit = (event) => { event.preventDefault(); api.setKey($("key").value); start(); };
$("tokens").onkeydown = onTokenKey;
$("tokens").onclick = (event) => { const frame = Math.floor(event.offsetX / event.target.clientWidth * state.frames.length); goTo(frame); playFrom(frame); };
$("result").querySelector("audio").ontimeupdate = (event) => { if (!event.target.paused) goTo(Math.floor(event.target.currentTime * state.model.frame_rate_hz)); };
for (const place of [$("drop"), $("translate")]) {
  for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    place.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.toggle("over", over); });
  }
  place.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
}
document.addEventListener("play", (event) => document.querySelectorAll("audio").forEach((p) => { if (p !== event.target) p.pause(); }), true);
let resizing = 0;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => { if (state.samples.length) redraw(); if (state.given) drawGiven(); }, 150);
});

function drawGiven() {
  draw.drawWave($("given").querySelector(".wave"), state.given.samples);
  draw.drawSpectrum($("given").querySelector(".spectrum"), state.given.samples, state.given.rate);
}

start();
