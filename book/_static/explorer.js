/* The explorer: any measured curve of two arms, drawn from rows that the book's build recorded.
   explorer/rows.js (study/explorer.py) sets `explorer.tasks`, and explorer/RUN.js, which is loaded
   when a point of that run is chosen, `explorer.episodes[RUN]`. Both are scripts, since a page that
   is opened as a file may fetch nothing. */
"use strict";

const explorer = { tasks: null, episodes: {} };

const FRAME = { width: 640, height: 360, left: 56, right: 14, top: 14, bottom: 46 };
const REACH = 11; // pixels around a point that are the point's
const ACROSS = {
  compute: "training compute, init included (FLOPs)",
  step: "optimizer step",
  id_unseen: "ID, unseen (%)",
  kl_to_init: "KL to the init (nats an answer)",
};

/** An element of SVG with attributes and a text, which is never read as markup. */
function drawn(tag, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(text);
  return made;
}

/** Round numbers that cover a range. */
function ticks(low, high) {
  const rough = (high - low || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) found.push(tick);
  return found;
}

/** 0.25, 120 or 3e13. */
function short(number) {
  const rounded = Number(number.toPrecision(3));
  return Math.abs(rounded) < 1e5 ? `${rounded}` : rounded.toExponential().replace("e+", "e");
}

