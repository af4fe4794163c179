// The front end of the explorer. It sends messages to widget.py, whose "do" says what to do, and shows the
// answers, whose "is" says what they are. Texts are set as text, never as markup.

const GAP = 4, PART = 1 << 20;  // pixels between tiles, bytes of a file in one message
const AT_ONCE = 8, REQUESTS = 3, KEPT = 1500;  // previews in a request, open requests, previews kept
const AHEAD = "600px 0px";  // how far outside the visible results previews are requested
const SOON = 300, SILENCE = 8000;  // milliseconds until progress, or a missing answer, is shown
const WATCH = 3000, MOST_HISTORY = 30;  // milliseconds between two checks of the page's server; queries kept
const LONG = { media: "opening the media …", search: "searching …", missed: "ranking every caption …" };
const NOTHING = { text: "", like: "", file: "" };  // a query sets one of these
const ZERO_SHOT = "without adapter", OWN_KEYS = "data-lm-suppress-shortcuts";
const DRAGS = ["dragenter", "dragover", "dragleave", "drop"];
const HINT = "Type what you look for, or drop a picture or clip here to find others like it. "
  + "A dropped file is kept only until this page is closed, or the notebook's kernel stops.";
const HOW_TO_READ = "The thicker the line below a word and the brighter a patch, the more it weighs. "
  + "What was not seen is dimmed.";
const PAGE = `
<div class="cma-top">
  <h1 data-part="title">Ask your pictures and clips</h1>
  <form class="cma-ask" role="search" data-part="form">
    <input type="search" data-part="box" aria-label="query" placeholder="type a few words">
    <button class="cma-main">search</button>
    <label class="cma-file">picture or clip … <input type="file" data-part="chosen"></label>
  </form>
  <p class="cma-note" data-part="note"></p>
  <div class="cma-row">
    <label data-option="media">media <select data-part="media"></select></label>
    <fieldset class="cma-row" data-option="adapters" data-part="models"></fieldset>
    <label data-option="adapters">strength <input type="range" data-part="strength"><i data-part=amount></i></label>
    <label data-option="kinds">show <select data-part="kind"></select></label>
    <label data-option="folders">in <select data-part="folder"></select></label>
    <button data-option="examples" aria-expanded="false">examples</button>
    <button data-option="missed" aria-expanded="false">what CLIP misses</button>
    <button data-option="history" aria-expanded="false">history</button>
  </div>
  <div class="cma-list" data-part="list" role="region" aria-label="suggestions" tabindex="0" hidden></div>
  <details class="cma-note" data-part="unread" hidden></details>
  <p class="cma-row" data-part="busy" role="status" hidden><progress data-part="bar" aria-label="progress">
    </progress> <span data-part="doing"></span> <button data-part="stop">cancel</button></p>
  <p class="cma-alert" data-part="gone" role="alert"></p><p class="cma-alert" data-part="alert" role="alert"></p>
  <p class="cma-note" data-part="heading" role="status"></p>
</div>
<div class="cma-results" data-part="results" tabindex="-1"></div>`;

/** Make an element whose keys JupyterLab ignores. A function as attribute handles the event of its name. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries({ [OWN_KEYS]: "", ...attributes })) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const list = (texts) => make("ul", {}, ...texts.map((text) => make("li", {}, text)));
const count = (number) => number.toLocaleString("en");
const plural = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;
const addressOf = (bytes) => URL.createObjectURL(new Blob([bytes]));
const alike = (score) => `how alike: ${score.toFixed(3)}`;
const asked = ({ text, like, file }) => text ? `“${text}”` : like ? `more like ${like}` : `the file ${file}`;
const own = (event) => event.preventDefault() ?? event.stopPropagation();  // so that no notebook acts on it
const same = (one, other) => Object.keys(NOTHING).every((key) => one[key] === other[key]);

/** Make a picture that frees its bytes once it is shown. */
function photo(bytes, alt) {
  const image = make("img", { alt, load: () => URL.revokeObjectURL(image.src) });
  image.src = addressOf(bytes);
  return image;
}

/** Small pictures, requested when their tile comes near the visible part and removed when it is far. */
class Previews {
  constructor(send, root) {
    Object.assign(this, { send, kept: new Map(), waiting: new Set(), asked: new Map(), requests: 0 });
    const look = ({ target: row, isIntersecting: near }) => row.childNodes.forEach((tile) => this.see(tile, near));
    this.observer = new IntersectionObserver((entries) => entries.forEach(look), { root, rootMargin: AHEAD });
  }

