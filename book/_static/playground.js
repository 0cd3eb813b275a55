/* The rule playground: three small language models answer in this page, without any server.

   Tokenizer, Model and Verifier do what the library does (transformers' Mllama without pictures,
   worlds.formulas and worlds.verifier); tests/test_playground.py holds their answers equal. What this file
   does not know, the wording of a question for example, comes from the library as
   playground/facts.js; weights come as playground/TASK-METHOD.js. Both call `playground.facts = ...`
   and the like, since a page opened from a file may load scripts but may not fetch data. */
"use strict";

const playground = { facts: null, weights: {} };

/* --- Text to tokens and back --------------------------------------------------------------- */

/** Whole phrases, names and numbers are tokens; anything else is spelled in bytes. */
class Tokenizer {
  /** pieces: [[text, id], ...]; bytes: the ids of bytes 0 to 255; special: ids without a text. */
  constructor({ pieces, bytes, special }) {
    this.bytes = bytes;
    this.special = new Set(special);
    this.startingWith = new Map();
    this.spelling = new Map(bytes.map((id, byte) => [id, [byte]]));
    const utf8 = new TextEncoder();
    for (const [text, id] of [...pieces].sort((a, b) => b[0].length - a[0].length)) {
      const others = this.startingWith.get(text[0]) ?? [];
      this.startingWith.set(text[0], [...others, { text, id }]);
      this.spelling.set(id, [...utf8.encode(text)]);
    }
  }

  /** The longest piece that stands at each place; where none does, the bytes of the character. */
  encode(text) {
    const ids = [];
    const utf8 = new TextEncoder();
    for (let at = 0; at < text.length; ) {
      const known = this.startingWith.get(text[at]) ?? [];
      const piece = known.find((candidate) => text.startsWith(candidate.text, at));
      const read = piece ? piece.text : String.fromCodePoint(text.codePointAt(at));
      if (piece) ids.push(piece.id);
      else for (const byte of utf8.encode(read)) ids.push(this.bytes[byte]);
      at += read.length;
    }
    return ids;
  }

  decode(ids) {
    const said = ids.filter((id) => !this.special.has(id));
    const bytes = said.flatMap((id) => this.spelling.get(id));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
  }
}

/* --- The model ----------------------------------------------------------------------------- */

/** out = weight x, where weight has a row for each number of out. */
function multiply(weight, x, out) {
  for (let row = 0, at = 0; row < out.length; row++) {
    let sum = 0;
    for (let column = 0; column < x.length; column++, at++) sum += weight[at] * x[column];
    out[row] = sum;
  }
  return out;
}

/** RMSNorm: x at unit mean square, scaled. */
function normalise(x, scale, epsilon) {
  let squares = 0;
  for (const value of x) squares += value * value;
  const by = 1 / Math.sqrt(squares / x.length + epsilon);
  return x.map((value, i) => value * by * scale[i]);
}

function softmax(logits) {
  let highest = -Infinity;
  for (const value of logits) highest = Math.max(highest, value);
  const powers = logits.map((value) => Math.exp(value - highest));
  let sum = 0;
  for (const value of powers) sum += value;
  return powers.map((value) => value / sum);
}

