"use strict";
/* Sorts and filters tables, compares runs and shows examples. All that is shown of them is text. */

const data = (name) => JSON.parse(document.getElementById(name).textContent);
const number = new Intl.NumberFormat("en");
const shown = (value) => (value === null || value === undefined ? "–"
  : Number.isInteger(value) ? String(value) : value.toFixed(3));
const signed = (value) => (value > 0 ? "+" : "") + shown(value);

/** An element with properties and children; strings become text and never markup. */
function make(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/* ---- tables ---- */

function key(cell) {
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  if (text === "" || text === "–") return null;
  return Number.isNaN(Number(text)) ? text : Number(text);
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, "en", { numeric: true });
}

/** In the order of a column; what has no value comes last in either direction. */
function sorted(rows, column, direction) {
  if (direction === "none") return rows;
  const sign = direction === "ascending" ? 1 : -1;
  return rows.map((row) => [key(row.cells[column]), row]).sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * compare(a, b);
  }).map(([, row]) => row);
}

function sortable(table, rows, heads) {
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  heads.forEach((head, column) => {
    const button = make("button", { type: "button", className: "sort" }, ...head.childNodes);
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = next[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", direction);
      table.tBodies[0].append(...sorted(rows, column, direction));
    });
  });
}

/** Words that must all be there, and a choice for each column of words with few values. */
function filterable(rows, heads, title) {
  const words = make("input", { type: "search", "aria-label": `Filter rows of: ${title}`,
    placeholder: "filter rows" });
  const note = make("span", { className: "note", role: "status" });
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const choices = columnsToChoose(rows, heads);
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let fitting = 0;
    rows.forEach((row, n) => {
      const fits = wanted.every((word) => texts[n].includes(word)) &&
        choices.every(({ select, column }) =>
          select.value === "" || row.cells[column].textContent === select.value);
      row.hidden = !fits;
      fitting += fits;
    });
    note.textContent = `${number.format(fitting)} of ${number.format(rows.length)} rows`;
  };
  [words, ...choices.map(({ select }) => select)].forEach((control) =>
    control.addEventListener("input", apply));
  apply();
  return make("div", { className: "controls" }, words,
    ...choices.map(({ select, name }) => make("label", {}, `${name} `, select)), note);
}

function columnsToChoose(rows, heads) {
  const found = [];
  heads.forEach((head, column) => {
    if (head.classList.contains("number")) return;
    const values = [...new Set(rows.map((row) => row.cells[column].textContent))];
    if (values.length < 2 || values.length > 20 || values.length === rows.length) return;
    const select = make("select", {}, make("option", { value: "" }, "all"),
      ...values.sort(compare).map((value) => make("option", { value }, value || "(empty)")));
    found.push({ select, name: head.textContent, column });
  });
  return found;
}

function enhance(table) {
  const rows = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const title = table.getAttribute("aria-label");
  const box = table.closest(".scroll");
  if (rows.length > 8) box.before(filterable(rows, heads, title));
  if (rows.length > 1) sortable(table, rows, heads);
}

/** What is larger than its box can be scrolled by keyboard, and has a name. */
function reachable(box) {
  const title = box.querySelector("table").getAttribute("aria-label");
  const look = () => {
    const large = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (large) Object.entries({ tabindex: "0", role: "region", "aria-label": title })
      .forEach(([name, value]) => box.setAttribute(name, value));
    else ["tabindex", "role", "aria-label"].forEach((name) => box.removeAttribute(name));
  };
  new ResizeObserver(look).observe(box);
}

/* ---- examples of two runs ---- */

const PAGE = 25;

/** A run's examples: columns as they were embedded, read when the run is first chosen. */
class Examples {
  constructor(facts, place) {
    Object.assign(this, facts, data(`questions-${facts.questions}`), data(`examples-${place}`));
    this.place = place;
    this.main = this.scores[this.metric] || null;
    this.texts = null;
  }

  score(row) { return this.main ? this.main[row] : null; }

