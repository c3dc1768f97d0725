// Sound in the browser: decode, record, play while it comes, write WAV. Samples are Float32Array, mono.

let context = null;

export function audioContext() {
  context ??= new AudioContext();
  return context;
}

export async function decode(file) {
  let buffer;
  try {
    buffer = await audioContext().decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name || "This file"} cannot be read as sound. Try wav, flac, mp3, ogg or m4a.`);
  }
  const mono = new Float32Array(buffer.length);
  for (let c = 0; c < buffer.numberOfChannels; c++) buffer.getChannelData(c).forEach((v, i) => { mono[i] += v / buffer.numberOfChannels; });
  return { samples: mono, rate: buffer.sampleRate };
}

export async function startRecording() {
  if (!navigator.mediaDevices) throw new Error("The browser lets pages record only at https:// or localhost. Choose a file instead.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } });
  } catch {
    throw new Error("The microphone was not allowed, or there is none. Choose a file instead.");
  }
  const ctx = audioContext();
  await ctx.resume();
  await ctx.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
  const source = ctx.createMediaStreamSource(stream);
  const node = new AudioWorkletNode(ctx, "recorder", { numberOfOutputs: 0 });
  const parts = [];
  node.port.onmessage = (message) => parts.push(message.data);
  source.connect(node);
  return function stop() {
    source.disconnect();
    stream.getTracks().forEach((track) => track.stop());
    return { samples: join(parts), rate: ctx.sampleRate };
  };
}

export function join(parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
}

export function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (v) => v / 32767);
}

// `origin`, where there is one, is a comment (LIST/INFO) after the samples.
export function toWav({ samples, rate, origin = "" }) {
  const comment = origin ? origin.length + 2 - (origin.length % 2) : 0, end = 44 + 2 * samples.length;
  const view = new DataView(new ArrayBuffer(end + (origin ? 20 + comment : 0)));
  const letters = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  letters(0, "RIFF"); view.setUint32(4, view.byteLength - 8, true); letters(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  letters(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((v, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, v)) * 32767, true));
  if (origin) {
    letters(end, "LIST"); view.setUint32(end + 4, 12 + comment, true); letters(end + 8, "INFOICMT");
    view.setUint32(end + 16, comment, true); letters(end + 20, origin);
  }
  return new Blob([view], { type: "audio/wav" });
}

// Plays chunks one after another, from the first; a chunk that comes late is played when it comes.
export class Player {
  constructor(rate) {
    this.rate = rate;
    this.context = audioContext();
    this.context.resume();
    this.next = 0;
    this.sources = new Set();
  }

  push(samples) {
    if (!samples.length) return;
    const buffer = this.context.createBuffer(1, samples.length, this.rate);
    buffer.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    this.next = Math.max(this.next, this.context.currentTime + 0.08);
    source.start(this.next);
    this.next += buffer.duration;
    this.sources.add(source);
    source.onended = () => this.sources.delete(source);
  }

  stop() {
    this.sources.forEach((source) => source.stop());
  }
}