/** A 16-bit floating-point number, from its bits. */
function fromHalf(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** {name: Float32Array} from weights written one after the other as 16-bit numbers in base64. */
function unpackWeights({ sizes, data }) {
  const text = atob(data);
  const value = Float32Array.from({ length: 1 << 16 }, (_, bits) => fromHalf(bits));
  const tensors = {};
  let at = 0;
  for (const [name, size] of Object.entries(sizes)) {
    const tensor = new Float32Array(size);
    for (let i = 0; i < size; i++, at += 2) {
      tensor[i] = value[text.charCodeAt(at) | (text.charCodeAt(at + 1) << 8)];
    }
    tensors[name] = tensor;
  }
  return tensors;
}

/** A Llama-like decoder: RMSNorm, rotary positions, SwiGLU; one token at a time, with a cache. */
class Model {
  constructor({ config, sizes, data }) {
    this.config = config; // hidden, heads, layers (names of their weights), epsilon, theta
    this.weights = unpackWeights({ sizes, data });
    this.forget();
  }

  /** Start another conversation. */
  forget() {
    this.length = 0; // tokens read so far
    this.cache = this.config.layers.map(() => ({ keys: [], values: [] }));
  }

  /** Read a token; the state of the last layer after it. */
  read(id) {
    const { hidden, layers, epsilon } = this.config;
    let x = this.weights.embed.slice(id * hidden, (id + 1) * hidden);
    layers.forEach((name, number) => {
      const weight = (part) => this.weights[`${name}.${part}`];
      const seen = this.attend(number, weight, normalise(x, weight("attention_norm"), epsilon));
      x = x.map((value, i) => value + seen[i]);
      const thought = this.think(weight, normalise(x, weight("mlp_norm"), epsilon));
      x = x.map((value, i) => value + thought[i]);
    });
    this.length += 1;
    return x;
  }

  /** What this token takes from all tokens so far. */
  attend(number, weight, x) {
    const { hidden, heads } = this.config;
    const size = hidden / heads;
    const queries = this.rotate(multiply(weight("q"), x, new Float32Array(hidden)));
    const { keys, values } = this.cache[number];
    keys.push(this.rotate(multiply(weight("k"), x, new Float32Array(hidden))));
    values.push(multiply(weight("v"), x, new Float32Array(hidden)));
    const mixed = new Float32Array(hidden);
    for (let head = 0; head < heads; head++) {
      const from = head * size;
      const scores = new Float32Array(keys.length);
      keys.forEach((key, token) => {
        let sum = 0;
        for (let i = from; i < from + size; i++) sum += queries[i] * key[i];
        scores[token] = sum / Math.sqrt(size);
      });
      softmax(scores).forEach((share, token) => {
        for (let i = from; i < from + size; i++) mixed[i] += share * values[token][i];
      });
    }
    return multiply(weight("o"), mixed, new Float32Array(hidden));
  }

  /** Turn each head's pairs (i, i + half) by an angle that tells the position. */
  rotate(x) {
    const { hidden, heads, theta } = this.config;
    const size = hidden / heads;
    const half = size / 2;
    for (let i = 0; i < half; i++) {
      const angle = this.length / theta ** ((2 * i) / size);
      const cos = Math.cos(angle);
      const sin = Math.sin(angle);
      for (let a = i; a < hidden; a += size) {
        const [left, right] = [x[a], x[a + half]];
        x[a] = left * cos - right * sin;
        x[a + half] = right * cos + left * sin;
      }
    }
    return x;
  }

  /** The layer's perceptron, SwiGLU. */
  think(weight, x) {
    const inner = weight("gate").length / x.length;
    const gate = multiply(weight("gate"), x, new Float32Array(inner));
    const up = multiply(weight("up"), x, new Float32Array(inner));
    const active = gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]);
    return multiply(weight("down"), active, new Float32Array(x.length));
  }

  /** The most likely answer to a prompt, token by token, up to an end token or `most` tokens:
      its ids, and at each the chances that all tokens had. */
  answer(prompt, ends, most) {
    this.forget();
    let state;
    for (const id of prompt) state = this.read(id);
    const { hidden, epsilon } = this.config;
    const ids = [];
    const chances = [];
    while (ids.length < most && !ends.includes(ids.at(-1))) {
      if (ids.length) state = this.read(ids.at(-1));
      const logits = new Float32Array(this.weights.head.length / hidden);
      multiply(this.weights.head, normalise(state, this.weights.norm, epsilon), logits);
      ids.push(logits.indexOf(Math.max(...logits)));
      chances.push(softmax(logits));
    }
    return { ids, chances };
  }
}

/* --- The verifier -------------------------------------------------------------------------- */

/** An exact fraction; nothing is rounded and nothing is executed. */
class Rational {
  constructor(top, bottom = 1n) {
    if (bottom === 0n) throw new RangeError("division by zero");
    let [a, b] = [top < 0n ? -top : top, bottom < 0n ? -bottom : bottom];
    while (b) [a, b] = [b, a % b];
    if (bottom < 0n) a = -a;
    this.top = top / a;
    this.bottom = bottom / a;
  }

