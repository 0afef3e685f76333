// The clips as cards. A card's inside, with its pictures, exists only near the view.

const NEAR = "700px 0px";
const SOURCE_NAMES = { original: "Original", anomaly: "Anomaly", background: "Background" };

const fromTemplate = (id) => document.getElementById(id).content.cloneNode(true);

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const asSpan = ([startS, endS]) => `${startS.toFixed(2)}–${endS.toFixed(2)} s`;

function regionText(region) {
  return `${asSpan(region)}, ${asBand(region[2], region[3])}, score ${asScore(region[4])}`;
}

// One card: `clip` is the page's entry of it, `data` the page's index.
class Card {
  constructor(clip, data, onTouch) {
    Object.assign(this, { clip, data, onTouch, built: false });
    this.root = fromTemplate("clip").firstElementChild;
    this.root.id = `clip-${clip.id}`;
    this.root.classList.add(clip.anomalous ? "is-anomalous" : "is-normal");
    const find = (selector) => this.root.querySelector(selector);
    this.body = find(".body");
    find("h2").textContent = clip.name;
    find("h2").id = `name-${clip.id}`;
    this.root.setAttribute("aria-labelledby", `name-${clip.id}`);
    find(".rank").textContent = clip.rank;
    find(".verdict span").textContent = clip.anomalous ? "Anomalous" : "Normal";
    const numbers = [["score", asScore(clip.score)]];
    if (clip.p !== null) numbers.push(["", asP(clip.p)]);
    numbers.push(["", `${clip.durationS.toFixed(2)} s`]);
    if (clip.recordedMs !== null) numbers.push(["", asDate(clip.recordedMs, clip.zone)]);
    find(".numbers").append(...numbers.map(([name, value]) => {
      return element("span", {}, name && `${name} `, name ? element("b", {}, value) : value);
    }));
    if (clip.notes.length) {
      find(".notes").hidden = false;
      find(".notes").textContent = `Note: ${clip.notes.join("; ")}`;
    }
    this.root.addEventListener("pointerdown", () => onTouch(this));
    this.root.addEventListener("focusin", () => onTouch(this));
  }

  build() {
    if (this.built) return;
    this.built = true;
    this.root.classList.add("is-built");
    const { clip } = this;
    this.body.append(fromTemplate("clip-body"));
    this.body.style.minHeight = "";
    this.cells = this.body.querySelector(".cells");
    this.cursor = this.body.querySelector(".cursor");
    this.clock = this.body.querySelector(".clock");
    this.playButton = this.body.querySelector(".play");
    this.drawPictures();
    this.drawAxes();
    this.drawRegions();
    this.drawPlayer();
    this.cursor.setAttribute("aria-label", `Position in ${clip.name}`);
    this.cursor.setAttribute("aria-valuemax", clip.durationS.toFixed(2));
    this.cells.addEventListener("click", (event) => {
      if (event.target.closest(".region")) return;
      const box = this.cells.getBoundingClientRect();
      seek(clip, ((event.clientX - box.left) / box.width) * clip.durationS);
    });
    this.update();
  }

  clear() {
    // A card with the focus inside stays: taking it away would throw the keyboard back to the top.
    if (!this.built || this.body.contains(document.activeElement)) return;
    this.body.style.minHeight = `${this.body.offsetHeight}px`;
    this.body.replaceChildren();
    this.root.classList.remove("is-built");
    this.built = false;
  }

  // Frames are centred on multiples of the hop: the picture begins half a hop before the clip.
  drawPictures() {
    const { clip, data } = this, hop = data.hopS / clip.durationS;
    for (const [kind, type] of [["spectrogram", "webp"], ["map", "png"]]) {
      const image = this.body.querySelector(`.${kind}`);
      image.src = `data:image/${type};base64,${held(kind, clip.id)}`;
      image.style.left = `${-50 * hop}%`;
      image.style.width = `${100 * hop * clip.nFrames}%`;
    }
    const { centresHz } = data, [low, high] = clip.rangeDb.map((db) => asScore(db));
    this.body.querySelector(".spectrogram").alt =
      `Spectrogram of ${clip.name}: ${clip.durationS.toFixed(2)} s, ` +
      `${asBand(centresHz[0], centresHz[centresHz.length - 1])}, levels from ${low} to ${high} dB`;
    this.body.querySelector(".map").alt = clip.regions.length
      ? `Anomaly map, ${plural(clip.regions.length, "region")} marked` : "Anomaly map, no region marked";
    this.body.querySelector(".spectrogram").title = `${low} to ${high} dB`;
  }

