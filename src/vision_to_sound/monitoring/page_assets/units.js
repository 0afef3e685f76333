// Numbers as text, ticks of axes, and where a time or a frequency lies in a picture.

const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const DATE_STEPS = [1e3, 5e3, 15e3, 30e3, MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR,
  6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 365 * DAY];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function asScore(value) {
  return Number(value.toPrecision(4)).toString().replace("-", "−");
}

function asP(value) {
  return value < 0.001 ? "p < 0.001" : `p = ${Number(value.toPrecision(2))}`;
}

function asHz(hz) {
  return hz >= 1000 ? `${Number((hz / 1000).toPrecision(2))} kHz` : `${Math.round(hz)} Hz`;
}

// "210–440 Hz", "1.1–1.6 kHz", "800 Hz – 1.2 kHz"
function asBand(lowHz, highHz) {
  const [low, high] = [asHz(lowHz), asHz(highHz)];
  if (low === high) return low;
  const [[from, unit], [, same]] = [low.split(" "), high.split(" ")];
  return unit === same ? `${from}–${high}` : `${low} – ${high}`;
}

function asDate(ms, zone) {
  const text = new Date(ms).toISOString().slice(0, 19).replace("T", " ");
  return zone ? `${text} ${zone}` : text;
}

// The day that all of these times lie in, if it is one.
function commonDay(times) {
  const days = new Set(times.map((ms) => new Date(ms).toISOString().slice(0, 10)));
  return days.size === 1 ? [...days][0] : null;
}

function asBytes(n) {
  return n < 1e6 ? `${Math.ceil(n / 1e3)} kB` : `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB`;
}

const plural = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

// Round values between low and high, about n of them.
function ticks(low, high, n) {
  const rough = (high - low) / n, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.7);
  const first = Math.ceil(low / step - 1e-9);
  const values = [];
  for (let i = first; i * step <= high + step * 1e-9; i++) values.push(Number((i * step).toPrecision(12)));
  return values;
}

// [ms, text] between two times; at midnight the date instead of the time.
function dateTicks(low, high, n) {
  const step = DATE_STEPS.find((s) => (high - low) / s <= n) || Math.ceil((high - low) / n / DAY) * DAY;
  const values = [];
  for (let t = Math.ceil(low / step) * step; t <= high; t += step) {
    const text = new Date(t).toISOString();
    const showsDate = step >= DAY || t % DAY === 0;
    values.push([t, showsDate ? text.slice(0, 10) : text.slice(11, step < MINUTE ? 19 : 16)]);
  }
  return values;
}

// Share of a picture's height above a frequency; bands are equally high, the highest on top.
function heightOf(hz, centresHz) {
  const last = centresHz.length - 1;
  let i = 0;
  while (i < last - 1 && centresHz[i + 1] < hz) i++;
  const band = i + (hz - centresHz[i]) / (centresHz[i + 1] - centresHz[i]);
  return clamp(1 - (band + 0.5) / (last + 1), 0, 1);
}

// Octaves that the bands reach, from the top, at least a share of the picture's height apart.
function frequencyTicks(centresHz, apart) {
  const chosen = [];
  for (let hz = 64000; hz > 30; hz /= 2) {
    if (hz < centresHz[0] || hz > centresHz[centresHz.length - 1]) continue;
    const height = heightOf(hz, centresHz);
    if (height > 0.96 || height < 0.03) continue;
    if (chosen.every((tick) => Math.abs(tick.height - height) > apart)) chosen.push({ hz, height });
  }
  return chosen;
}

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// What the page holds of a clip: base64 of a picture or a sound.
const held = (kind, id) => document.getElementById(`${kind}-${id}`).textContent;

function say(text) {
  document.getElementById("status").textContent = text;
}