  apply(sign, other) {
    const [a, b, c, d] = [this.top, this.bottom, other.top, other.bottom];
    if (sign === "+") return new Rational(a * d + c * b, b * d);
    if (sign === "-") return new Rational(a * d - c * b, b * d);
    return sign === "*" ? new Rational(a * c, b * d) : new Rational(a * d, b * c);
  }

  equals(whole) {
    return this.bottom === 1n && this.top === BigInt(whole);
  }

  toString() {
    return this.bottom === 1n ? `${this.top}` : `${this.top}/${this.bottom}`;
  }
}

const BINDING = { "(": 0, "+": 1, "-": 1, "*": 2, "/": 2 };
const SIGNS = {
  "×": "*", "✕": "*", "·": "*", "⋅": "*", "∙": "*", "∗": "*", "÷": "/", "∕": "/", "⁄": "/",
  "−": "-", "–": "-", "＋": "+", "－": "-", "＊": "*", "／": "/", "（": "(", "）": ")", "＝": "=",
};
const LATEX = { times: "*", cdot: "*", div: "/", left: "", right: "" };
const LONGEST_FORMULA = 400;
const ILLEGAL = new Error("not a legal formula");

/** Value and numbers of a formula, with two stacks; throws where it is not one. */
function evaluateFormula(formula) {
  if (formula.length > LONGEST_FORMULA) throw ILLEGAL;
  const plain = formula
    .replace(/\\{1,2}(times|cdot|div|left|right)(?![A-Za-z])/g, (_, sign) => LATEX[sign])
    .replace(/^[$ ]+|[$ ]+$/g, "")
    .replace(/./gu, (sign) => SIGNS[sign] ?? sign);
  const [, body, claim] = plain.match(/^([^=]*)(=[^]*)?$/);
  const isClaim = /^= *[+-]?[0-9]{1,9}(?:[./][0-9]{1,9})? *$/;
  if (!/^[0-9+\-*/() ]+$/.test(body) || (claim && !isClaim.test(claim))) throw ILLEGAL;
  const values = [];
  const numbers = [];
  const operators = [];
  let operandNext = true;
  const reduce = () => {
    const right = values.pop();
    values.push(values.pop().apply(operators.pop(), right));
  };
  for (const token of body.match(/0|[1-9][0-9]*|[+\-*/()]/g) ?? []) {
    const isNumber = /[0-9]/.test(token);
    if ((token === "(" || isNumber) !== operandNext || token.length > 4) throw ILLEGAL;
    if (token === "(") {
      operators.push(token);
    } else if (token === ")") {
      while (operators.length && operators.at(-1) !== "(") reduce();
      if (!operators.length) throw ILLEGAL;
      operators.pop();
    } else if (isNumber) {
      numbers.push(Number(token));
      values.push(new Rational(BigInt(token)));
      operandNext = false;
    } else {
      while (operators.length && BINDING[operators.at(-1)] >= BINDING[token]) reduce();
      operators.push(token);
      operandNext = true;
    }
  }
  if (operandNext || operators.includes("(")) throw ILLEGAL;
  while (operators.length) reduce();
  return { value: values[0], numbers };
}