  /** Forget the tiles of the last search. */
  reset() {
    this.observer.disconnect();
    Object.assign(this, { waiting: new Set(), asked: new Map(), requests: 0 });
  }

  see(tile, near) {
    tile.near = near;
    if (near && this.kept.has(tile.hit.key)) return this.show(tile, this.kept.get(tile.hit.key));
    this.waiting[near ? "add" : "delete"](tile);
    if (near) this.request();
    else tile.image.removeAttribute("src");
  }

  /** Show a preview, and keep the ones that were shown most recently. */
  show(tile, address) {
    if (tile.near) tile.image.src = address;
    this.kept.delete(tile.hit.key);
    this.kept.set(tile.hit.key, address);
    const [oldest, gone] = this.kept.entries().next().value;
    if (this.kept.size > KEPT && this.kept.delete(oldest)) URL.revokeObjectURL(gone);
  }

  request() {
    while (this.waiting.size && this.requests < REQUESTS) {
      const tiles = [...this.waiting].slice(0, AT_ONCE);
      tiles.forEach((tile) => this.waiting.delete(tile));
      this.requests += 1;
      this.ask(tiles, false);
    }
  }

  ask(tiles, moving) {
    tiles.forEach((tile) => this.asked.set([tile.column, tile.hit.item, moving].join(), tile));
    this.send("thumbs", { moving, items: tiles.map((tile) => [tile.column, tile.hit.item]) });
  }

  receive({ items, moving, text, problems = items.map(() => text) }, buffers) {
    problems.forEach((problem, at) => {
      const tile = this.asked.get([...items[at], moving].join());
      if (problem) tile?.fail(problem);
      else if (moving) tile?.play(buffers[at]);
      else if (tile) this.show(tile, addressOf(buffers[at]));
    });
    this.requests -= moving ? 0 : 1;
    this.request();
  }
}

/** One result as a button; a clip plays while the pointer is over it. */
function makeTile(column, hit, previews, open) {
  const image = make("img", { alt: "" }), title = make("b", {}, hit.title), clip = hit.kind === "video";
  const more = hit.alike.length, copies = more && `+${count(more)} alike`, right = hit.right && "right answer";
  const label = [`${hit.rank}. ${hit.title}`, clip && "clip", alike(hit.score), right, copies];
  let over = false;
  const start = () => { over = clip; if (clip) previews.ask([tile], true); };
  const stop = () => { over = false; if (clip) image.src = previews.kept.get(hit.key) ?? ""; };
  const play = (bytes) => { if (over) image.src = photo(bytes, "").src; };
  const fail = (problem) => { tile.classList.add("cma-broken"); title.textContent = problem; };
  const tile = make("button", { class: hit.right ? "cma-tile cma-right" : "cma-tile", "data-file": hit.file,
    "aria-label": label.filter(Boolean).join(", "), click: open, pointerenter: start, pointerleave: stop },
    image, make("span", { class: "cma-rank" }, `${hit.rank}${hit.right ? " ✓" : ""}`),
    make("span", { class: "cma-info" }, title, hit.score.toFixed(3)));
  if (clip) tile.append(make("span", { class: "cma-clip" }, "▶"));
  if (copies) tile.append(make("span", { class: "cma-alike" }, copies));
  return Object.assign(tile, { column, hit, image, play, fail });
}

/** The results of one model: rows of one height each, as wide as the column. */
class Column {
  constructor(about) {
    Object.assign(this, { about, label: about.label, tiles: [], last: 0 });
    this.title = about.zero ? ZERO_SHOT : about.label;
    this.grid = make("div", { class: "cma-grid", keydown: (event) => this.walk(event) });
    this.node = make("section", { class: "cma-column", "aria-label": this.title, "data-label": about.label },
      make("header", {}, make("h2", {}, this.title), make("span", {}, this.facts())), this.grid);
  }

  facts() {
    const { items, ranked, right, seconds, cut } = this.about;
    const all = plural(items, "item"), place = right && `right answer at rank ${count(right)}`;
    const facts = [ranked < items ? `${count(ranked)} of ${all}` : all, `${seconds.toFixed(3)} s`, place];
    if (cut) facts.push("the query is longer than the model takes: its end is left out");
    return facts.filter(Boolean).join(" · ");
  }