  text(row) {
    if (!this.texts) {
      this.texts = this.id.map((name, n) => [name, this.user[n], this.target[n],
        this.prediction[n], this.input[n], this.passages[n].flat().join("\n")]
        .join("\n").toLowerCase());
    }
    return this.texts[row];
  }
}

/** Positive where the first run is better, whatever the metric's direction; null if not known. */
function gain(run, other, row) {
  const [mine, theirs] = [run.score(row), other && other.score(row)];
  if (mine === null || theirs === null || theirs === undefined) return null;
  return (run.higher[run.metric] ? 1 : -1) * (mine - theirs);
}

function isChanged(run, other, row, how) {
  if (how === "other" || how === "same") {
    return (run.prediction[row] !== other.prediction[row]) === (how === "other");
  }
  const by = gain(run, other, row);
  return by !== null && (how === "better" ? by > 0 : how === "worse" ? by < 0 : by === 0);
}

/** The rows that fit, in order. */
function select(run, other, { words, low, high, how, order }) {
  const bounded = low !== null || high !== null;
  const rows = [...run.id.keys()].filter((row) => {
    const score = run.score(row);
    if (bounded && (score === null || (low !== null && score < low) ||
      (high !== null && score > high))) return false;
    if (how && !(other && isChanged(run, other, row, how))) return false;
    return words.every((word) => run.text(row).includes(word));
  });
  if (!order) return rows;
  const value = (row) => (order.slice(1) === "gain" ? gain(run, other, row) : run.score(row));
  const last = (row) => { const x = value(row);
    return x === null ? Infinity : order[0] === "+" ? x : -x; };
  return rows.map((row) => [last(row), row]).sort(([a, x], [b, y]) => (a === b ? x - y : a - b))
    .map(([, row]) => row);
}

/* ---- texts: what was searched for, and what differs ---- */

/** Text in which the words that were searched for are marked. */
function marked(text, words) {
  const found = make("span");
  if (!words.length) return make("span", {}, text);
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  String(text).split(new RegExp(`(${escaped.join("|")})`, "i")).forEach((piece, n) => {
    found.append(n % 2 ? make("mark", {}, piece) : piece);
  });
  return found;
}

const MOST = 4e6; // pairs of tokens that are compared: more are marked as a whole
const tokens = (text) => String(text).match(/\s+|\S+/g) || [];

/** For each of `mine`, whether it is missing in the longest sequence that both have in common. */
function differing(mine, theirs) {
  let start = 0, end = 0;
  const least = Math.min(mine.length, theirs.length);
  while (start < least && mine[start] === theirs[start]) start += 1;
  while (end < least - start && mine.at(-1 - end) === theirs.at(-1 - end)) end += 1;
  const a = mine.slice(start, mine.length - end), b = theirs.slice(start, theirs.length - end);
  const changed = mine.map((_, n) => n >= start && n < mine.length - end);
  if (a.length * b.length > MOST) return changed;
  const wide = b.length + 1;
  const common = new Uint32Array((a.length + 1) * wide); // of the rests from i and j
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      common[i * wide + j] = a[i] === b[j] ? common[(i + 1) * wide + j + 1] + 1
        : Math.max(common[(i + 1) * wide + j], common[i * wide + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) { changed[start + i] = false; i += 1; j += 1; }
    else if (common[(i + 1) * wide + j] >= common[i * wide + j + 1]) i += 1;
    else j += 1;
  }
  return changed;
}

/** Pieces of text, those that differ as `name` elements; `special` tokens become what it makes. */
function pieces(all, changed, name, words, special = () => null) {
  const found = [];
  for (let n = 0; n < all.length;) {
    const own = special(all[n]);
    if (own) { found.push(own); n += 1; continue; }
    let end = n;
    while (end < all.length && changed[end] === changed[n] && !special(all[end])) end += 1;
    const text = marked(all.slice(n, end).join(""), words);
    found.push(changed[n] && text.textContent.trim() ? make(name, {}, text) : text);
    n = end;
  }
  return found;
}

