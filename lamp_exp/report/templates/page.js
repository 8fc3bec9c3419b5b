"use strict";
/* Sorts and filters tables, and shows examples. All that is shown of them is set as text. */

const data = (element) => JSON.parse(element.textContent);
const number = new Intl.NumberFormat("en");

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

/** A table's rows, each with those that stand below it and belong to it. */
function blocks(body) {
  const found = [];
  for (const row of body.rows) {
    if (row.classList.contains("value") || !found.length) found.push([row]);
    else found[found.length - 1].push(row);
  }
  return found.map((rows, place) => ({
    rows,
    place,
    text: rows.map((row) => row.textContent).join(" ").toLowerCase(),
  }));
}

function key(cell) {
  const text = cell.textContent.trim();
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  if (text === "" || text === "–") return null;
  return Number.isNaN(Number(text)) ? text : Number(text);
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, "en", { numeric: true });
}

/** In the order of a column; what has no value comes last in either direction. */
function sorted(all, column, direction) {
  if (direction === "none") return [...all].sort((a, b) => a.place - b.place);
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = all.map((block) => [key(block.rows[0].cells[column]), block]);
  keyed.sort(([a, x], [b, y]) => {
    if (a === null || b === null) return (a === null) - (b === null) || x.place - y.place;
    return sign * compare(a, b) || x.place - y.place;
  });
  return keyed.map(([, block]) => block);
}

function sortable(table, all) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  heads.forEach((head, column) => {
    const name = head.textContent;
    const button = make("button", { type: "button", className: "sort" }, name);
    head.dataset.name = name;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = next[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", direction);
      const order = sorted(all, column, direction);
      body.append(...order.flatMap((block) => block.rows));
    });
  });
}

/** Words that must all be there, and a choice for each column of the head with few values. */
function filterable(table, all, title) {
  const words = make("input", { type: "search", "aria-label": `Filter rows of: ${title}`,
    placeholder: "filter rows" });
  const note = make("span", { className: "note", role: "status" });
  const choices = columnsToChoose(table, all);
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const block of all) {
      const fits = wanted.every((word) => block.text.includes(word)) &&
        choices.every(({ select, column }) =>
          select.value === "" || block.rows[0].cells[column].textContent === select.value);
      block.rows.forEach((row) => { row.hidden = !fits; });
      shown += fits;
    }
    note.textContent = `${number.format(shown)} of ${number.format(all.length)} rows`;
  };
  const controls = [words, ...choices.map(({ select }) => select)];
  controls.forEach((control) => control.addEventListener("input", apply));
  apply();
  return make("div", { className: "controls" }, words,
    ...choices.map(({ select, name }) => make("label", {}, `${name} `, select)), note);
}

function columnsToChoose(table, all) {
  const found = [];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.classList.contains("number")) return;
    const name = head.textContent;
    const values = [...new Set(all.map((block) => block.rows[0].cells[column].textContent))];
    if (values.length < 2 || values.length > 20) return;
    values.sort(compare);
    const select = make("select", {}, make("option", { value: "" }, "all"),
      ...values.map((value) => make("option", { value }, value || "(empty)")));
    found.push({ select, name, column });
  });
  return found;
}

function enhance(table) {
  const all = blocks(table.tBodies[0]);
  const title = table.getAttribute("aria-label") || "table";
  const scroll = table.closest(".scroll");
  const filter = all.length > 8 ? filterable(table, all, title) : null;
  sortable(table, all);
  if (filter) scroll.before(filter);
  reachable(scroll, title);
}

/** What is larger than its box can be scrolled by keyboard, and has a name. */
function reachable(box, title) {
  const look = () => {
    const large = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (large) Object.entries({ tabindex: "0", role: "region", "aria-label": title })
      .forEach(([name, value]) => box.setAttribute(name, value));
    else ["tabindex", "role", "aria-label"].forEach((name) => box.removeAttribute(name));
  };
  new ResizeObserver(look).observe(box);
}

/* ---- examples ---- */

const PAGE = 25;

/** A run's examples: columns as they were embedded, read when the run is first chosen. */
class Examples {
  constructor(about, columns) {
    Object.assign(this, about);
    this.columns = columns;
    this.n = columns.id.length;
    this.main = columns.scores[this.metric] || null;
    this.other = columns.baseline && columns.baseline.scores[this.metric] || null;
    this.texts = null;
  }

  /** Positive where the profile helped, whatever the metric's direction. */
  gain(row) {
    if (!this.main || !this.other) return null;
    const [mine, theirs] = [this.main[row], this.other[row]];
    if (mine === null || theirs === null || theirs === undefined) return null;
    return (this.higher ? 1 : -1) * (mine - theirs);
  }

  question(row) {
    return this.columns.input[row];
  }

  passages(row) {
    return this.columns.passages[row];
  }