  add(hits, { previews, viewer }) {
    for (const hit of hits) {
      const tile = makeTile(this.label, hit, previews, () => viewer.open(this, this.tiles.indexOf(tile)));
      tile.tabIndex = this.tiles.length ? -1 : 0;
      this.tiles.push(tile);
    }
    if (!this.tiles.length) this.grid.append(make("p", {}, "nothing here: choose another kind or folder"));
    this.layout(this.last, previews);
  }

  /** Lay out the tiles, beginning with one that starts a row. A row that is full is scaled to fit exactly. */
  layout(from, previews) {
    const width = (this.width = this.grid.clientWidth), wanted = Math.max(84, Math.min(190, width / 4));
    const held = this.tiles.find((tile) => tile === document.activeElement);  // it moves: refocused below
    let row = [], sum = 0;
    const close = (most) => {
      const height = Math.min(most, (width - GAP * (row.length - 1) - 0.5) / sum);
      row.forEach((tile) => { tile.style.width = `${height * tile.ratio}px`; });
      const line = make("div", { class: "cma-line", style: `height: ${height}px` }, ...row);
      previews.observer.observe(line);
      this.grid.append(line);
      [row, sum] = [[], 0];
    };
    const old = from ? [this.grid.lastChild] : [...this.grid.querySelectorAll(".cma-line")];
    for (const tile of this.tiles.slice(from)) {
      if (!row.length) this.last = this.tiles.indexOf(tile, from);
      tile.ratio = Math.max(0.6, Math.min(2.2, tile.hit.ratio));
      row.push(tile);
      sum += tile.ratio;
      if ((sum + 0.5) * wanted + GAP * (row.length - 1) >= width) close(Infinity);  // (nearly) full
    }
    if (row.length) close(wanted);
    old.forEach((line) => line.remove());
    held?.focus();
  }

  focus(at) {
    const tile = this.tiles[at];
    if (!tile) return;
    this.grid.querySelector("[tabindex='0']")?.setAttribute("tabindex", -1);
    tile.tabIndex = 0;
    tile.focus();
  }

  walk(event) {
    const at = this.tiles.indexOf(event.target), way = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (at >= 0 && step) own(event) ?? this.focus(at + step);
    if (at >= 0 && way) own(event) ?? this.focus(this.beside(event.target, way));
  }

  /** Return the number of the nearest tile in the row above or below. */
  beside(tile, way) {
    const line = tile.parentElement, away = (one) => Math.abs(one.offsetLeft - tile.offsetLeft);
    const row = (way < 0 ? line.previousElementSibling : line.nextElementSibling)?.children ?? [];
    return this.tiles.indexOf([...row].sort((one, other) => away(one) - away(other))[0]);
  }
}

/** One result large, with what is known about it and why it matches. */
class Viewer {
  constructor(explorer) {
    const about = make("aside", { tabindex: 0, "aria-label": "about this result" });
    const node = make("dialog", { class: "cma-viewer", "aria-label": "one result" });
    Object.assign(this, { explorer, about, node, picture: make("img") });
    const close = () => this.node.close(), back = () => this.step(-1), on = () => this.step(1);
    const button = (label, sign, click) => make("button", { "aria-label": label, title: label, click }, sign);
    this.node.append(make("div", { class: "cma-stage" }, this.picture, button("previous result", "‹", back),
      button("next result", "›", on), button("close", "×", close)), this.about);
    this.node.addEventListener("keydown", (event) => this.key(event));
    this.node.addEventListener("close", () => this.column.focus(this.at));
    this.node.addEventListener("click", ({ target }) => target === this.node && close());
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.node.close();
    if (step) own(event) ?? this.step(step);
  }

  step(by) {
    const at = this.at + by;
    if (at >= this.column.tiles.length - 4) this.explorer.more();
    if (this.column.tiles[at]) this.open(this.column, at);
  }

  open(column, at) {
    const { hit } = column.tiles[at], which = { column: column.label, item: hit.item }, { explorer } = this;
    Object.assign(this, { column, at, hit, path: "" });
    Object.assign(this.picture, { src: explorer.previews.kept.get(hit.key) ?? "", alt: hit.title });
    const words = explorer.shown.text;
    this.reason = make("div", {}, words ? "…" : "Asked by a picture or clip: no words to explain by.");
    this.about.replaceChildren(make("h2", {}, hit.title), list(this.places()), this.actions(), this.reason);
    const apart = innerHeight <= screen.height;  // in VS Code the window is as high as the whole notebook
    if (!this.node.open) this.node[apart ? "showModal" : "show"]();
    explorer.send("open", which);
    if (words) explorer.send("why", which);
  }