/* ---- one example ---- */

const [BREAK, QUESTION] = ["\u001e", "\u001f"]; // between passages; where one ends with the question

function promptTokens(run, row) {
  return run.passages[row].flatMap((passage, n) => [...(n ? [BREAK] : []),
    ...(Array.isArray(passage) ? [...tokens(passage[0]), QUESTION] : tokens(passage))]);
}

/** One run's side of an example; `other` is null where there is nothing to compare with. */
function side(run, other, row, words, name, title) {
  const tag = (token) => (token === QUESTION ? make("span", { className: "tag" }, "the question")
    : null);
  const texts = (mine, theirs) => pieces(mine, theirs ? differing(mine, theirs) : mine.map(() => false),
    name, words, tag);
  const answer = texts(tokens(run.prediction[row]), other && tokens(other.prediction[row]));
  const passages = make("ol", { className: "passages" });
  let passage = null;
  const open = () => { passage = make("li", { className: "text" }); passages.append(passage); };
  const mine = promptTokens(run, row), theirs = other && promptTokens(other, row);
  const changed = theirs ? differing(mine, theirs) : mine.map(() => false);
  if (mine.length) open();
  for (let n = 0; n < mine.length;) {
    let end = n;
    while (end < mine.length && mine[end] !== BREAK) end += 1;
    passage.append(...pieces(mine.slice(n, end), changed.slice(n, end), name, words, tag));
    if (end < mine.length) open();
    n = end + 1;
  }
  const scores = Object.entries(run.scores).map(([metric, all]) => `${metric} ${shown(all[row])}`);
  return make("div", { className: "side" }, make("h4", {}, title),
    make("dl", {}, ...pair("prediction", run.prediction[row] === "" ? [make("i", {}, "empty output")] : answer),
      ...pair("scores", [scores.join(", ") || "none"]), ...pair("items shown", [items(run, row)])),
    make("h4", {}, run.passages[row].length > 1 ? "Passages given to the model" : "Prompt"),
    mine.length ? passages : make("p", { className: "note" }, "not recorded"),
    run.cut[row] ? make("p", { className: "note" }, `${number.format(run.cut[row])} more ` +
      "characters are not on this page: see prompts.jsonl of the run") : null);
}

const pair = (name, content) => [make("dt", {}, name),
  make("dd", { className: "text" }, ...content)];

function items(run, row) {
  if (!run.items[row].length) return "none";
  return make("ol", { className: "items" }, ...run.items[row].map((id, n) =>
    make("li", {}, make("code", {}, id), ` score ${shown(run.itemScores[row][n])}`)));
}

function detail(run, other, row, words) {
  const question = run.input[row];
  const known = question !== null && question !== undefined;
  return make("div", { className: "detail" },
    make("dl", {}, ...(known ? pair("question", [marked(question, words)]) : []),
      ...pair("gold", [run.target[row] === null ? "not known" : marked(run.target[row], words)]),
      ...pair("user", [`${run.user[row]}, ${number.format(run.size[row])} profile items`])),
    make("div", { className: "sides" }, side(run, other, row, words, "ins", "This run"),
      other && side(other, run, row, words, "del", "Compared with")));
}

function summary(run, other, row, words) {
  const by = gain(run, other, row);
  const mark = by === null ? null : by > 0 ? "good" : by < 0 ? "bad" : "even";
  const said = { good: "better than the other run", bad: "worse than the other run",
    even: "same score as the other run" };
  const score = make("span", { className: "score" }, shown(run.score(row)));
  if (mark) {
    score.append(make("span", { className: mark, title: said[mark] },
      ` ${{ good: "▲", bad: "▼", even: "=" }[mark]} ${signed(by)}`),
    make("span", { className: "unseen" }, ` (${said[mark]})`));
  }
  return make("summary", {},
    make("span", { className: "id" }, marked(run.id[row], words)), score,
    make("span", { className: "answer" }, run.prediction[row] === ""
      ? make("i", {}, "empty output") : marked(run.prediction[row], words)),
    run.target[row] === null ? null
      : make("span", { className: "gold" }, "gold: ", marked(run.target[row], words)));
}