/** The elements of one list that another has not, as often as they are too many. */
function without(some, others) {
  const left = [...others];
  const more = some.filter((n) => {
    const at = left.indexOf(n);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
  return more.sort((a, b) => some.indexOf(a) - some.indexOf(b)); // equal ones stand together
}

const sameNumbers = (a, b) => !without(a, b).length && !without(b, a).length;

/** Judges what is written: reward, reason and message come from one place. */
class Verifier {
  /** rewards: {reason: reward}; messages: {reason: text with {places}}. */
  constructor({ rewards, messages }) {
    this.rewards = rewards;
    this.messages = messages;
  }

  verdict(reason, facts = {}, message = reason) {
    const said = this.messages[message].replace(/\{(\w+)\}/g, (_, name) => facts[name]);
    return { reason, reward: this.rewards[reason], message: said, ok: reason === "solved" };
  }

  /** One formula: legal, every number once, and equal to the target? `claimed` are the numbers
      that an answer lists beside it. */
  formula(text, numbers, target, claimed = null) {
    let found;
    try {
      found = evaluateFormula(text);
    } catch (error) {
      if (error !== ILLEGAL && !(error instanceof RangeError)) throw error;
      return this.verdict("illegal_formula");
    }
    for (const said of claimed ? [claimed, found.numbers] : [found.numbers]) {
      if (!sameNumbers(said, numbers)) return this.numberFault(said, numbers);
    }
    if (found.value.equals(target)) return this.verdict("solved");
    return this.verdict("wrong_value", { value: found.value, target });
  }

  numberFault(said, numbers) {
    const more = without(said, numbers);
    const invalid = more.filter((n) => !numbers.includes(n));
    const overused = more.filter((n) => numbers.includes(n));
    let [used, dealt] = [said, without(numbers, said)];
    if (invalid.length) [used, dealt] = [invalid.slice(0, numbers.length), []];
    else if (overused.length) {
      used = said.filter((n) => overused.includes(n)).slice(0, numbers.length + 1);
      dealt = numbers.filter((n) => overused.includes(n));
    }
    const facts = { used: used.join(", "), dealt: dealt.join(", ") };
    return this.verdict("wrong_numbers", facts, dealt.length ? "wrong_numbers_for" : "wrong_numbers");
  }

  /** The fields of an answer: of its last JSON object that has all keys; null if there is none. */
  static fields(text, keys) {
    let last = null;
    for (let start = text.indexOf("{"); start >= 0; start = text.indexOf("{", start + 1)) {
      try {
        const found = JSON.parse(text.slice(start, Verifier.closing(text, start)));
        if (keys.every((key) => Object.hasOwn(found, key))) last = found;
      } catch {
        continue;
      }
    }
    return last;
  }

  /** Where the object that opens at a place is closed; the text's end if it is not. */
  static closing(text, start) {
    let [depth, quoted] = [0, false];
    for (let i = start; i < text.length; i++) {
      if (quoted && text[i] === "\\") i++;
      else if (text[i] === '"') quoted = !quoted;
      else if (!quoted && text[i] === "{") depth++;
      else if (!quoted && text[i] === "}" && --depth === 0) return i + 1;
    }
    return text.length;
  }

  /** A whole answer to a hand. */
  cards(text, { numbers, target }) {
    const found = Verifier.fields(text, ["cards", "number", "formula"]);
    const lists = found && Array.isArray(found.cards) && Array.isArray(found.number);
    const listed = lists ? found.number.map((n) => String(n).trim()) : [];
    const readable = lists && typeof found.formula === "string" && listed.length;
    if (!readable || !listed.every((n) => /^[0-9]{1,4}$/.test(n))) return this.verdict("unreadable");
    return this.formula(found.formula, numbers, target, listed.map(Number));
  }

  /** A whole answer at a position of a walk. */
  walk(text, { action, crossing }) {
    const keys = ["current observation", "current instruction", "action"];
    const found = Verifier.fields(text, keys);
    if (!found || !keys.every((key) => typeof found[key] === "string")) {
      return this.verdict("unreadable");
    }
    const spaced = (said) => said.trim().split(/\s+/).join(" ");
    if (spaced(found.action) === action) return this.verdict("solved");
    // A landmark may have the word in its name; our models never deny that there is a crossing.
    const seen = spaced(found["current observation"]).replace(/^[^;]* is on your /, "");
    if (/intersection/i.test(seen) === crossing) return this.verdict("wrong_action");
    return this.verdict("wrong_observation", {}, crossing ? "at" : "not_at");
  }
}

/** A formula that makes the target from the numbers, or null: all pairs are joined in all ways. */
function solve(numbers, target) {
  const join = (parts) => {
    if (parts.length === 1) return parts[0].value.equals(target) ? parts[0].text : null;
    for (let i = 0; i < parts.length; i++) {
      for (let j = 0; j < parts.length; j++) {
        if (i === j) continue;
        const rest = parts.filter((_, k) => k !== i && k !== j);
        for (const sign of "+-*/") {
          if (sign === "/" && parts[j].value.top === 0n) continue;
          const value = parts[i].value.apply(sign, parts[j].value);
          const text = `(${parts[i].text}${sign}${parts[j].text})`;
          const found = join([...rest, { value, text }]);
          if (found) return found;
        }
      }
    }
    return null;
  };
  const found = join(numbers.map((n) => ({ value: new Rational(BigInt(n)), text: `${n}` })));
  return found && found.replace(/^\((.*)\)$/, "$1");
}

/* --- The models of a task ------------------------------------------------------------------- */

/** A task's models, loaded once: what they answer to a question, with the verifier's word. */
class Panel {
  constructor(task) {
    this.task = task;
    this.facts = playground.facts.tasks[task];
    this.tokenizer = new Tokenizer(playground.facts.tokenizer);
    this.verifier = new Verifier(this.facts);
    this.where = new RegExp(this.facts.where);
    this.models = new Map();
  }

  /** A promise of a model, which is loaded once: a script of some megabytes beside the page. */
  model(method) {
    if (!this.models.has(method)) {
      const name = `${this.task}-${method}`;
      const loaded = loadScript(`${name}.js`).then(() => new Model(playground.weights[name]));
      this.models.set(method, loaded);
    }
    return this.models.get(method);
  }

  /** {text, verdict, claims} of one model; `judge` is the verifier's method for this question. */
  async answer(method, prompt, judge) {
    const { turn, ends, most } = playground.facts;
    const model = await this.model(method);
    const asked = this.tokenizer.encode(turn[0] + prompt + turn[1]);
    const { ids, chances } = model.answer(asked, ends, most);
    const text = this.tokenizer.decode(ids);
    return { text, verdict: judge(text), claims: this.claims(ids, chances) };
  }

  /** Where the answer says what the rule decides, the chance of each word that could stand there. */
  claims(ids, chances) {
    return chances
      .filter((_, n) => this.where.test(this.tokenizer.decode(ids.slice(0, n))))
      .map((all) => this.facts.words.map((word) => all[this.tokenizer.encode(word)[0]]));
  }
}

/** Run a script of the folder playground/, which hands over what it holds. */
function loadScript(file) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL(`playground/${file}`, playground.base);
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${file} cannot be loaded`));
    document.head.append(script);
  });
}

/* --- The page -------------------------------------------------------------------------------- */

/** An element with attributes, texts and children; text is never read as markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const percent = (share) => `${Math.round(100 * share)}%`;

/** Bars of the chances of the likelier words; the word that the rule states is framed. */
function bars(words, chances, stated, label) {
  const other = Math.max(0, 1 - chances.reduce((sum, chance) => sum + chance, 0));
  const shown = [...words.map((word, i) => [word, chances[i]]), ["other", other]];
  const list = element("ul", { class: "pg-bars", "aria-label": label });
  for (const [word, chance] of shown) {
    const isStated = word === stated;
    if (chance < 0.01 && !isStated) continue;
    const bar = element("span", { class: "pg-bar", "aria-hidden": "true" });
    bar.style.setProperty("--pg-share", chance);
    list.append(
      element(
        "li", isStated ? { class: "pg-stated" } : {},
        element("span", {}, word), bar, element("span", {}, percent(chance)),
        isStated ? element("span", { class: "pg-hidden" }, " (stated by the rule)") : "",
      ),
    );
  }
  return list;
}

/** "✗ Your formula equals 20 and not 24. Reward −1." */
function verdictLine({ ok, reward, message }) {
  const signed = reward > 0 ? `+${reward}` : `${reward}`.replace("-", "−");
  return element(
    "p", { class: ok ? "pg-verdict pg-right" : "pg-verdict pg-wrong" },
    element("span", { "aria-hidden": "true" }, ok ? "✓ " : "✗ "),
    `${ok ? "Correct" : message.replace(/^./, (c) => c.toUpperCase())}. Reward ${signed}.`,
  );
}

/** Asks all models of a task the same question and shows their answers side by side. */
class Stage {
  constructor(task, prefix) {
    this.panel = new Panel(task);
    this.status = document.getElementById(`${prefix}-status`);
    this.place = document.getElementById(`${prefix}-answers`);
    this.form = document.getElementById(`${prefix}-form`);
    this.asked = 0; // questions so far: a newer one ends the one before
    this.boxes = playground.facts.methods.map(({ name, label }) => {
      const id = `${prefix}-${name}`;
      const body = element("div", { class: "pg-said" });
      const heading = element("h3", { id: `${id}-name` }, label);
      this.place.append(
        element(
          "div", { class: `pg-model pg-${name}`, role: "group", "aria-labelledby": `${id}-name` },
          heading, body,
        ),
      );
      return { name, label, body };
    });
    const { missing, origin } = this.panel.facts;
    this.isSilent = missing !== "";
    if (this.isSilent) this.place.replaceChildren();
    this.status.textContent = missing;
    document.getElementById(`${prefix}-origin`).textContent = origin;
  }

  /** All models answer; `view(answer, label)` is what is shown of an answer below its verdict. */
  async ask(prompt, judge, view) {
    if (this.isSilent) return;
    const question = ++this.asked;
    this.form.setAttribute("aria-busy", "true");
    this.status.textContent = "The models are answering.";
    const said = [];
    const began = performance.now();
    for (const { name, label, body } of this.boxes) {
      await new Promise((resolve) => setTimeout(resolve)); // let the page draw what is there
      if (question !== this.asked) return;
      const answer = await this.panel.answer(name, prompt, judge);
      if (question !== this.asked) return;
      body.replaceChildren(verdictLine(answer.verdict), ...view(answer, label), raw(answer.text));
      said.push(`${label}: ${answer.verdict.ok ? "correct" : answer.verdict.message}`);
    }
    this.form.removeAttribute("aria-busy");
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    this.status.replaceChildren(
      element("span", { class: "pg-hidden" }, `${said.join(". ")}. `),
      `Answered in this browser in ${seconds} s.`,
    );
  }
}

function raw(text) {
  return element(
    "details", {}, element("summary", {}, "Answer as written"), element("pre", {}, text),
  );
}

function fill(select, values, chosen) {
  select.replaceChildren(...values.map((value) => element("option", { value }, `${value}`)));
  select.value = chosen;
}

/* --- Cards ----------------------------------------------------------------------------------- */

const RANKS = ["A", "2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K"];
const FACES = ["J", "Q", "K"];

class Cards {
  constructor() {
    this.stage = new Stage("gp-l", "cards");
    this.form = document.getElementById("cards-form");
    this.fields = this.form.elements;
    const { hands, rule } = this.stage.panel.facts;
    this.hands = hands;
    this.hand = 0;
    const values = RANKS.map((_, i) => i + 1);
    FACES.forEach((face, i) => fill(this.fields[face], values, rule[i]));
    for (let i = 0; i < 4; i++) fill(this.fields[`card${i + 1}`], RANKS, hands[0][i]);
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", () => this.ask());
    this.form.addEventListener("click", ({ target }) => this.press(target));
    this.fields.formula.addEventListener("input", () => this.judgeYours());
  }

  press({ dataset }) {
    if (dataset.rule) {
      const values = dataset.rule === "random" ? FACES.map(drawValue) : dataset.rule.split(",");
      FACES.forEach((face, i) => (this.fields[face].value = values[i]));
    } else if ("deal" in dataset) {
      this.hand = (this.hand + 1) % this.hands.length;
      this.hands[this.hand].forEach((card, i) => (this.fields[`card${i + 1}`].value = card));
    } else {
      return;
    }
    this.ask();
  }

  /** What the reader has chosen: cards, what they count as, the target. */
  get deal() {
    const cards = [1, 2, 3, 4].map((i) => this.fields[`card${i}`].value);
    const target = Math.min(100, Math.max(1, Math.round(Number(this.fields.target.value)) || 24));
    return { cards, numbers: cards.map((card) => this.value(card)), target };
  }

  value(card) {
    if (FACES.includes(card)) return Number(this.fields[card].value);
    return card === "A" ? 1 : Number(card);
  }

  prompt({ cards, target }) {
    const [j, q, k] = FACES.map((face) => this.value(face));
    const chosen = { target, j, q, k, cards: cards.join(", ") };
    return this.stage.panel.facts.prompt.replace(/<(\w+)>/g, (_, name) => chosen[name]);
  }

  ask() {
    const deal = this.deal;
    const solution = solve(deal.numbers, deal.target);
    document.getElementById("cards-solution").textContent = solution
      ? `${solution} = ${deal.target}`
      : `none: under this rule these cards cannot make ${deal.target}`;
    document.getElementById("cards-numbers").textContent = deal.cards
      .map((card, i) => `${card} counts as ${deal.numbers[i]}`)
      .join(", ");
    this.judgeYours();
    const prompt = this.prompt(deal);
    document.getElementById("cards-prompt").textContent = prompt;
    const judge = (text) => this.stage.panel.verifier.cards(text, deal);
    return this.stage.ask(prompt, judge, (answer, label) => this.view(answer, label));
  }

  /** Formula, and for each face card that the answer names what it is said to count as. */
  view({ text, claims }, label) {
    const fields = Verifier.fields(text, ["cards", "formula"]);
    const named = (/"cards": \[([^\]]*)\]/.exec(text)?.[1] ?? "").split(", ");
    const cards = named.map((name) => name.replaceAll('"', ""));
    const shown = [element("p", { class: "pg-formula" }, fields ? `${fields.formula}` : "no formula")];
    const { words } = this.stage.panel.facts;
    claims.forEach((chances, i) => {
      if (!FACES.includes(cards[i])) return;
      const [stated, likeliest] = [`${this.value(cards[i])}`, words[chances.indexOf(Math.max(...chances))]];
      const said = `${cards[i]} is said to count as ${likeliest}; the rule says ${stated}`;
      shown.push(
        element("p", { class: "pg-claim" }, said),
        bars(words, chances, stated, `${label}, what ${cards[i]} counts as`),
      );
    });
    return shown;
  }

  judgeYours() {
    const { value } = this.fields.formula;
    const { numbers, target } = this.deal;
    const verdict = value.trim() && this.stage.panel.verifier.formula(value, numbers, target);
    document.getElementById("cards-yours").replaceChildren(...(verdict ? [verdictLine(verdict)] : []));
  }
}

const drawValue = () => 1 + Math.floor(13 * Math.random());

/* --- A walk ---------------------------------------------------------------------------------- */

class Walk {
  constructor() {
    this.stage = new Stage("virl-l", "walk");
    this.form = document.getElementById("walk-form");
    this.fields = this.form.elements;
    const { walks } = this.stage.panel.facts;
    this.fields.position.replaceChildren(
      ...walks.map(({ title }, i) => element("option", { value: i }, title)),
    );
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", () => this.ask());
  }

  ask() {
    const { walks } = this.stage.panel.facts;
    const [walk, words] = [walks[this.fields.position.value], this.fields.words.value];
    const prompt = walk.prompts[words];
    document.getElementById("walk-prompt").textContent = prompt;
    const position = { action: walk.actions[words], crossing: walk.crossing };
    const judge = (text) => this.stage.panel.verifier.walk(text, position);
    const due = /\((.*)\)/.exec(position.action)[1];
    return this.stage.ask(prompt, judge, ({ text, claims }, label) => {
      const fields = Verifier.fields(text, ["action", "current instruction"]);
      const shown = [
        element("p", { class: "pg-formula" }, fields ? `${fields.action}` : "no action"),
        element("p", { class: "pg-claim" }, `The right action: ${position.action}`),
      ];
      for (const chances of claims) {
        const title = `${label}, the word for the turn`;
        shown.push(bars(this.stage.panel.facts.words, chances, due, title));
      }
      if (fields) {
        shown.push(element("p", { class: "pg-claim" }, `Sentence it follows: ${fields["current instruction"]}`));
      }
      return shown;
    });
  }
}

/* --- Start ----------------------------------------------------------------------------------- */

playground.base = document.currentScript?.src ?? "";

playground.start = async () => {
  await loadScript("facts.js");
  playground.cards = new Cards();
  playground.walk = new Walk();
  await playground.cards.ask();
  // The walk's models are loaded when the reader comes to them.
  new IntersectionObserver((seen, observer) => {
    if (!seen.some(({ isIntersecting }) => isIntersecting)) return;
    observer.disconnect();
    playground.walk.ask();
  }).observe(document.getElementById("walk-form"));
};

if (document.getElementById("cards-form")) playground.start();
