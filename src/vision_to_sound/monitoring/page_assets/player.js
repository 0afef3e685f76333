// One player for the whole page. Sounds of the current clip are decoded once and started to the sample, so that
// switching between sources keeps the position and a region ends where it ends.

const FADE_S = 0.008; // no click where a sound is cut
const LOUD_PEAK = 0.7, MOST_GAIN = 1000; // "equally loud": peaks at -3 dB, at most 60 dB up

const player = {
  context: null,
  clip: null,
  source: "original",
  loud: false,
  playing: false,
  position: 0, // seconds into the clip, when not playing
  from: 0, // where the sound that plays was started
  span: null, // [start, end] of the region that plays; null: all of the clip
  startedAt: 0, // on the context's clock
  voice: null, // {node, gain}
  buffers: new Map(), // source -> promise of an AudioBuffer, of the current clip alone
  request: 0, // the latest wish: an earlier one that is still decoding comes too late
  onChange: () => {},
};

function playerTime() {
  if (!player.playing) return player.position;
  const heard = player.context.currentTime - (player.context.outputLatency || 0) - player.startedAt;
  return clamp(player.from + heard, player.from, player.span ? player.span[1] : player.clip.durationS);
}

function playableSource(clip) {
  return clip.sources.includes(player.source) ? player.source : clip.sources[0];
}

function decoded(clip, source) {
  if (!player.buffers.has(source)) {
    const bytes = bytesOf(held(source, clip.id));
    player.buffers.set(source, player.context.decodeAudioData(bytes.buffer));
  }
  return player.buffers.get(source);
}

function selectClip(clip) {
  if (player.clip === clip) return;
  stopPlaying();
  player.buffers.clear();
  Object.assign(player, { clip, position: 0, span: null });
}

// Play from a time of the clip (null: from where the sound is once the new one is decoded), to the clip's end or
// to the end of a region.
async function play(clip, from, span = null) {
  selectClip(clip);
  const source = playableSource(clip);
  if (!source) return say("This page holds no sound of this clip.");
  const request = ++player.request;
  if (!player.context) {
    player.context = new AudioContext();
    // Without this iPhones keep silent when their ring switch is off.
    if (navigator.audioSession) navigator.audioSession.type = "playback";
  }
  try {
    await player.context.resume();
    const buffer = await decoded(clip, source);
    if (request !== player.request || (from === null && !player.playing)) return;
    start(buffer, from ?? playerTime(), span);
  } catch (error) {
    say(`This browser cannot play the ${source} of ${clip.name}: ${error.message}`);
    document.getElementById("status").classList.remove("unseen");
  }
}

function start(buffer, from, span) {
  fadeOut();
  const { context } = player, now = context.currentTime;
  const length = Math.min(span ? span[1] : Infinity, buffer.duration) - from;
  if (length <= 0) return;
  const node = new AudioBufferSourceNode(context, { buffer });
  const gain = new GainNode(context, { gain: 0 });
  const level = player.loud ? equalGain(buffer) : 1, fade = Math.min(FADE_S, length / 2);
  gain.gain.setValueAtTime(0, now);
  gain.gain.linearRampToValueAtTime(level, now + fade);
  gain.gain.setValueAtTime(level, now + length - fade);
  gain.gain.linearRampToValueAtTime(0, now + length);
  node.connect(gain).connect(context.destination);
  const voice = { node, gain };
  node.onended = () => {
    if (player.voice !== voice) return;
    const position = player.span ? player.span[0] : 0;
    Object.assign(player, { voice: null, playing: false, position, span: null });
    player.onChange();
  };
  node.start(now, from, length);
  Object.assign(player, { voice, playing: true, from, span, startedAt: now });
  player.onChange();
}

function fadeOut() {
  if (!player.voice) return;
  const { node, gain } = player.voice, now = player.context.currentTime;
  gain.gain.cancelScheduledValues(now);
  gain.gain.setTargetAtTime(0, now, FADE_S / 3);
  node.stop(now + 2 * FADE_S);
  player.voice = null;
}

function stopPlaying() {
  player.request++;
  if (!player.playing) return;
  const position = playerTime();
  fadeOut();
  Object.assign(player, { playing: false, position, span: null });
  player.onChange();
}

function togglePlaying(clip) {
  if (player.playing && player.clip === clip) stopPlaying();
  else play(clip, player.clip === clip ? player.position : 0);
}

function seek(clip, seconds) {
  selectClip(clip);
  const to = clamp(seconds, 0, clip.durationS - 0.01);
  if (player.playing) return play(clip, to);
  player.position = to;
  player.onChange();
}

function chooseSource(source) {
  player.source = source;
  resumeHere();
}

function setLoud(loud) {
  player.loud = loud;
  resumeHere();
}

// What was changed is heard at once, from the same position on and to the same end.
function resumeHere() {
  if (player.playing) play(player.clip, null, player.span);
  else player.onChange();
}

function equalGain(buffer) {
  const samples = buffer.getChannelData(0);
  let peak = 0;
  for (let i = 0; i < samples.length; i++) peak = Math.max(peak, Math.abs(samples[i]));
  return Math.min(LOUD_PEAK / Math.max(peak, 1e-9), MOST_GAIN);
}