  /** Say its rank by every model, or the rank of a copy that is shown instead of it. */
  places() {
    const shows = ({ hit }) => [hit.key, ...hit.alike].includes(this.hit.key);
    return this.explorer.columns.map(({ tiles, title }) => {
      const hit = tiles.find(shows)?.hit, by = hit?.key === this.hit.key ? "" : " by a copy of it";
      if (!hit) return `${title}: beyond rank ${count(tiles.length)}`;
      return `${title}: rank ${count(hit.rank)}${by}, ${alike(hit.score)}`;
    });
  }

  actions() {
    const more = () => { this.node.close(); this.explorer.search({ ...NOTHING, like: this.hit.file }); };
    const said = (text) => () => { copy.textContent = text; }, not = said("copy it below");
    const write = () => (this.path && navigator.clipboard?.writeText(this.path).then(said("copied"), not)) || not();
    const copy = make("button", { click: write }, "copy path");
    return make("p", { class: "cma-row" }, make("button", { click: more }, "more like this"), copy);
  }

  receive(answer, buffers) {
    const { is, id, column, item, text } = answer, { explorer: { shown }, hit, path } = this;
    if (id !== shown.id || column !== this.column?.label || item !== hit.item || (path && is === "open")) return;
    if (is === "why") return this.explain(answer, buffers);
    if (is === "error" && answer.do === "why") return this.reason.replaceChildren(text);
    if (is === "error") return this.about.prepend(make("p", { class: "cma-alert", role: "alert" }, text));
    this.path = answer.path;
    this.picture.src = photo(buffers[0], "").src;
    const captions = answer.captions.length ? [make("h3", {}, "Captions"), list(answer.captions)] : [];
    const seen = [make("h3", {}, "What the model saw"), photo(buffers[1], "the part that the model saw")];
    this.about.append(...seen, ...captions, make("h3", {}, "File"), make("p", {}, answer.path));
  }

  explain({ words, weights, cosines }, buffers) {
    const weighs = (weight) => ({ style: `--weight: ${weight}`, title: `weight ${weight.toFixed(2)}` });
    const marks = words.flatMap(([word, weight]) => [make("mark", weighs(weight), word), " "]);
    const frames = buffers.map((bytes, at) => {
      const one = buffers.length === 1, weight = `weight ${weights[at].toFixed(2)}`;
      const about = one ? "the picture" : `frame ${at + 1}: ${weight}, ${alike(cosines[at])}`;
      const below = one ? [] : [make("i", weighs(weights[at])), make("figcaption", {}, about)];
      return make("figure", {}, photo(bytes, `${about}, with the heat of its patches`), ...below);
    });
    this.reason.replaceChildren(make("h3", {}, "Why it matches"), make("p", { class: "cma-words" }, ...marks),
      make("div", { class: "cma-frames" }, ...frames), make("p", { class: "cma-note" }, HOW_TO_READ));
  }
}

/** The whole explorer: the controls, the query whose results are `shown`, and the messages. */
class Explorer {
  constructor(model, page) {
    Object.assign(this, { model, page, setup: model.get("setup"), columns: [], history: [], shown: NOTHING });
    this.id = Math.floor(Math.random() * 1e9);  // of the last request; each view of a widget has its own
    this.build();
    this.previews = new Previews((what, more) => this.send(what, more), this.results);
    this.viewer = new Viewer(this);
    this.node.append(this.viewer.node);
    const fit = (one) => one.width === one.grid.clientWidth || one.layout(0, this.previews);
    this.resized = new ResizeObserver(() => this.columns.forEach(fit));
    this.resized.observe(this.results);
  }