  text(row) {
    if (!this.texts) {
      const { id, user, target, prediction } = this.columns;
      this.texts = id.map((name, n) => [name, user[n], target[n], prediction[n],
        this.question(n), this.passages(n).flat().join("\n")].join("\n").toLowerCase());
    }
    return this.texts[row];
  }

  changed(row, how) {
    const baseline = this.columns.baseline;
    if (!baseline) return false;
    if (how === "other" || how === "same") {
      return (baseline.prediction[row] !== this.columns.prediction[row]) === (how === "other");
    }
    const gain = this.gain(row);
    if (gain === null) return false;
    return how === "better" ? gain > 0 : how === "worse" ? gain < 0 : gain === 0;
  }

  select({ words, low, high, how, order }) {
    const chosen = [];
    const bounded = low !== null || high !== null;
    for (let row = 0; row < this.n; row += 1) {
      const score = this.main ? this.main[row] : null;
      if (bounded && (score === null || (low !== null && score < low) ||
        (high !== null && score > high))) continue;
      if (how && !this.changed(row, how)) continue;
      if (words.length && !words.every((word) => this.text(row).includes(word))) continue;
      chosen.push(row);
    }
    return this.ordered(chosen, order);
  }

  ordered(rows, order) {
    if (!order) return rows;
    const [what, sign] = [order.slice(1), order[0] === "+" ? 1 : -1];
    const value = (row) => what === "gain" ? this.gain(row) : this.main && this.main[row];
    const last = (row) => { const x = value(row); return x === null ? Infinity : sign * x; };
    return rows.map((row) => [last(row), row])
      .sort(([a, x], [b, y]) => (a === b ? x - y : a - b)).map(([, row]) => row);
  }
}

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

const shown = (value) => (value === null || value === undefined ? "–"
  : Number.isInteger(value) ? String(value) : value.toFixed(3));

function summary(run, row, words) {
  const { id, target, prediction } = run.columns;
  const gain = run.gain(row);
  const mark = gain === null ? null : gain > 0 ? "good" : gain < 0 ? "bad" : "even";
  const words_of = { good: "better than without profile", bad: "worse than without profile",
    even: "same score as without profile" };
  const score = make("span", { className: "score" }, shown(run.main && run.main[row]));
  if (mark) {
    const text = `${{ good: "▲", bad: "▼", even: "=" }[mark]} ${gain > 0 ? "+" : ""}${shown(gain)}`;
    score.append(make("span", { className: mark, title: words_of[mark] }, ` ${text}`));
    score.append(make("span", { className: "unseen" }, ` (${words_of[mark]})`));
  }
  return make("summary", {},
    make("span", { className: "id" }, marked(id[row], words)), score,
    make("span", { className: "answer" }, prediction[row] === ""
      ? make("i", {}, "empty output") : marked(prediction[row], words)),
    target[row] === null ? null
      : make("span", { className: "gold" }, "gold: ", marked(target[row], words)));
}

function pair(name, value, className = "") {
  return [make("dt", {}, name), make("dd", { className }, value)];
}

function scores(columns, row) {
  return Object.entries(columns.scores).map(([name, all]) => `${name} ${shown(all[row])}`).join(", ");
}

function detail(run, row, words) {
  const { columns } = run;
  const list = make("dl");
  const question = run.question(row);
  if (question !== null && question !== undefined) {
    list.append(...pair("question", marked(question, words), "text"));
  }
  list.append(...pair("gold", columns.target[row] === null ? "not known"
    : marked(columns.target[row], words), "text"));
  list.append(...pair("prediction", marked(columns.prediction[row], words), "text"));
  list.append(...pair("scores", scores(columns, row) || "none"));
  if (columns.baseline) {
    const there = columns.baseline.prediction[row];
    const known = there !== null && there !== undefined;
    list.append(...pair("without profile", known ? marked(there, words) : "not answered", "text"));
    if (known) list.append(...pair("its scores", scores(columns.baseline, row) || "none"));
  }
  list.append(...pair("user", `${columns.user[row]}, ${number.format(columns.size[row])} profile items`));
  list.append(...pair("items shown", items(columns, row)));
  return make("div", { className: "detail" }, list, ...prompt(run, row, words));
}

function items(columns, row) {
  const ids = columns.items[row];
  if (!ids.length) return "none";
  return make("ol", { className: "items" }, ...ids.map((id, n) =>
    make("li", {}, make("code", {}, id), ` score ${shown(columns.itemScores[row][n])}`)));
}

/** The passages; where one ends with the question, as most do, it is not repeated. */
function prompt(run, row, words) {
  const passages = run.passages(row);
  const made = passages.map((passage) => {
    const [text, end] = Array.isArray(passage)
      ? [passage[0], make("span", { className: "tag" }, "the question")] : [passage, null];
    return make("li", { className: "text" }, marked(text, words), end);
  });
  const more = run.columns.cut[row];
  return [make("h4", {}, passages.length > 1 ? "Passages given to the model" : "Prompt"),
    make("ol", { className: "passages" }, ...made),
    more ? make("p", { className: "note" }, `${number.format(more)} more characters are not on ` +
      "this page: see prompts.jsonl of the run") : null].filter(Boolean);
}