/* ---- the comparison of two runs ---- */

/** The test of the main metric, as the difference of the first run from the second. */
function test(tests, run, other) {
  const swapped = run.place < other.place;
  const found = tests[swapped ? `${run.place}-${other.place}` : `${other.place}-${run.place}`];
  if (!found) return "not tested here: python -m lamp_exp.report compare";
  const [low, high] = swapped ? [-found.high, -found.low] : [found.low, found.high];
  const ends = found.low === null || found.high === null ? "" : `95% interval [${signed(low)}, ${signed(high)}], `;
  return `${ends}p ${found.p !== null && found.p < 0.0001 ? "< 0.0001" : `= ${found.p === null ? "–" : found.p.toFixed(4)}`} (${found.test})`;
}

function metricRows(tests, run, other) {
  return Object.keys(run.metrics).filter((name) => name in other.metrics).map((name) => {
    const [a, b] = [run.metrics[name], other.metrics[name]];
    const better = (a - b) * (run.higher[name] ? 1 : -1);
    const cell = (content, label, className = "number") => make("td",
      { role: "cell", className, "data-name": label }, content);
    return make("tr", { role: "row" },
      make("th", { scope: "row", role: "rowheader" },
        `${name} (${run.higher[name] ? "higher" : "lower"} is better)`),
      cell(shown(a), "run"), cell(shown(b), "compared with"),
      cell(signed(a - b), "difference", `number ${better > 0 ? "good" : better < 0 ? "bad" : ""}`),
      cell(name === run.metric ? test(tests, run, other) : "", "test", ""));
  });
}

class Browser {
  constructor(root, runs, tests) {
    Object.assign(this, { root, runs, tests, opened: new Map(), at: 0 });
    this.on = (name) => root.querySelector(`[name=${name}]`);
    this.part = (name) => root.querySelector(`.${name}`);
    const tasks = [...new Set(runs.map((run) => run.task))];
    this.on("task").append(...tasks.map((task) => make("option", { value: task }, task)));
    this.on("task").addEventListener("input", () => { this.listRuns(); this.choose(); });
    this.on("run").addEventListener("input", () => this.choose());
    this.on("other").addEventListener("input", () => this.chooseOther());
    for (const name of ["words", "low", "high", "how", "order"]) {
      this.on(name).addEventListener("input", () => this.apply());
    }
    this.on("reset").addEventListener("click", () => this.reset());
    this.on("before").addEventListener("click", () => this.turn(-1));
    this.on("after").addEventListener("click", () => this.turn(1));
    this.on("at").addEventListener("change", () => this.goTo(Number(this.on("at").value) - 1));
    root.querySelectorAll("form").forEach((form) =>
      form.addEventListener("submit", (event) => event.preventDefault()));
    this.listRuns();
    this.choose();
  }

  /** Options of the runs that fit, in their sets. */
  list(fits) {
    const groups = new Map();
    this.runs.forEach((run, place) => {
      if (!fits(run, place)) return;
      if (!groups.has(run.set)) groups.set(run.set, []);
      groups.get(run.set).push(make("option", { value: place }, run.label));
    });
    return [...groups].map(([label, options]) => make("optgroup", { label }, ...options));
  }

  listRuns() {
    const task = this.on("task").value;
    this.on("run").replaceChildren(...this.list((run) => !task || run.task === task));
  }

  open(place) {
    if (!this.opened.has(place)) this.opened.set(place, new Examples(this.runs[place], place));
    return this.opened.get(place);
  }

  choose() {
    const place = Number(this.on("run").value);
    this.run = this.open(place);
    const { questions, baseline } = this.runs[place];
    this.on("other").replaceChildren(make("option", { value: "" }, "no other run"),
      ...this.list((run, n) => n !== place && run.questions === questions));
    const first = this.on("other").querySelector("optgroup option");
    this.on("other").value = baseline !== null ? baseline : first ? first.value : "";
    this.part("about").textContent = this.run.about;
    this.part("metric").textContent = this.run.main ? this.run.metric : "score";
    this.on("low").disabled = this.on("high").disabled = !this.run.main;
    this.chooseOther();
  }