  build() {
    const { setup, page } = this, on = (part, event, act) => part.addEventListener(event, act);
    this.node = make(page ? "main" : "section", { class: "cma-explorer", "aria-label": "explorer" });
    this.node.append(document.createRange().createContextualFragment(PAGE));
    this.node.querySelectorAll("[data-part]").forEach((part) => { this[part.dataset.part] = part; });
    this.options = [...this.node.querySelectorAll("[data-option]")];
    this.title.hidden = !page;
    this.node.querySelectorAll("*").forEach((one) => one.setAttribute(OWN_KEYS, ""));
    this.chosen.accept = setup.suffixes.join();
    this.media.append(...setup.media.map((name) => new Option(name)));
    this.strength.max = this.strength.value = setup.strengths.length - 1;
    for (const part of [this.models, this.strength, this.kind, this.folder]) on(part, "change", () => this.again());
    for (const kind of DRAGS) on(this.node, kind, (event) => this.drag(event));
    for (const button of this.lists()) on(button, "click", () => this.toggle(button));
    const name = () => { this.amount.textContent = setup.strengths[this.strength.value]; };
    on(this.strength, "input", name);
    name();
    on(this.media, "change", () => this.choose(this.media.value));
    on(this.chosen, "change", () => this.sendFile(this.chosen.files[0]));
    on(this.stop, "click", () => this.cancel());
    on(this.results, "scroll", () => this.grow());
    on(this.node, "keydown", (event) => this.key(event));
    const submit = (event) => own(event) ?? this.close() ?? this.search({ ...NOTHING, text: this.box.value });
    on(this.form, "submit", submit);
    on(this.box, "keydown", (event) => event.key === "Enter" && !event.isComposing && submit(event));  // for JupyterLab
  }

  key(event) {
    const typing = event.target.matches("input:not([type=checkbox]), select");
    if (event.key === "/" && !typing && !this.viewer.node.open) own(event) ?? this.box.select();
  }

  drag(event) {
    own(event);
    this.node.classList.toggle("cma-over", event.type === "dragenter" || event.type === "dragover");
    if (event.type === "drop") this.sendFile(event.dataTransfer.files[0]);
  }

  async sendFile(file) {
    const { id, setup: { megabytes: most } } = this, parts = Math.max(1, Math.ceil((file?.size ?? 0) / PART));
    this.chosen.value = "";
    if (!file) return;
    if (file.size > most * 1e6) return this.fail(`${file.name}: more than ${most} MB; choose a smaller file`, true);
    if (!this.active) this.wait("file", `sending ${file.name} …`);
    for (let part = 0; part < parts && id === this.id; part++) {  // until it is cancelled
      const bytes = await file.slice(part * PART, (part + 1) * PART).arrayBuffer().catch(() => null);
      if (!bytes) return this.fail(`${file.name}: cannot be read; choose a picture or clip`, true);
      this.model.send({ do: "file", id, name: file.name, part, parts }, undefined, [bytes]);
    }
  }

  /** Choose other media: the answer says what there is to choose from, and then the query is sent again. */
  choose(name, query = this.query) {
    if (this.setup.media.includes(name)) this.media.value = name;
    if (this.box.value === this.query?.text) this.box.value = query.text;  // otherwise someone is typing
    if (same(query, NOTHING)) this.shown = NOTHING;
    Object.assign(this, { columns: [], next: query, choices: null });
    this.viewer.node.close();
    this.results.replaceChildren(make("p", {}, HINT));
    this.send("media");
  }

  offer(choices) {
    this.choices = choices;
    const { adapters, adapter, kinds, folders, examples, about, unread, skipped, items } = choices;
    const shown = { media: this.setup.media[1], adapters: adapters[0], kinds: kinds[1], folders: folders[0],
      examples: examples[0], missed: examples[0] && adapters[0], history: true };
    this.options.forEach((one) => { one.hidden = !shown[one.dataset.option]; });
    const box = (name) => make("label", {}, make("input", { type: "checkbox", value: name ?? "",
      checked: name === null || name === adapter }), name ?? ZERO_SHOT);
    const fill = (select, ...pairs) => select.replaceChildren(...pairs.map((pair) => new Option(...pair)));
    this.models.replaceChildren(make("legend", {}, "models"), ...[null, ...adapters].map(box));
    fill(this.kind, ["pictures and clips", ""], ["pictures", "image"], ["clips", "video"]);
    fill(this.folder, ["all folders", ""], ...folders.map((name) => [name]));
    const more = unread > skipped.length ? [`and ${count(unread - skipped.length)} more`] : [];
    const summary = make("summary", {}, `${plural(unread, "file")} could not be read`);
    this.unread.hidden = !unread;
    this.unread.replaceChildren(summary, list([...skipped, ...more]));
    this.note.textContent = `Model ${about}.`;
    this.close();
    this.done();
    this.heading.textContent = plural(items, "item");
    if (!same(this.next, NOTHING)) this.search(this.next, false);
    else if (examples[0]) this.toggle(this.lists()[0]);
  }

