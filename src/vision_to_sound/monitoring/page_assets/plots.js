// The overview: every clip as a point, by rank and over time, with the threshold as a line.

const SVG = document.getElementById("by-rank").namespaceURI;
const PAD = { left: 44, right: 12, top: 30, bottom: 26 };
const REACH = 24; // pixels from a point that still mean it

function svgChild(parent, name, attributes, text) {
  const child = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) child.setAttribute(key, value);
  if (text !== undefined) child.textContent = text;
  parent.append(child);
  return child;
}

// Triangles mean anomalous, circles normal: one path for all points of a kind.
const triangle = (x, y, r) => `M${x} ${y - r}L${x + r} ${y + 0.8 * r}H${x - r}z`;
const circle = (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;

class Plot {
  // xOf: clip -> number; xTicks: (low, high, n) -> [[value, text]].
  constructor(svg, clips, { xOf, xTicks, threshold, onOpen, isShown, currentClip }) {
    Object.assign(this, { svg, clips, xOf, xTicks, threshold, onOpen, isShown, currentClip });
    const scores = clips.map((clip) => clip.score).concat(threshold);
    const low = Math.min(...scores), high = Math.max(...scores);
    const margin = (high - low || Math.abs(high) || 1) * 0.06;
    this.yRange = [low - margin, high + margin];
    const xs = clips.map(xOf);
    this.xRange = [Math.min(...xs), Math.max(...xs)];
    if (this.xRange[0] === this.xRange[1]) this.xRange = [this.xRange[0] - 0.5, this.xRange[1] + 0.5];
    new ResizeObserver(() => this.draw()).observe(svg);
    svg.addEventListener("pointermove", (event) => this.point(event));
    svg.addEventListener("pointerleave", () => this.hint(null));
    svg.addEventListener("click", (event) => {
      const near = this.nearest(event);
      if (near) this.onOpen(near);
    });
  }

  place(clip) {
    const [x0, x1] = this.xRange;
    return [PAD.left + 6 + ((this.xOf(clip) - x0) / (x1 - x0)) * (this.width - 12), this.heightOf(clip.score)];
  }

  heightOf(score) {
    const [low, high] = this.yRange;
    return PAD.top + (1 - (score - low) / (high - low)) * this.height;
  }

  draw() {
    const box = this.svg.getBoundingClientRect();
    if (!box.width) return;
    this.width = box.width - PAD.left - PAD.right;
    this.height = box.height - PAD.top - PAD.bottom;
    this.svg.replaceChildren();
    const bottom = PAD.top + this.height, right = PAD.left + this.width;
    for (const value of ticks(...this.yRange, 4)) {
      const y = this.heightOf(value);
      svgChild(this.svg, "path", { class: "grid", d: `M${PAD.left} ${y}H${right}` });
      svgChild(this.svg, "text", { x: PAD.left - 8, y: y + 4, "text-anchor": "end" }, asScore(value));
    }
    let lastX = -Infinity;
    for (const [value, text] of this.xTicks(...this.xRange, clamp(Math.floor(this.width / 80), 3, 7))) {
      const [x0, x1] = this.xRange;
      const x = PAD.left + 6 + ((value - x0) / (x1 - x0)) * (this.width - 12);
      const half = text.length * 3.2;
      if (x - half < lastX + 8) continue;
      const anchor = x + half > right + PAD.right ? "end" : "middle";
      svgChild(this.svg, "text", { x, y: bottom + 18, "text-anchor": anchor }, text);
      lastX = x + half;
    }
    this.drawPoints();
    const y = this.heightOf(this.threshold);
    svgChild(this.svg, "path", { class: "threshold", d: `M${PAD.left} ${y}H${right}` });
    const name = svgChild(this.svg, "text", { class: "threshold-name", x: right, y: 12, "text-anchor": "end" },
      `threshold ${asScore(this.threshold)}`);
    const nameLeft = right - name.getComputedTextLength() - 8;
    svgChild(this.svg, "path", { class: "threshold", d: `M${nameLeft - 24} 8h24` });
    this.ring = svgChild(this.svg, "circle", { class: "ring", r: 8 });
    this.mark(this.currentClip());
  }

  drawPoints() {
    const r = this.clips.length > 300 ? 2.2 : this.clips.length > 80 ? 3 : 4;
    const paths = { "normal faded": "", "anomalous faded": "", normal: "", anomalous: "" };
    for (const clip of this.clips) {
      const [x, y] = this.place(clip).map((v) => Number(v.toFixed(1)));
      const kind = (clip.anomalous ? "anomalous" : "normal") + (this.isShown(clip) ? "" : " faded");
      paths[kind] += clip.anomalous ? triangle(x, y, r * 1.15) : circle(x, y, r);
    }
    for (const [kind, d] of Object.entries(paths)) svgChild(this.svg, "path", { class: `points ${kind}`, d });
  }

  mark(clip) {
    if (!this.ring) return;
    this.ring.style.display = clip ? "" : "none";
    if (!clip) return;
    const [x, y] = this.place(clip);
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
  }

  nearest(event) {
    const box = this.svg.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = null, least = REACH;
    for (const clip of this.clips) {
      if (!this.isShown(clip)) continue;
      const [x, y] = this.place(clip);
      const distance = Math.hypot(x - px, y - py);
      if (distance < least) [best, least] = [clip, distance];
    }
    return best;
  }

  point(event) {
    const near = this.nearest(event);
    this.svg.classList.toggle("on-point", Boolean(near));
    this.hint(near);
    this.mark(near || this.currentClip());
  }

  hint(clip) {
    const hint = document.getElementById("hint");
    hint.hidden = !clip;
    if (!clip) return this.mark(this.currentClip());
    hint.textContent = `${clip.name}   ${asScore(clip.score)}`;
    const [x, y] = this.place(clip);
    const box = this.svg.getBoundingClientRect(), around = hint.parentElement.getBoundingClientRect();
    const left = box.left - around.left + x - hint.offsetWidth / 2;
    hint.style.left = `${clamp(left, 0, Math.max(around.width - hint.offsetWidth, 0))}px`;
    hint.style.top = `${box.top - around.top + y - hint.offsetHeight - 14}px`;
  }
}
