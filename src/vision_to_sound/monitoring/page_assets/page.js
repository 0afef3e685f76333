// The page as a whole: order, filter, keys, and what ties cards, plots and player together.

const SEEK_SHARE = 0.05; // of a clip, by an arrow key
const FIRST = { score: "down", name: "up", time: "up", duration: "down" }; // direction of a fresh order
const byId = (id) => document.getElementById(id);

const data = JSON.parse(byId("index").textContent);
const { clips } = data;
const dated = clips.length > 0 && clips.every((clip) => clip.recordedMs !== null);
clips.forEach((clip, i) => Object.assign(clip, { id: i, order: i + 1, shown: true }));
[...clips].sort((a, b) => b.score - a.score).forEach((clip, i) => Object.assign(clip, { rank: i + 1 }));

const timeOf = (clip) => (dated ? clip.recordedMs : clip.order);
const state = { sort: "score", direction: "down", text: "", verdict: "all", current: null };
const cards = clips.map((clip) => new Card(clip, data, setCurrent));
let inOrder = cards; // as sorted, hidden ones too
let plots = [];

const compare = {
  score: (a, b) => a.score - b.score,
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  time: (a, b) => timeOf(a) - timeOf(b),
  duration: (a, b) => a.durationS - b.durationS,
};

function sortCards() {
  const sign = state.direction === "up" ? 1 : -1;
  inOrder = [...cards].sort((a, b) => {
    return sign * compare[state.sort](a.clip, b.clip) || a.clip.rank - b.clip.rank;
  });
  byId("clips").append(...inOrder.map((card) => card.root));
  const button = byId("direction");
  button.classList.toggle("is-up", state.direction === "up");
  button.querySelector("span").textContent =
    state.direction === "up" ? "Ascending, turn around" : "Descending, turn around";
}

function filterCards() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  let n = 0;
  for (const { clip, root } of cards) {
    const name = clip.name.toLowerCase();
    const fits = state.verdict === "all" || (state.verdict === "anomalous") === clip.anomalous;
    clip.shown = fits && words.every((word) => name.includes(word));
    root.hidden = !clip.shown;
    n += clip.shown;
  }
  byId("nothing").hidden = n > 0 || clips.length === 0;
  for (const plot of plots) plot.draw();
  return n;
}

function setCurrent(card) {
  if (state.current === card) return;
  state.current?.root.classList.remove("is-current");
  state.current = card;
  card?.root.classList.add("is-current");
  for (const plot of plots) plot.mark(card?.clip);
}

// Go to a clip. Its neighbours are built first, and what is built around them two frames later moves nothing: not
// every browser keeps the view where it is when something above it grows.
function open(card) {
  const shown = inOrder.filter((other) => other.clip.shown), at = shown.indexOf(card);
  shown.slice(Math.max(at - 3, 0), at + 4).forEach((near) => near.build());
  setCurrent(card);
  card.root.focus({ preventScroll: true });
  const scroll = () => state.current === card && card.root.scrollIntoView({ block: "start" });
  scroll();
  requestAnimationFrame(() => requestAnimationFrame(scroll));
}

function step(by) {
  const shown = inOrder.filter((card) => card.clip.shown);
  if (!shown.length) return;
  const at = shown.indexOf(state.current);
  open(shown[at < 0 ? 0 : clamp(at + by, 0, shown.length - 1)]);
}

// The clip that keys act on: the one last touched, or the first.
function meant() {
  if (state.current?.clip.shown) return state.current;
  return inOrder.find((card) => card.clip.shown);
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  " ": () => withMeant((card) => togglePlaying(card.clip)),
  1: () => listenTo("original"),
  2: () => listenTo("anomaly"),
  3: () => listenTo("background"),
  ArrowLeft: () => withMeant((card) => nudge(card.clip, -1)),
  ArrowRight: () => withMeant((card) => nudge(card.clip, 1)),
  m: () => toggleMap(),
  "/": () => byId("filter").select(),
  "?": () => byId("help").showModal(),
};

function withMeant(act) {
  const card = meant();
  if (!card) return;
  setCurrent(card);
  act(card);
}

function listenTo(source) {
  chooseSource(source);
  say(SOURCE_NAMES[source]);
}

function nudge(clip, sign) {
  seek(clip, (player.clip === clip ? playerTime() : 0) + sign * SEEK_SHARE * clip.durationS);
}