  /** Open a list of suggestions, which stays until it is closed; close it if it is open. */
  toggle(button) {
    const opens = button.ariaExpanded === "false", { option } = button.dataset;
    this.close();
    if (!opens || !this.choices) return;
    button.ariaExpanded = "true";
    this.list.hidden = false;
    if (option === "examples") this.suggest(this.choices.examples.map((text) => [text, { ...NOTHING, text }]));
    else if (option === "history") this.suggest(this.history.map((query) => [asked(query), query]));
    else this.send("missed", this.wanted());
  }

  close() {
    this.list.hidden = true;
    this.list.replaceChildren();
    this.lists().forEach((button) => { button.ariaExpanded = "false"; });
  }

  lists() { return this.options.filter((one) => one.ariaExpanded); }

  suggest(pairs, head = "") {
    const buttons = pairs.map(([text, query]) => make("button", { click: () => this.search(query) }, text));
    this.list.replaceChildren(make("p", {}, head || (pairs.length ? "" : "nothing yet")), ...buttons);
  }

  send(what, more = {}) {
    if (what in LONG) this.wait(what, LONG[what]);  // it may take long, so it gets an id of its own
    const id = what in LONG ? ++this.id : this.shown.id;
    this.model.send({ do: what, id, media: this.media.value, ...more });
    clearTimeout(this.silence);
    const text = "No answer: the notebook's kernel is busy, or was stopped. Wait, or run the cell again.";
    if (!this.page) this.silence = setTimeout(() => { this.gone.textContent = text; }, SILENCE);
  }

  wanted() {
    const boxes = [...this.models.querySelectorAll("input")];
    const strength = this.setup.strengths[this.strength.value];
    if (!boxes.some((one) => one.checked)) boxes[0].checked = true;
    const adapters = boxes.filter((one) => one.checked).map((one) => one.value || null);
    return { adapters, strength, kind: this.kind.value, folder: this.folder.value };
  }

  /** Search, once the media are open. The old results stay, dimmed, until new ones come. */
  search({ text, like, file }, remember = true) {
    this.next = { text, like, file };
    if (!this.choices) return this.active === "media" || this.choose(this.media.value, this.next);
    this.send("search", { ...this.wanted(), text, like, file });
    this.results.setAttribute("aria-busy", "true");
    this.pending = { text, like, file, remember, typed: this.box.value, id: this.id };
  }

  get query() { return this.choices ? this.pending ?? this.shown : this.next; }  // the query asked last

  /** Send the same query after another choice of models, strength, kind or folder. */
  again() {
    if (this.lists()[1].ariaExpanded === "true") this.close();  // it would now list other captions
    if (!same(this.query, NOTHING)) this.search(this.query, false);
  }

  cancel() {
    this.model.send({ do: "cancel", id: this.id++ });
    this.fail("Cancelled. The same search goes on from what is embedded so far.");
  }

  more() {
    const all = this.columns.every(({ tiles, about }) => tiles.length >= about.ranked);
    if (this.growing || this.pending || all) return;
    this.growing = true;
    this.send("more", { start: Math.max(...this.columns.map((column) => column.tiles.length)) });
  }

  grow() {
    const { scrollTop, clientHeight, scrollHeight } = this.results;
    if (scrollHeight - scrollTop < 3 * clientHeight) this.more();
  }

  wait(what, text) {
    this.done(what);
    this.alert.textContent = "";
    this.doing.textContent = text;
    this.bar.removeAttribute("value");
    this.slow = setTimeout(() => { this.busy.hidden = false; }, SOON);
  }

  done(active = "") {
    clearTimeout(this.slow);
    this.busy.hidden = true;
    Object.assign(this, { active, pending: null, growing: false });
    this.results.removeAttribute("aria-busy");
  }

  fail(text, file = false) {
    if (!file || this.active === "file") this.done();  // a refused file does not stop a search
    this.alert.textContent = text;
  }