class Browser {
  constructor(root, runs) {
    this.root = root;
    this.runs = runs;
    this.opened = new Map();
    this.at = 0;
    this.on = (name) => root.querySelector(`[name=${name}]`);
    const tasks = [...new Set(runs.map((run) => run.task))];
    this.on("task").append(...tasks.map((task) => make("option", { value: task }, task)));
    this.on("task").addEventListener("input", () => { this.listRuns(); this.choose(); });
    this.on("run").addEventListener("input", () => this.choose());
    for (const name of ["words", "low", "high", "how", "order"]) {
      this.on(name).addEventListener("input", () => this.apply());
    }
    this.on("reset").addEventListener("click", () => this.reset());
    this.on("before").addEventListener("click", () => this.turn(-1));
    this.on("after").addEventListener("click", () => this.turn(1));
    this.on("at").addEventListener("change", () => this.goTo(Number(this.on("at").value) - 1));
    root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    this.listRuns();
    this.choose();
  }

  listRuns() {
    const task = this.on("task").value;
    const groups = new Map();
    this.runs.forEach((run, place) => {
      if (task && run.task !== task) return;
      if (!groups.has(run.set)) groups.set(run.set, []);
      groups.get(run.set).push(make("option", { value: place }, run.label));
    });
    this.on("run").replaceChildren(...[...groups].map(([label, options]) =>
      make("optgroup", { label }, ...options)));
  }

  choose() {
    const place = Number(this.on("run").value);
    if (!this.opened.has(place)) {
      const about = this.runs[place];
      const questions = data(document.getElementById(`questions-${about.questions}`));
      const answers = data(document.getElementById(`examples-${place}`));
      this.opened.set(place, new Examples(about, { ...questions, ...answers }));
    }
    this.run = this.opened.get(place);
    this.root.querySelector(".about").textContent = this.run.about;
    this.root.querySelector(".metric").textContent = this.run.main ? this.run.metric : "score";
    this.on("low").disabled = this.on("high").disabled = !this.run.main;
    this.on("how").disabled = !this.run.columns.baseline;
    if (!this.run.columns.baseline) this.on("how").value = "";
    this.apply();
  }

  reset() {
    for (const name of ["words", "low", "high", "how", "order"]) this.on(name).value = "";
    this.apply();
  }

  apply() {
    const bound = (name) => (this.on(name).value === "" ? null : Number(this.on(name).value));
    this.words = this.on("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    this.rows = this.run.select({
      words: this.words, low: bound("low"), high: bound("high"),
      how: this.on("how").value, order: this.on("order").value,
    });
    this.goTo(0);
  }

  get pages() { return Math.max(1, Math.ceil(this.rows.length / PAGE)); }

  turn(by) {
    this.goTo(this.at + by);
    this.root.querySelector(".list").scrollIntoView({ block: "nearest" });
  }

  goTo(page) {
    this.at = Math.min(Math.max(0, Math.floor(page) || 0), this.pages - 1);
    const rows = this.rows.slice(this.at * PAGE, (this.at + 1) * PAGE);
    this.root.querySelector(".list").replaceChildren(...rows.map((row) => this.item(row)));
    this.tell(rows.length);
  }

  item(row) {
    const box = make("details", { className: "example" }, summary(this.run, row, this.words));
    const { run, words } = this;
    box.addEventListener("toggle", () => {
      if (box.open && box.children.length === 1) box.append(detail(run, row, words));
    });
    return make("li", {}, box);
  }

  tell(shownNow) {
    const first = this.at * PAGE + 1;
    const found = number.format(this.rows.length);
    const of = this.rows.length === this.run.n ? "" : ` (of ${number.format(this.run.n)})`;
    this.root.querySelector(".found").textContent = shownNow
      ? `Examples ${number.format(first)} to ${number.format(first + shownNow - 1)} of ${found}${of}`
      : `No example of ${number.format(this.run.n)} fits`;
    this.on("at").value = this.at + 1;
    this.on("at").max = this.pages;
    this.root.querySelector(".pages").textContent = `of ${number.format(this.pages)}`;
    // aria-disabled, so that the focus stays where it is on the last page
    this.on("before").setAttribute("aria-disabled", String(this.at === 0));
    this.on("after").setAttribute("aria-disabled", String(this.at === this.pages - 1));
  }
}

document.querySelectorAll("main table").forEach(enhance);
document.querySelectorAll(".drawing").forEach((box) =>
  reachable(box, box.querySelector("title").textContent));
const browser = document.querySelector(".browser");
if (browser) {
  browser.hidden = false;
  new Browser(browser, data(document.getElementById("example-runs")));
}