  chooseOther() {
    const value = this.on("other").value;
    this.other = value === "" ? null : this.open(Number(value));
    this.on("how").disabled = !this.other;
    if (!this.other) this.on("how").value = "";
    this.part("comparison").hidden = !this.other;
    if (this.other) this.compare();
    this.apply();
  }

  compare() {
    const { run, other } = this;
    const apart = Object.keys(run.choices).filter((name) => name in other.choices &&
      run.choices[name] !== other.choices[name]);
    const words = apart.map((name) => `${name} ${run.choices[name]} instead of ${other.choices[name]}`);
    this.part("apart").replaceChildren(make("b", {}, run.method), " compared with ",
      make("b", {}, other.method), words.length ? `; ${words.join(", ")}` : "");
    this.part("metrics").tBodies[0].replaceChildren(...metricRows(this.tests, run, other));
    const named = { better: "better", worse: "worse", equal: "with the same score",
      other: "with another answer" };
    const rows = [...run.id.keys()];
    this.part("flips").replaceChildren("Questions: ", ...Object.entries(named).map(([how, text]) => {
      const count = rows.filter((row) => isChanged(run, other, row, how)).length;
      const button = make("button", { type: "button", className: "plain" }, `${number.format(count)} ${text}`);
      button.addEventListener("click", () => { this.on("how").value = how; this.apply(); });
      return button;
    }));
  }

  reset() {
    for (const name of ["words", "low", "high", "how", "order"]) this.on(name).value = "";
    this.apply();
  }

  apply() {
    const bound = (name) => (this.on(name).value === "" ? null : Number(this.on(name).value));
    this.words = this.on("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    this.rows = select(this.run, this.other, { words: this.words, low: bound("low"),
      high: bound("high"), how: this.on("how").value, order: this.on("order").value });
    this.goTo(0);
  }

  get pages() { return Math.max(1, Math.ceil(this.rows.length / PAGE)); }

  turn(by) {
    this.goTo(this.at + by);
    this.part("list").scrollIntoView({ block: "nearest" });
  }

  goTo(page) {
    this.at = Math.min(Math.max(0, Math.floor(page) || 0), this.pages - 1);
    const rows = this.rows.slice(this.at * PAGE, (this.at + 1) * PAGE);
    this.part("list").replaceChildren(...rows.map((row) => this.item(row)));
    this.tell(rows.length);
  }

  item(row) {
    const { run, other, words } = this;
    const box = make("details", { className: "example" }, summary(run, other, row, words));
    box.addEventListener("toggle", () => {
      if (box.open && box.children.length === 1) box.append(detail(run, other, row, words));
    });
    return make("li", {}, box);
  }

  tell(shownNow) {
    const first = this.at * PAGE + 1;
    const found = number.format(this.rows.length), all = number.format(this.run.id.length);
    const of = found === all ? "" : ` (of ${all})`;
    this.part("found").textContent = shownNow
      ? `Examples ${number.format(first)} to ${number.format(first + shownNow - 1)} of ${found}${of}`
      : `No example of ${all} fits`;
    this.on("at").value = this.at + 1;
    this.on("at").max = this.pages;
    this.part("pages").textContent = `of ${number.format(this.pages)}`;
    // aria-disabled, so that the focus stays where it is on the last page
    this.on("before").setAttribute("aria-disabled", String(this.at === 0));
    this.on("after").setAttribute("aria-disabled", String(this.at === this.pages - 1));
  }
}

document.querySelectorAll("main table:not(.metrics)").forEach(enhance);
document.querySelectorAll(".scroll").forEach(reachable);
const browser = document.querySelector(".browser");
browser.hidden = false;
new Browser(browser, data("example-runs"), data("example-tests"));