  receive(answer, views) {
    const buffers = views.map((one) => new Uint8Array(one.buffer ?? one, one.byteOffset, one.byteLength));
    const { is, id } = answer, { shown } = this, of = is === "error" ? answer.do : is;
    clearTimeout(this.silence);
    if (!this.page) this.gone.textContent = "";
    if (is === "progress" && id === this.id && answer.do in LONG) this.progress(answer);
    else if (is === "media" && id === this.id) this.offer(answer);
    else if (is === "hits") this.take(answer);
    else if (of === "thumbs" && id === shown.id) this.previews.receive(answer, buffers);
    else if (of === "open" || of === "why") this.viewer.receive(answer, buffers);
    else if (is === "missed" && id === this.id) this.showMissed(answer);
    else if (is === "file" && id === this.id) this.search({ ...NOTHING, file: answer.name });
    else if (is === "error" && id === this.id) this.fail(answer.text, of === "file");
  }

  progress({ do: what, done, total, waits }) {
    const unit = what === "missed" ? "captions" : "frames", some = count(Math.min(done, total || done));
    if (waits) this.doing.textContent = "waiting for the cell that runs …";
    else if (done) this.doing.textContent = `${some} ${total ? `of about ${count(total)} ` : ""}${unit} …`;
    if (total) Object.assign(this.bar, { max: total, value: Math.min(done, total) });
  }

  take({ id, start, columns }) {
    if (this.pending?.id === id) this.replace(columns);
    else if (id !== this.shown.id || !start) return;
    this.growing = false;
    columns.forEach(({ hits }, at) => this.columns[at]?.add(hits, this));
    this.grow();
  }

  /** Replace the results by those of the search that was pending. */
  replace(columns) {
    const { remember, typed, ...query } = this.pending;
    this.done();
    this.viewer.node.close();
    this.shown = query;
    this.previews.reset();
    this.columns = columns.map((about) => new Column(about));
    this.results.replaceChildren(...this.columns.map((column) => column.node));
    this.results.scrollTop = 0;
    if (this.box.value === typed) this.box.value = query.text;  // otherwise someone is typing
    this.heading.textContent = `Results for ${asked(query)}`;
    this.history = [query, ...this.history.filter((one) => !same(one, query))].slice(0, MOST_HISTORY);
    if (!query.file) this.page?.remember({ ...query, media: this.media.value }, remember);
  }

  showMissed({ adapter, changes, count: found }) {
    this.done();
    if (this.lists()[1].ariaExpanded !== "true") return;  // another list has been opened
    const pairs = changes.map(([text, a, b]) => [`${text} (rank ${count(a)} → ${count(b)})`, { ...NOTHING, text }]);
    this.suggest(pairs, `${plural(found, "caption")} whose picture or clip ranks better with ${adapter}:`);
  }
}

/** The page of `make explore`: its address holds the query, and it reloads after its server was restarted. */
class Page {
  constructor() {
    const { baseUrl, kernelId } = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    this.kernel = `${baseUrl}api/kernels/${kernelId}`;
  }

  read() {
    const query = new URLSearchParams(location.hash.slice(1) || location.search);
    return { ...NOTHING, text: query.get("q") ?? "", like: query.get("like") ?? "", media: query.get("in") };
  }

  remember({ media, text, like }, isNew) {
    const address = `#${new URLSearchParams(like ? { like, in: media } : { q: text, in: media })}`;
    if (address !== location.hash) history[isNew ? "pushState" : "replaceState"](null, "", address);
  }

  /** Say when the server is gone, and reload the page when the server is back without this page's kernel. */
  async look(say) {
    try {
      const { status } = await fetch(this.kernel, { cache: "no-store" });
      if (status === 404) location.reload();
      else say(status === 403 ? "This page is no longer known: open the address that was printed." : "");
    } catch {
      say("The server does not answer. Start it again by the same command: this page then comes back.");
    }
  }
}

function render({ model, el }) {
  const page = document.body.dataset.voila ? new Page() : null, explorer = new Explorer(model, page);
  const ended = new AbortController(), { signal } = ended;
  const begin = (query) => explorer.choose(query.media, query);
  const receive = (answer, views) => explorer.receive(answer, views);
  model.on("msg:custom", receive);
  el.append(explorer.node);
  const query = page?.read() ?? NOTHING;
  begin(same(query, NOTHING) ? { ...query, text: explorer.setup.query } : query);
  const say = (text) => { explorer.gone.textContent = text; }, watch = setInterval(() => page?.look(say), WATCH);
  if (page) addEventListener("popstate", () => begin(page.read()), { signal });
  if (page) document.addEventListener("keydown", (event) => explorer.key(event), { signal });
  return () => {
    model.off("msg:custom", receive);
    clearInterval(watch);
    ended.abort();
    explorer.resized.disconnect();
  };
}

export default { render };
