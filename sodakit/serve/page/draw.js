// Pictures of sound and of tokens.

export function codebookHue(codebook) {
  // Steps of the golden angle: neighbours differ most.
  return (178 + codebook * 137.5) % 360;
}

function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const paint = canvas.getContext("2d");
  paint.clearRect(0, 0, width, height);
  return { paint, width, height };
}

export function drawWave(canvas, samples) {
  const { paint, width, height } = prepare(canvas);
  paint.fillStyle = getComputedStyle(canvas).color;
  let loudest = 0.05;
  for (const v of samples) loudest = Math.max(loudest, Math.abs(v));
  for (let x = 0; x < width; x++) {
    let low = 0, high = 0;
    for (let i = Math.floor(x * samples.length / width); i < (x + 1) * samples.length / width && i < samples.length; i++) {
      low = Math.min(low, samples[i]); high = Math.max(high, samples[i]);
    }
    const top = height / 2 * (1 - 0.94 * high / loudest), bottom = height / 2 * (1 - 0.94 * low / loudest);
    paint.fillRect(x, top, 1, Math.max(1, bottom - top));
  }
}

const SIZE = 512;
const WINDOW = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos(2 * Math.PI * i / SIZE));

// Decibels of the bins of one window: an in-place radix-2 FFT.
function levels(samples, start, re, im) {
  for (let i = 0, j = 0; i < SIZE; i++) {
    re[j] = (samples[start + i] || 0) * WINDOW[i]; im[j] = 0;
    let bit = SIZE >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
  }
  for (let half = 1; half < SIZE; half <<= 1) {
    for (let k = 0; k < half; k++) {
      const c = Math.cos(Math.PI * k / half), s = -Math.sin(Math.PI * k / half);
      for (let i = k; i < SIZE; i += 2 * half) {
        const a = re[i + half] * c - im[i + half] * s, b = re[i + half] * s + im[i + half] * c;
        re[i + half] = re[i] - a; im[i + half] = im[i] - b; re[i] += a; im[i] += b;
      }
    }
  }
  return (bin) => 10 * Math.log10(re[bin] ** 2 + im[bin] ** 2 + 1e-9);
}

// Dark violet to pale yellow, near matplotlib's magma.
const STOPS = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
const PALETTE = Array.from({ length: 256 }, (_, n) => {
  const place = n / 255 * (STOPS.length - 1), low = Math.min(STOPS.length - 2, Math.floor(place)), part = place - low;
  return STOPS[low].map((v, c) => v + part * (STOPS[low + 1][c] - v));
});

export function drawSpectrum(canvas, samples, rate) {
  const { paint, width, height } = prepare(canvas);
  const image = paint.createImageData(width, height);
  const re = new Float32Array(SIZE), im = new Float32Array(SIZE);
  const top = Math.min(8000, rate / 2) / (rate / SIZE);
  for (let x = 0; x < width; x++) {
    const level = levels(samples, Math.floor(x * Math.max(0, samples.length - SIZE) / width), re, im);
    let bin = -1, color = PALETTE[0];
    for (let y = 0; y < height; y++) {
      // More room for low frequencies, where speech is.
      const wanted = Math.floor(top * ((height - 1 - y) / height) ** 1.6);
      if (wanted !== bin) { bin = wanted; color = PALETTE[Math.max(0, Math.min(255, Math.round((level(bin) + 40) * 3.4)))]; }
      const at = 4 * (y * width + x);
      image.data[at] = color[0]; image.data[at + 1] = color[1]; image.data[at + 2] = color[2]; image.data[at + 3] = 255;
    }
  }
  paint.putImageData(image, 0, 0);
}

// A row for each codebook, a column for each frame: hue says which codebook, lightness which code.
export function drawTokens(canvas, frames, codebookSize, current) {
  const { paint, width, height } = prepare(canvas);
  if (!frames.length) return;
  const rows = frames[0].length, cell = width / frames.length, row = height / rows;
  frames.forEach((codes, f) => codes.forEach((code, k) => {
    paint.fillStyle = `hsl(${codebookHue(k)} 55% ${25 + 55 * code / codebookSize}%)`;
    paint.fillRect(f * cell, k * row, Math.ceil(cell) - (cell > 6 ? 1 : 0), row - 1);
  }));
  if (current >= 0) {
    paint.strokeStyle = getComputedStyle(document.body).color;
    paint.lineWidth = 2 * (window.devicePixelRatio || 1);
    paint.strokeRect(current * cell, 1, Math.max(cell, 3), height - 2);
  }
}