  drawAxes() {
    const { clip, data } = this;
    const frequencies = this.body.querySelector(".frequencies"), times = this.body.querySelector(".times");
    for (const { hz, height } of frequencyTicks(data.centresHz, 16 / this.cells.offsetHeight)) {
      const tick = element("span", {}, asHz(hz));
      tick.style.top = `${100 * height}%`;
      frequencies.append(tick);
    }
    const all = ticks(0, clip.durationS, window.innerWidth < 600 ? 4 : 8);
    const decimals = Math.max(...all.map((seconds) => (`${seconds}`.split(".")[1] || "").length));
    for (const seconds of all) {
      const share = seconds / clip.durationS, text = seconds.toFixed(decimals);
      const tick = element("span", {}, seconds === all[all.length - 1] ? `${text} s` : text);
      if (share === 0) tick.className = "first";
      else if (share > 0.97) tick.className = "last";
      else tick.style.left = `${100 * share}%`;
      times.append(tick);
    }
  }

  drawRegions() {
    const { clip, data } = this;
    const boxes = this.body.querySelector(".regions"), list = this.body.querySelector(".spans");
    list.hidden = !clip.regions.length;
    clip.regions.forEach((region, i) => {
      const [startS, endS, lowHz, highHz] = region;
      const box = element("div", { class: "region", title: regionText(region) }, element("b", {}, i + 1));
      const top = heightOf(highHz, data.centresHz), bottom = heightOf(lowHz, data.centresHz);
      box.style.left = `${(100 * startS) / clip.durationS}%`;
      box.style.width = `${(100 * (Math.min(endS, clip.durationS) - startS)) / clip.durationS}%`;
      box.style.top = `${100 * top}%`;
      box.style.height = `${100 * Math.max(bottom - top, 0.02)}%`;
      const button = element("button", { type: "button", class: "span" }, element("b", {}, i + 1),
        element("span", {}, asSpan(region)), element("span", {}, asBand(lowHz, highHz)),
        element("span", {}, `score ${asScore(region[4])}`));
      button.setAttribute("aria-label", `Play region ${i + 1}: ${regionText(region)}`);
      for (const [one, other] of [[box, button], [button, box]]) {
        one.addEventListener("click", () => play(clip, startS, [startS, Math.min(endS, clip.durationS)]));
        one.addEventListener("pointerenter", () => other.classList.add("meant"));
        one.addEventListener("pointerleave", () => other.classList.remove("meant"));
      }
      boxes.append(box);
      list.append(element("li", {}, button));
    });
  }

  drawPlayer() {
    const { clip } = this, sources = this.body.querySelector(".sources");
    this.playButton.disabled = !clip.sources.length;
    this.playButton.addEventListener("click", () => togglePlaying(clip));
    if (!clip.sources.length) {
      sources.replaceWith(element("p", { class: "quietly" }, "No sound of this clip in this page"));
      return;
    }
    Object.entries(SOURCE_NAMES).forEach(([source, name], i) => {
      const radio = element("input", { type: "radio", name: `source-${clip.id}`, value: source });
      radio.disabled = !clip.sources.includes(source);
      radio.setAttribute("aria-keyshortcuts", i + 1);
      radio.addEventListener("change", () => chooseSource(source));
      sources.append(element("label", {}, radio, element("span", {}, name)));
    });
  }

  // Bring the card in line with the player.
  update() {
    if (!this.built) return;
    const { clip } = this, mine = player.clip === clip, playing = mine && player.playing;
    this.root.classList.toggle("is-playing", playing);
    this.playButton.setAttribute("aria-label", `${playing ? "Stop" : "Play"} ${clip.name}`);
    const radio = this.body.querySelector(`input[value="${playableSource(clip)}"]`);
    if (radio) radio.checked = true;
    this.body.querySelectorAll(".span").forEach((button, i) => {
      button.classList.toggle("is-playing", playing && player.span?.[0] === clip.regions[i][0]
        && player.span[1] === Math.min(clip.regions[i][1], clip.durationS));
    });
    this.showPosition(mine ? playerTime() : 0);
  }

  showPosition(seconds) {
    const { durationS } = this.clip;
    this.cursor.style.left = `${(100 * seconds) / durationS}%`;
    this.cursor.classList.toggle("idle", player.clip !== this.clip);
    this.clock.textContent = `${seconds.toFixed(2)} / ${durationS.toFixed(2)} s`;
    this.cursor.setAttribute("aria-valuenow", seconds.toFixed(2));
    this.cursor.setAttribute("aria-valuetext", `${seconds.toFixed(2)} of ${durationS.toFixed(2)} seconds`);
  }
}

// Builds cards that come near the view and clears those that leave it.
function lazily(cards) {
  const byRoot = new Map(cards.map((card) => [card.root, card]));
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const card = byRoot.get(target);
      if (isIntersecting) card.build();
      else card.clear();
    }
  }, { rootMargin: NEAR });
  for (const card of cards) observer.observe(card.root);
}