/** An element of HTML with a text, which is never read as markup, or with other elements. */
function made(tag, look, ...inside) {
  const element = document.createElement(tag);
  if (look) element.className = look;
  element.append(...inside);
  return element;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

class Explorer {
  constructor(form) {
    this.form = form;
    this.fields = form.elements;
    this.options("task", Object.fromEntries(Object.keys(explorer.tasks).map((name) => [name, name])));
    this.options("across", ACROSS);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", ({ target }) => this.changed(target.name));
    this.picture = document.getElementById("explorer-picture");
    this.picture.addEventListener("click", (event) => this.choose(this.nearest(event)));
    this.picture.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("resize", () => this.draw());
    this.changed("task");
  }

  get task() {
    return explorer.tasks[this.fields.task.value];
  }

  /** Fill a menu from {value: label}; keep the choice where it is still there. */
  options(name, labels, first) {
    const menu = this.fields[name];
    const kept = [menu.value, first].find((value) => value in labels);
    menu.replaceChildren(...Object.entries(labels).map(([value, label]) => new Option(label, value)));
    if (kept !== undefined) menu.value = kept;
  }

  changed(name) {
    if (name === "task") {
      const arms = Object.fromEntries(Object.keys(this.task.arms).map((label) => [label, label]));
      this.options("split", this.task.splits, "rule_ood");
      this.options("metric", this.task.metrics, "success");
      this.options("one", arms, "RL");
      this.options("other", arms, "SFT");
    }
    if (["task", "one", "other"].includes(name)) this.offerSeeds();
    this.draw();
  }

  /** A box to tick for every seed that an arm has. */
  offerSeeds() {
    const arms = [this.fields.one.value, this.fields.other.value].map((arm) => this.task.arms[arm]);
    const seeds = new Set(arms.flatMap((arm) => Object.values(arm).flat().map(([seed]) => seed)));
    document.getElementById("explorer-seeds").replaceChildren(
      ...[...seeds].sort((a, b) => a - b).map((seed) => {
        const box = document.createElement("input");
        Object.assign(box, { type: "checkbox", name: "seed", value: seed, checked: true });
        const label = document.createElement("label");
        label.append(box, ` seed ${seed}`);
        return label;
      }),
    );
  }

  /** [{seed, step, x, y}] of an arm, for the seeds that are ticked. */
  points(arm) {
    const { split, metric, across } = this.fields;
    const boxes = [...this.form.querySelectorAll("[name=seed]:checked")];
    const seeds = new Set(boxes.map(({ value }) => Number(value)));
    const measured = this.task.arms[arm];
    const other = { id_unseen: this.task.headline, kl_to_init: "id_unseen kl_to_init" }[across.value];
    const found = new Map((measured[other] ?? []).map(([seed, step, , y]) => [`${seed} ${step}`, y]));
    return (measured[`${split.value} ${metric.value}`] ?? [])
      .filter(([seed]) => seeds.has(seed))
      .map(([seed, step, compute, y]) => {
        const x = other ? found.get(`${seed} ${step}`) : { step, compute }[across.value];
        return { seed, step, x, y };
      })
      .filter(({ x }) => x !== undefined);
  }

  draw() {
    const { picture } = this;
    const { one, other, split, metric, across } = this.fields;
    const names = [...new Set([one.value, other.value])];
    const arms = names.map((name) => ({ name, points: this.points(name) }));
    const all = arms.flatMap(({ points }) => points);
    this.tell(arms);
    picture.replaceChildren();
    FRAME.width = Math.min(900, this.form.clientWidth); // letters keep their size on a phone
    picture.setAttribute("viewBox", `0 0 ${FRAME.width} ${FRAME.height}`);
    if (!all.length) return this.forget();
    const [xs, ys] = [all.map(({ x }) => x), all.map(({ y }) => y)];
    const scale = {
      x: this.scale(Math.min(...xs), Math.max(...xs), FRAME.left, FRAME.width - FRAME.right),
      y: this.scale(Math.min(0, ...ys), Math.max(...ys), FRAME.height - FRAME.bottom, FRAME.top),
    };
    const title = `${this.task.metrics[metric.value]}, ${this.task.splits[split.value]}`;
    picture.setAttribute("aria-label", `${title}, of ${names.join(" and ")}. The table below has the ends.`);
    this.axes(picture, scale, this.task.metrics[metric.value], ACROSS[across.value]);
    arms.forEach(({ points }, number) => this.lines(picture, scale, points, `ex-arm${number}`));
    arms.forEach((arm, number) => this.dots(picture, scale, arm, number));
    this.dotsThere = [...picture.querySelectorAll(".ex-dot")];
    const chosen = this.dotsThere.find((dot) => this.keyOf(dot.point) === this.chosen);
    if (chosen) this.mark(chosen);
    else this.forget();
  }

  /** A point of every seed, as a button; one of them alone is met with Tab. */
  dots(picture, { x, y }, { name, points }, number) {
    for (const point of points) {
      const [across, up] = [x.at(point.x).toFixed(1), y.at(point.y).toFixed(1)];
      const place = { transform: `translate(${across} ${up})`, class: `ex-dot ex-arm${number}` };
      const label = `${name}, seed ${point.seed}, step ${point.step}: ${short(point.y)}`;
      const dot = drawn("g", { ...place, role: "button", tabindex: -1, "aria-label": label });
      const shape = number
        ? drawn("rect", { x: -3.2, y: -3.2, width: 6.4, height: 6.4 })
        : drawn("circle", { r: 3.6 });
      dot.append(drawn("circle", { r: REACH, class: "ex-hit" }), shape, drawn("title", {}, label));
      dot.point = { ...point, arm: name };
      picture.append(dot);
    }
    picture.querySelector(".ex-dot")?.setAttribute("tabindex", 0);
  }

  keyOf({ arm, seed, step }) {
    return `${this.fields.task.value} ${this.fields.split.value} ${arm} ${seed} ${step}`;
  }

  /** Left and right along a seed's curve, up and down from curve to curve. */
  key(event) {
    const dot = event.target.closest(".ex-dot");
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!dot || !(by || event.key === "Enter" || event.key === " ")) return;
    event.preventDefault();
    if (!by) return this.choose(dot);
    const curve = ({ arm, seed }) => `${arm} ${seed}`;
    const along = this.dotsThere.filter(({ point }) => curve(point) === curve(dot.point));
    const place = along.indexOf(dot);
    let next = along[place + by];
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const curves = [...new Set(this.dotsThere.map(({ point }) => curve(point)))];
      const other = curves[curves.indexOf(curve(dot.point)) + by];
      const there = this.dotsThere.filter(({ point }) => curve(point) === other);
      next = there[Math.min(place, there.length - 1)];
    }
    if (next) this.focus(next).focus();
  }

  /** The point nearest to a click; where several lie upon each other, another click takes the next. */
  nearest({ target, clientX, clientY }) {
    if (!target.closest(".ex-dot")) return null;
    const middle = (dot) => {
      const { left, top, width, height } = dot.getBoundingClientRect();
      return Math.hypot(left + width / 2 - clientX, top + height / 2 - clientY);
    };
    const near = this.dotsThere
      .map((dot) => ({ dot, away: middle(dot) }))
      .filter(({ away }) => away <= REACH)
      .sort((one, other) => one.away - other.away)
      .map(({ dot }) => dot);
    const chosen = near.findIndex((dot) => this.keyOf(dot.point) === this.chosen);
    return near[(chosen + 1) % near.length];
  }

  focus(dot) {
    for (const other of this.dotsThere) other.setAttribute("tabindex", other === dot ? 0 : -1);
    return dot;
  }

  mark(dot) {
    for (const other of this.dotsThere) other.setAttribute("aria-pressed", other === dot);
    return this.focus(dot);
  }

  forget() {
    this.chosen = null;
    document.getElementById("explorer-behind").hidden = true;
  }

  /** Load the run of a point, once, and show the episodes that it kept. */
  async choose(dot) {
    if (!dot) return;
    const { point } = this.mark(dot);
    this.chosen = this.keyOf(point);
    const wanted = this.chosen;
    const [own, start] = this.task.runs[point.arm]?.[point.seed] ?? ["", ""];
    const run = point.step === 0 ? start : own;
    if (run && !explorer.episodes[run]) await explorer.load(`explorer/${run}.js`).catch(() => {});
    if (wanted === this.chosen) this.show(point, explorer.episodes[run]);
  }

  show({ arm, seed, step, y }, told) {
    const { split, metric } = this.fields;
    const kept = told?.points[step === 0 ? "start" : step]?.[split.value] ?? [];
    const where = `${arm}, seed ${seed}, ${step ? `step ${step}` : "before training"}`;
    const facts = `${this.task.metrics[metric.value]} ${short(y)}, ${this.task.splits[split.value]}.`;
    const some = kept.length
      ? `The first ${kept.length} episodes of this measurement:`
      : "No episodes of this point were kept.";
    const seen = this.task.pictures && kept.length
      ? " The model saw a picture, too, which this page does not hold."
      : "";
    document.getElementById("explorer-behind").hidden = false;
    document.getElementById("explorer-where").replaceChildren(
      made("strong", "", where), `: ${facts} ${some}${seen}`,
    );
    document.getElementById("explorer-episodes").replaceChildren(
      ...kept.map(([question, tries], i) => this.episode(i + 1, told.questions[question], tries)),
    );
  }

  episode(number, question, tries) {
    const solved = tries.at(-1)?.[2];
    const within = `${tries.length} ${tries.length === 1 ? "try" : "tries"}`;
    const said = solved ? `✓ solved within ${within}` : `✗ not solved within ${within}`;
    const summary = made("summary", "", `Episode ${number}: `, made("span", look(solved), said));
    const answers = tries.flatMap(([text, verdict, ok], i) => [
      made("p", "ex-try", `Try ${i + 1}: `, made("span", look(ok), verdict)),
      made("pre", "", text),
    ]);
    const whole = made("details", "", summary, made("p", "ex-try", "Question"), made("pre", "", question), ...answers);
    whole.open = number === 1;
    return whole;
  }

  scale(low, high, from, to) {
    const over = high - low || 1;
    return { low, high, at: (value) => from + ((value - low) / over) * (to - from) };
  }

  axes(picture, { x, y }, up, along) {
    const { left, right, top, bottom, width, height } = FRAME;
    for (const tick of ticks(y.low, y.high)) {
      const at = y.at(tick);
      picture.append(
        drawn("line", { x1: left, x2: width - right, y1: at, y2: at, class: "ex-grid" }),
        drawn("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, short(tick)),
      );
    }
    for (const tick of ticks(x.low, x.high)) {
      const place = { x: x.at(tick), y: height - bottom + 18, "text-anchor": "middle" };
      picture.append(drawn("text", place, short(tick)));
    }
    picture.append(
      drawn("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, along),
      drawn("text", {
        transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle",
      }, up),
    );
  }

  /** Each seed thin, the mean over the steps that all seeds share thick. */
  lines(picture, { x, y }, points, look) {
    const path = (some) => some.map((p) => `${x.at(p.x).toFixed(1)},${y.at(p.y).toFixed(1)}`).join(" ");
    const seeds = [...new Set(points.map(({ seed }) => seed))];
    for (const seed of seeds) {
      const own = points.filter((point) => point.seed === seed);
      picture.append(drawn("polyline", { points: path(own), class: `ex-seed ${look}` }));
    }
    const steps = [...new Set(points.map(({ step }) => step))].sort((a, b) => a - b);
    const means = steps
      .map((step) => points.filter((point) => point.step === step))
      .filter((some) => some.length === seeds.length)
      .map((some) => ({ x: mean(some.map((p) => p.x)), y: mean(some.map((p) => p.y)) }));
    picture.append(drawn("polyline", { points: path(means), class: `ex-mean ${look}` }));
  }

  /** The same in numbers: where each arm starts and ends. */
  tell(arms) {
    const rows = arms.map(({ name, points }, number) => {
      const seeds = [...new Set(points.map(({ seed }) => seed))];
      const of = seeds.map((seed) => points.filter((point) => point.seed === seed));
      const ends = [of.map((own) => own[0].y), of.map((own) => own.at(-1).y)];
      const cells = seeds.length ? ends.map((values) => mean(values).toFixed(1)) : ["–", "–"];
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.className = `ex-key ex-arm${number}`;
      head.append(name);
      row.append(head);
      for (const text of [...cells, `${seeds.length}`]) row.insertCell().append(text);
      return row;
    });
    document.getElementById("explorer-ends").replaceChildren(...rows);
    const isMeasured = arms.some(({ points }) => points.length);
    document.getElementById("explorer-status").textContent = isMeasured
      ? `Success within ${this.task.tries} tries. Thin: one seed; thick: their mean.`
      : "Nothing was measured for this choice; choose another split, metric or seed.";
  }
}

const look = (solved) => `pg-verdict ${solved ? "pg-right" : "pg-wrong"}`;

explorer.base = document.currentScript.src;

explorer.load = (name) =>
  new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { src: new URL(name, explorer.base), onload: resolve, onerror: reject });
    document.head.append(script);
  });

explorer.load("explorer/rows.js").then(() => {
  explorer.page = new Explorer(document.getElementById("explorer"));
});
