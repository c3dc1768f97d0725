// The server, as functions. Errors arrive as Error objects whose message a person can read.

let key = sessionStorage.getItem("key") || "";

export function setKey(value) {
  key = value;
  sessionStorage.setItem("key", value);
}

async function call(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const problem = new Error(body?.error?.message || `The server answered ${response.status}.`);
  problem.status = response.status;
  throw problem;
}

export async function askModel() {
  return (await (await call("v1/models")).json()).data[0];
}

export async function listVoices() {
  return (await (await call("v1/audio/voices")).json()).data;
}

export async function keepVoice(name, text, consent, wav) {
  const form = new FormData();
  form.append("name", name);
  form.append("text", text);
  form.append("consent", consent);
  form.append("file", wav, "voice.wav");
  return (await call("v1/audio/voices", { method: "POST", body: form })).json();
}

export async function* transcribe(model, wav, signal) {
  const form = new FormData();
  form.append("model", model);
  form.append("stream", "true");
  form.append("file", wav, "recording.wav");
  yield* events(await call("v1/audio/transcriptions", { method: "POST", body: form, signal }));
}

export async function words(model, wav, signal) {
  const form = new FormData();
  form.append("model", model);
  form.append("response_format", "verbose_json");
  form.append("timestamp_granularities[]", "word");
  form.append("file", wav, "recording.wav");
  return (await call("v1/audio/transcriptions", { method: "POST", body: form, signal })).json();
}

export async function* speak(wanted, signal) {
  const body = JSON.stringify({ ...wanted, response_format: "pcm", stream_format: "sse", codes: true });
  yield* events(await call("v1/audio/speech", { method: "POST", body, signal, headers: { "Content-Type": "application/json" } }));
}

export async function* goOn(wav, fields, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ ...fields, response_format: "pcm", stream_format: "sse", codes: true })) form.append(name, value);
  form.append("file", wav, "recording.wav");
  yield* events(await call("v1/audio/continuations", { method: "POST", body: form, signal }));
}

export async function* translate(model, speaks, wav, fields, signal) {
  const form = new FormData();
  const wanted = speaks ? { response_format: "pcm", stream_format: "sse", codes: true } : { stream: true };
  for (const [name, value] of Object.entries({ ...fields, ...wanted, model })) form.append(name, value);
  form.append("file", wav, "recording.wav");
  const path = speaks ? "v1/audio/speech_translations" : "v1/audio/translations";
  yield* events(await call(path, { method: "POST", body: form, signal }));
}

// Server-sent events of a POST, which EventSource cannot make.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const event = JSON.parse(part.replace(/^data: /, ""));
      if (event.type === "error") throw new Error(event.error.message);
      yield event;
    }
  }
}
