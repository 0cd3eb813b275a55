/* The explorer: any measured curve of two arms, drawn from rows that the book's build recorded.
   explorer/rows.js (study/explorer.py) sets `explorer.tasks`; nothing is fetched. */
"use strict";

const explorer = { tasks: null };

const FRAME = { width: 640, height: 360, left: 56, right: 14, top: 14, bottom: 46 };
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

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

class Explorer {
  constructor(form) {
    this.form = form;
    this.fields = form.elements;
    this.options("task", Object.fromEntries(Object.keys(explorer.tasks).map((name) => [name, name])));
    this.options("across", ACROSS);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", ({ target }) => this.changed(target.name));
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
    const picture = document.getElementById("explorer-picture");
    const { one, other, split, metric, across } = this.fields;
    const names = [...new Set([one.value, other.value])];
    const arms = names.map((name) => ({ name, points: this.points(name) }));
    const all = arms.flatMap(({ points }) => points);
    this.tell(arms);
    picture.replaceChildren();
    FRAME.width = Math.min(900, this.form.clientWidth); // letters keep their size on a phone
    picture.setAttribute("viewBox", `0 0 ${FRAME.width} ${FRAME.height}`);
    if (!all.length) return;
    const [xs, ys] = [all.map(({ x }) => x), all.map(({ y }) => y)];
    const scale = {
      x: this.scale(Math.min(...xs), Math.max(...xs), FRAME.left, FRAME.width - FRAME.right),
      y: this.scale(Math.min(0, ...ys), Math.max(...ys), FRAME.height - FRAME.bottom, FRAME.top),
    };
    const title = `${this.task.metrics[metric.value]}, ${this.task.splits[split.value]}`;
    picture.setAttribute("aria-label", `${title}, of ${names.join(" and ")}. The table below has the ends.`);
    this.axes(picture, scale, this.task.metrics[metric.value], ACROSS[across.value]);
    arms.forEach(({ points }, number) => this.lines(picture, scale, points, `ex-arm${number}`));
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
    for (const { x: across, y: up } of means) {
      picture.append(drawn("circle", { cx: x.at(across), cy: y.at(up), r: 3.5, class: `ex-point ${look}` }));
    }
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

explorer.start = (base) => {
  const rows = document.createElement("script");
  rows.src = new URL("explorer/rows.js", base);
  rows.onload = () => (explorer.page = new Explorer(document.getElementById("explorer")));
  document.head.append(rows);
};

explorer.start(document.currentScript.src);