let lastOpacity = 80;
function toggleMap() {
  const slider = byId("opacity");
  if (slider.value > 0) lastOpacity = slider.value;
  slider.value = slider.value > 0 ? 0 : lastOpacity;
  showOpacity();
}

function showOpacity() {
  const percent = byId("opacity").value;
  document.documentElement.style.setProperty("--map-opacity", percent / 100);
  byId("opacity").setAttribute("aria-valuetext", `${percent} percent`);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const { target, key } = event;
  if (key === "Escape" && target === byId("filter")) return target.blur();
  const types = target.matches("input:not([type=radio]):not([type=checkbox]):not([type=range]), select");
  const own = key === " " && target.matches("button, [type=checkbox], summary");
  const moves = key.startsWith("Arrow") && target.matches("input");
  if (types || own || moves || !Object.hasOwn(KEYS, key)) return;
  event.preventDefault();
  KEYS[key]();
});

function listen() {
  byId("sort").addEventListener("change", (event) => {
    state.sort = event.target.value;
    state.direction = FIRST[state.sort];
    sortCards();
    say(`Sorted by ${state.sort}`);
  });
  byId("direction").addEventListener("click", () => {
    state.direction = state.direction === "up" ? "down" : "up";
    sortCards();
  });
  byId("filter").addEventListener("input", (event) => {
    state.text = event.target.value;
    say(`${plural(filterCards(), "clip")} shown`);
  });
  byId("verdicts").addEventListener("change", (event) => {
    state.verdict = event.target.value;
    say(`${plural(filterCards(), "clip")} shown`);
  });
  byId("clear").addEventListener("click", () => {
    Object.assign(state, { text: "", verdict: "all" });
    byId("filter").value = "";
    byId("verdicts").querySelector("input").checked = true;
    filterCards();
  });
  byId("opacity").addEventListener("input", showOpacity);
  byId("loudness").addEventListener("change", (event) => setLoud(event.target.checked));
  byId("keys").addEventListener("click", () => byId("help").showModal());
}

function summarise() {
  const n = clips.filter((clip) => clip.anomalous).length;
  const verdict = `${n} of ${plural(clips.length, "clip")} ${n === 1 ? "is" : "are"} anomalous`;
  byId("summary").textContent = clips.length
    ? `${verdict}. Threshold ${asScore(data.threshold)}: ${data.thresholdLabel}.` : "This page holds no clips.";
  const counts = byId("verdicts").querySelectorAll("b");
  [clips.length, n, clips.length - n].forEach((count, i) => { counts[i].textContent = count; });
  byId("foot").textContent = `${plural(clips.length, "clip")} in one file of ${asBytes(data.bytes)}. ` +
    "It needs no network and sends nothing.";
}

function drawOverview() {
  const common = {
    threshold: data.threshold,
    onOpen: (clip) => open(cards[clip.id]),
    isShown: (clip) => clip.shown,
    currentClip: () => state.current?.clip,
  };
  const whole = (low, high, n) => ticks(low, high, n).filter(Number.isInteger).map((v) => [v, `${v}`]);
  const day = dated && commonDay(clips.map(timeOf)), zone = clips[0].zone;
  byId("by-time-title").textContent = !dated ? "Scores in order of recording"
    : `Scores over time${day ? `, ${day}` : ""}${zone ? `, ${zone}` : ""}`;
  byId("overview").hidden = false;
  const above = clips.filter((clip) => clip.score > data.threshold).length;
  byId("by-rank-text").textContent = `${above} of ${clips.length} scores lie above the threshold. ` +
    `The highest is ${asScore(Math.max(...clips.map((clip) => clip.score)))}.`;
  byId("by-time-text").textContent = "The same scores, from the earliest to the latest clip.";
  plots = [
    new Plot(byId("by-rank"), clips, { ...common, xOf: (clip) => clip.rank, xTicks: whole }),
    new Plot(byId("by-time"), clips, { ...common, xOf: timeOf, xTicks: dated ? dateTicks : whole }),
  ];
}

// The cursor moves with the sound, frame by frame.
let following = false;
function follow() {
  following = player.playing;
  if (!following) return;
  const card = cards[player.clip.id];
  if (card.built) card.showPosition(playerTime());
  requestAnimationFrame(follow);
}

player.onChange = () => {
  for (const card of cards) card.update();
  if (!following) follow();
};

summarise();
sortCards();
showOpacity();
listen();
lazily(cards);
if (clips.length) drawOverview();
else for (const id of ["tools", "clips"]) byId(id).hidden = true;
