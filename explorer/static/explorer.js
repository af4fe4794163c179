// The front end of the explorer. It sends messages to session.py, whose "do" says what to do, and shows the
// answers, whose "is" says what they are (MESSAGES.md). Texts are set as text, never as markup.

const GAP = 4, PART = 1 << 20;  // pixels between tiles, bytes of a file in one message
const AT_ONCE = 8, REQUESTS = 3, KEPT = 1500;  // previews in a request, open requests, previews kept
const AHEAD = "600px 0px";  // how far outside the visible results previews are requested
const SOON = 300, SILENCE = 4000;  // milliseconds until progress, or a missing answer, is shown
const MAX_HISTORY = 30, STORE = "cma-explorer";  // queries kept, and where
const LONG = { media: "opening the media …", search: "searching …", missed: "ranking every caption …" };
const NOTHING = { text: "", like: "", file: "" };  // a query sets one of these; without, the newest are listed
const VIEW = { kind: "", folder: "", year: "", order: "", names: "" };  // what else decides the results
const ZERO_SHOT = "zero-shot", OWN_KEYS = "data-lm-suppress-shortcuts", TITLE = "Ask your pictures and clips";
const LONGEST = 60, LOOPS = 10;  // letters of a name that are shown; seconds of a clip that plays again and again
const DRAGS = ["dragenter", "dragover", "dragleave", "drop"];
const CALM = matchMedia("(prefers-reduced-motion: reduce)");
const KEYS = [["/", "go to the query"], ["?", "this list"], ["arrows, Home, End", "go among the results"],
  ["Enter", "show the result large"], ["x", "choose the result"], ["Ctrl or Shift and click", "choose one, or all between"],
  ["Escape", "close what is large, or choose nothing"], ["← and →", "the result before and after, when large"],
  ["Space", "play or pause a clip"]];
const HINT = "Type what you look for (-word: without it)", FILE_HINT = " here to find others like it";
const HOW_TO_READ = "A thick line below a word and a bright patch raise the match most. The model does not see the dark edges.";
const CAMERA = `<svg viewBox="0 0 24 24" width="24" height="24" aria-hidden="true" fill="none" stroke="currentColor"
  stroke-width="2"><path d="M3 7h4l2-3h6l2 3h4v13H3z"/><circle cx="12" cy="13" r="4"/></svg>`;
const PAGE = `
<div class="cma-top">
  <h1 class="cma-heard" data-part="title">${TITLE}</h1>
  <form class="cma-ask" role="search" data-part="form">
    <span class="cma-box"><input type="search" data-part="box" aria-label="query" placeholder="type a few words">
      <label class="cma-file">${CAMERA}<input type="file" data-part="chosen"></label></span>
    <button type="button" data-part="sheet" aria-expanded="false">filters</button>
    <span class="cma-filters" data-part="filters">
      <select data-option="media" data-part="media" aria-label="collection"></select>
      <select data-option="kinds" data-part="kind" aria-label="kind"></select>
      <select data-option="folders" data-part="folder" aria-label="folder"></select>
      <select data-option="years" data-part="year" aria-label="year"></select>
      <select data-part="order" aria-label="order"><option value="">best match</option><option value="date">newest</option></select>
      <label><input type="checkbox" data-part="names"><span data-part="first">names and texts first</span></label>
      <button type="button" data-option="adapters" data-part="compare" aria-expanded="false">Compare</button>
      <span class="cma-row" data-part="comparing" hidden>
        <fieldset class="cma-row" data-part="models"></fieldset>
        <label>strength <input type="range" data-part="strength"><datalist data-part="marks"></datalist><i data-part="amount"></i></label>
        <button type="button" data-option="missed" data-part="missed" aria-expanded="false">what CLIP misses</button>
      </span>
    </span>
    <button type="button" data-part="ideas" aria-label="examples and history" aria-expanded="false">⋯</button>
  </form>
  <p class="cma-row" data-part="chips" hidden></p>
  <div class="cma-list" data-part="list" role="region" aria-label="suggestions" tabindex="0" hidden></div>
  <details class="cma-note" data-part="unread" hidden></details>
  <p class="cma-row" data-part="busy" role="status" hidden><progress data-part="bar" aria-label="progress">
    </progress> <span data-part="doing"></span> <button data-part="stop">cancel</button></p>
  <p class="cma-alert" data-part="gone" role="alert"></p><p class="cma-alert" data-part="alert" role="alert"></p>
  <div class="cma-row cma-note"><p data-part="heading" role="status"></p><p data-part="note"></p></div>
  <div class="cma-row cma-tabs" data-part="tabs" role="group" aria-label="model"></div>
</div>
<div class="cma-results" data-part="results" tabindex="-1"></div>
<div class="cma-bar"><p data-part="message" role="status"></p>
  <p class="cma-row" data-part="growing" hidden><span data-part="grown"></span>
    <button class="cma-act" data-part="renew" hidden>show what is new</button></p>
  <div class="cma-row" data-part="picked" role="region" aria-label="chosen results" hidden></div></div>`;

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
const match = (score) => `match ${score.toFixed(2)}`;
const middle = (name) => (name.length > LONGEST ? `${name.slice(0, LONGEST / 2)}…${name.slice(-LONGEST / 2)}` : name);
const month = (date) => new Date(`${date}T12:00`).toLocaleDateString("en", { month: "long", year: "numeric" });
const asked = ({ text, like, file }) =>
  [text && `“${text}”`, like && `more like ${like}`, file && `the file ${file}`].filter(Boolean).join(" and ");
const own = (event) => event.preventDefault() ?? event.stopPropagation();  // so that no notebook acts on it
const same = (one, other) => Object.keys(NOTHING).every((key) => one[key] === other[key]);

/** Say a time in a clip, such as 1:02:03 or 0:07.5. */
function clock(seconds) {
  const tenths = Math.round(seconds * 10), whole = Math.floor(tenths / 10), two = (part) => String(part).padStart(2, "0");
  const minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600), part = tenths % 10;
  const text = hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  return part ? `${text}.${part}` : text;
}

/** Say about how long something takes. */
const about = (seconds) => seconds < 90 ? plural(Math.ceil(seconds), "second") : plural(Math.ceil(seconds / 60), "minute");

/** A cell of a CSV table; none that a spreadsheet would compute. */
const cell = (value) => `"${String(value).replace(/^[=+@\t\r-]/, "'$&").replaceAll('"', '""')}"`;

/** What the browser keeps of earlier visits: queries of the history, and those that were saved. */
class Store {
  constructor() {
    const empty = { history: [], saved: [] };
    try {
      Object.assign(this, empty, JSON.parse(localStorage.getItem(STORE)));
    } catch {  // no storage, or another's
      Object.assign(this, empty);
    }
  }

  add(query) {
    this.history = [query, ...this.history.filter((one) => !same(one, query))].slice(0, MAX_HISTORY);
    this.write();
  }

  /** Save a query, or no longer. */
  toggle(query) {
    const others = this.saved.filter((one) => !same(one, query));
    this.saved = others.length < this.saved.length ? others : [query, ...others].slice(0, MAX_HISTORY);
    this.write();
  }

  clear() {
    Object.assign(this, { history: [], saved: [] });
    this.write();
  }

  write() {
    const { history, saved } = this;
    try { localStorage.setItem(STORE, JSON.stringify({ history, saved })); } catch { /* no storage */ }
  }
}

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
    if (near && this.kept.has(tile.shot)) return this.show(tile, this.kept.get(tile.shot));
    this.waiting[near ? "add" : "delete"](tile);
    if (near) this.request();
    else tile.image.removeAttribute("src");
  }

  /** Show a preview, and keep the ones that were shown most recently. */
  show(tile, address) {
    if (tile.near) tile.image.src = address;
    this.kept.delete(tile.shot);
    this.kept.set(tile.shot, address);
    const [oldest, gone] = this.kept.entries().next().value;
    if (this.kept.size > KEPT && this.kept.delete(oldest)) URL.revokeObjectURL(gone);
  }

  request() {
    while (this.waiting.size && this.requests < REQUESTS) {
      const tiles = [...this.waiting].slice(0, AT_ONCE);
      tiles.forEach((tile) => this.waiting.delete(tile));
      this.requests += 1;
      this.ask(tiles);
    }
  }

  ask(tiles) {
    tiles.forEach((tile) => this.asked.set([tile.column, tile.hit.item].join(), tile));
    this.send("thumbs", { items: tiles.map((tile) => [tile.column, tile.hit.item]) });
  }

  receive({ items, text, problems = items.map(() => text) }, buffers) {
    problems.forEach((problem, at) => {
      const tile = this.asked.get(items[at].join());
      if (problem) tile?.fail(problem);
      else if (tile) this.show(tile, addressOf(buffers[at]));
    });
    this.requests -= 1;
    this.request();
  }
}

/** One result as a button. `shot` names its picture: of a clip, the moment. */
function makeTile(column, hit, explorer, act) {
  const { shown } = explorer, { newest, dated } = column.about;
  const image = make("img", { alt: "" }), title = make("b", {}, middle(hit.title)), clip = hit.kind === "video";
  const more = hit.alike.length, copies = more && `+${count(more)} alike`, right = hit.right && "right answer";
  const there = newest ? null : column.elsewhere(hit), moved = there && `${there < hit.rank ? "▼" : "▲"}${count(there)}`;
  const label = [`${hit.rank}. ${hit.title}`, clip && "clip", !newest && match(hit.score), right, hit.named && "by its name",
    hit.quote && `in its text: ${hit.quote.slice(0, 3).join("")}`, copies,
    there && `rank ${count(there)} in the other model`];
  const rank = [hit.rank, hit.right && "✓", hit.named && "name", hit.quote && "text", there !== hit.rank && moved].filter(Boolean).join(" ");
  const shot = clip ? `${hit.key} ${shown.text}` : hit.key;
  const fail = (problem) => { tile.classList.add("cma-broken"); title.textContent = problem; };
  const info = newest ? [title] : [title, match(hit.score)];
  const tile = make("button", { class: hit.right ? "cma-tile cma-right" : "cma-tile", "data-file": hit.file, "aria-pressed": "false",
    "aria-label": label.filter(Boolean).join(", "), click: act },
    image, ...(dated ? [] : [make("span", { class: "cma-rank" }, rank)]), make("span", { class: "cma-info" }, ...info));
  if (clip) tile.append(make("span", { class: "cma-clip" }, "▶"));
  if (copies) tile.append(make("span", { class: "cma-alike" }, copies));
  tile.append(make("span", { class: "cma-tick", title: "choose it" }));
  for (const [event, on] of [["pointerenter", true], ["pointerleave", false]]) tile.addEventListener(event, () => explorer.light(tile, on));
  return Object.assign(tile, { column: column.label, hit, shot, image, fail });
}

/** The results of one model: rows of one height each, as wide as the column. */
class Column {
  constructor(about, at) {
    Object.assign(this, { about, at, label: about.label, tiles: [], last: 0 });
    this.title = about.newest ? "newest first" : about.label;
    this.grid = make("div", { class: "cma-grid", keydown: (event) => this.walk(event) });
    this.node = make("section", { class: "cma-column", "aria-label": this.title, "data-label": about.label },
      ...(about.newest ? [] : [make("header", {}, make("h2", {}, this.title), make("span", {}, this.facts()))]), this.grid);
  }

  facts() {
    const { items, ranked, right, seconds, cut, foreign } = this.about;
    const all = plural(items, "item"), place = right && `right answer at rank ${count(right)}`;
    const facts = [ranked < items ? `${count(ranked)} of ${all}` : all, `${seconds.toFixed(3)} s`, place];
    if (foreign) facts.push("this model does not know the script of the query: ask in English, or start with a multilingual "
      + "backbone, such as --backbone google/siglip-base-patch16-256-multilingual");
    else if (cut) facts.push("the query is longer than the model takes: its end is left out");
    return facts.filter(Boolean).join(" · ");
  }

  /** The rank of a result in the other column, if there are two and it is ranked there. */
  elsewhere({ ranks }) { return ranks.length === 2 ? ranks[1 - this.at] : null; }

  add(hits, explorer) {
    const first = this.tiles.length;
    for (const [at, hit] of hits.entries()) {
      const tile = makeTile(this, hit, explorer, (event) => explorer.picks.click(this, first + at, event));
      tile.tabIndex = first + at ? -1 : 0;
      this.tiles.push(tile);
    }
    if (!this.tiles.length) this.grid.append(make("p", {}, "nothing here: choose another kind, folder or year"));
    this.layout(this.last, explorer.previews);
  }

  /** Lay out the tiles, beginning with one that starts a row. A row that is full is scaled to fit exactly. */
  layout(from, previews) {
    const width = (this.width = this.grid.clientWidth), wanted = Math.max(84, Math.min(190, width / 4));
    if (!width) return;  // behind the tab of another model
    const held = this.tiles.find((tile) => tile === document.activeElement);  // it moves: refocused below
    const monthOf = ({ hit }) => (this.about.dated ? (hit.date ? month(hit.date) : "date unknown") : "");
    let row = [], sum = 0, now = from ? monthOf(this.tiles[from]) : "";
    const close = (maxHeight) => {
      const height = Math.min(maxHeight, (width - GAP * (row.length - 1) - 0.5) / sum);
      row.forEach((tile) => { tile.style.width = `${height * tile.ratio}px`; });
      const line = make("div", { class: "cma-line", style: `height: ${height}px` }, ...row);
      previews.observer.observe(line);
      this.grid.append(line);
      [row, sum] = [[], 0];
    };
    const old = from ? [this.grid.lastChild] : [...this.grid.querySelectorAll(".cma-line, h2")];
    for (const tile of this.tiles.slice(from)) {
      const when = monthOf(tile);
      if (when !== now) {
        if (row.length) close(wanted);
        this.grid.append(make("h2", {}, now = when));
      }
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
    const edge = { Home: 0, End: this.tiles.length - 1 }[event.key];
    if (at >= 0 && step) own(event) ?? this.focus(at + step);
    if (at >= 0 && edge !== undefined) own(event) ?? this.focus(edge);
    if (at >= 0 && way) own(event) ?? this.focus(this.beside(event.target, way));
  }

  /** Return the number of the nearest tile in the row above or below. */
  beside(tile, way) {
    const lines = [...this.grid.querySelectorAll(".cma-line")], away = (one) => Math.abs(one.offsetLeft - tile.offsetLeft);
    const row = lines[lines.indexOf(tile.parentElement) + way]?.children ?? [];
    return this.tiles.indexOf([...row].sort((one, other) => away(one) - away(other))[0]);
  }
}

/** The results that were chosen, and what one does with them. */
class Picks {
  constructor(explorer) {
    Object.assign(this, { explorer, chosen: new Set(), last: null });
  }

  /** Show a result large; with Ctrl choose it, with Shift all from the last one to it. */
  click(column, at, event) {
    const tile = column.tiles[at];
    if (event.shiftKey && this.last?.column === column) {
      const [from, to] = [this.last.at, at].sort((one, other) => one - other);
      column.tiles.slice(from, to + 1).forEach((one) => this.set(one, true));
    } else if (event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest(".cma-tick")) this.set(tile, !this.chosen.has(tile));
    else return this.explorer.viewer.open(column, at);
    this.last = { column, at };
    this.show();
  }

  toggle(tile) {
    this.set(tile, !this.chosen.has(tile));
    this.show();
  }

  set(tile, on) {
    this.chosen[on ? "add" : "delete"](tile);
    tile.setAttribute("aria-pressed", on);
  }

  clear() {
    this.chosen.forEach((tile) => this.set(tile, false));
    this.last = null;
    this.show();
  }

  /** Show how many are chosen, and what can be done with them. */
  show() {
    const { picked, node } = this.explorer, { size } = this.chosen;
    node.classList.toggle("cma-choosing", size > 0);
    picked.hidden = !size;
    this.say(size ? `${plural(size, "result")} chosen` : "");
    if (!size) return picked.replaceChildren();
    const button = (text, click) => make("button", { click }, text);
    this.folder = make("input", { "aria-label": "folder to copy into", placeholder: "~/chosen", size: 18 });
    picked.replaceChildren(button("copy the list", () => this.copyList()), button("CSV", () => this.csv()),
      this.folder, button("copy files into it", () => this.copyFiles()), button("choose nothing", () => this.clear()));
  }

  /** Say it where screen readers hear it, too: the element was there before. */
  say(text) { this.explorer.message.textContent = text; }

  copyList() {
    const text = [...new Set([...this.chosen].map(({ hit }) => hit.path))].join("\n");
    const say = (text) => () => this.say(text);
    const written = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error());
    written.then(say("copied"), say("the browser does not allow it: take the CSV"));
  }

  csv() {
    const rows = [["model", "rank", "cosine", "path", "title"]];
    for (const { column, hit } of this.chosen) rows.push([column, hit.rank, hit.score, hit.path, hit.title]);
    const text = rows.map((row) => row.map(cell).join()).join("\r\n"), href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    make("a", { href, download: "results.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(href), SILENCE);
  }

  copyFiles() {
    const items = [...this.chosen].map(({ column, hit }) => [column, hit.item]);
    this.explorer.send("copy", { items, folder: this.folder.value });
    this.say("copying …");
  }

  receive({ is, count: number, into, text }) {
    this.say(is === "error" ? text : `${plural(number, "file")} copied into ${into}`);
  }
}

/** One result large, with what is known about it and why it matches. A clip plays from its best moment on. */
class Viewer {
  constructor(explorer) {
    const about = make("aside", { tabindex: 0, "aria-label": "about this result" });
    const node = make("dialog", { class: "cma-viewer", "aria-label": "one result" });
    const moves = { pointerdown: (event) => this.press(event), pointermove: (event) => this.drag(event),
      pointerup: (event) => this.lift(event), pointercancel: (event) => this.lift(event), click: (event) => this.zoom(event) };
    Object.assign(this, { explorer, about, node, muted: true, fingers: new Map(), view: { scale: 1, x: 0, y: 0 } });
    this.picture = make("img", { draggable: "false", load: () => this.sized(), error: () => this.withoutOriginal(), ...moves });
    const on = { loadedmetadata: () => this.begin(), durationchange: () => { this.video.loop = this.video.duration < LOOPS; }, error: () => this.refused(), volumechange: () => { this.muted = this.video.muted; } };
    this.video = make("video", { controls: true, playsinline: true, hidden: true, ...on });
    this.wait = make("p", { class: "cma-wait", role: "status" });
    const close = () => this.close(), back = () => this.step(-1), ahead = () => this.step(1);
    const button = (label, sign, click) => make("button", { "aria-label": label, title: label, click }, sign);
    const full = () => (document.fullscreenElement ? document.exitFullscreen() : this.stage.requestFullscreen?.());
    const wheel = (event) => this.picture.hidden || (own(event) ?? this.magnify(event, this.view.scale * 1.002 ** -event.deltaY));
    this.stage = make("div", { class: "cma-stage" }, this.picture, this.video, this.wait, button("previous result", "‹", back),
      button("next result", "›", ahead), button("close", "×", close), button("full screen", "full", full));
    this.node.append(this.stage, this.about);
    this.node.addEventListener("keydown", (event) => this.key(event));
    this.node.addEventListener("cancel", (event) => own(event) ?? close());
    this.node.addEventListener("close", () => this.left());
    this.node.addEventListener("click", ({ target }) => target === this.node && close());
    this.stage.addEventListener("wheel", wheel, { passive: false });
    this.stage.addEventListener("touchstart", ({ touches }) => { this.touched = touches[0].clientX; }, { passive: true });
    this.stage.addEventListener("touchend", (event) => this.swipe(event), { passive: true });
  }

  swipe({ target, changedTouches }) {
    const way = changedTouches[0].clientX - this.touched;
    if (Math.abs(way) > 50 && target !== this.video && this.view.scale === 1 && !this.pinched) this.step(way < 0 ? 1 : -1);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") own(event) ?? this.close();
    if (step && event.target !== this.video) own(event) ?? this.step(step);
    if (event.key === " " && !this.video.hidden && !event.target.matches("button, a, summary")) own(event) ?? this.pause();
  }

  pause() { this.video[this.video.paused ? "play" : "pause"](); }

  /** A click enlarges a picture where one clicks, to its own pixels; a second one shows all of it again. */
  zoom(event) {
    if (this.dragged) return;
    this.clicked = this.view.scale > 1 ? null : event;
    this.magnify(event, this.clicked ? this.ownScale() : 1);
  }

  /** The scale at which a pixel of the picture is one of the screen, at least 2. */
  ownScale() {
    const { naturalWidth, naturalHeight, clientWidth, clientHeight } = this.picture;
    return Math.max(2, Math.max(naturalWidth / clientWidth, naturalHeight / clientHeight) / devicePixelRatio);
  }

  /** Enlarge the picture to a scale, so that what is at the pointer stays there. */
  magnify({ clientX, clientY }, scale) {
    const { view } = this, { left, top } = this.stage.getBoundingClientRect(), before = view.scale;
    view.scale = Math.max(1, Math.min(40, scale));
    const grown = view.scale / before;
    this.place(clientX - left - (clientX - left - view.x) * grown, clientY - top - (clientY - top - view.y) * grown);
    if (view.scale > 1) this.original();
  }

  /** Move the enlarged picture, but no edge of the stage into it. */
  place(x, y) {
    const { view, stage, picture } = this, { scale } = view;
    view.x = Math.min(0, Math.max(stage.clientWidth * (1 - scale), x));
    view.y = Math.min(0, Math.max(stage.clientHeight * (1 - scale), y));
    picture.style.transformOrigin = `${-picture.offsetLeft}px ${-picture.offsetTop}px`;  // the stage's corner
    picture.style.transform = scale > 1 ? `translate(${view.x}px, ${view.y}px) scale(${scale})` : "";
    stage.classList.toggle("cma-zoomed", scale > 1);
  }

  /** Show the file's own pixels instead of the copy, where the file is served and the browser knows it. */
  original() {
    const { known, picture } = this;
    if (!known || known.file === null || this.hit.kind !== "image" || this.whole) return;
    this.whole = true;
    picture.src = this.addressOf(known.file);
  }

  withoutOriginal() { if (this.whole && this.held[0]) this.picture.src = this.held[0]; }

  /** A small picture is shown at most twice as large as it is. */
  sized() {
    const { picture, known } = this, copy = known && !this.whole, { naturalWidth: width, naturalHeight: height } = picture;
    if (copy) Object.assign(picture.style, { maxWidth: `${2 * width}px`, maxHeight: `${2 * height}px` });
    if (this.whole && this.clicked) this.magnify(this.clicked, this.ownScale());  // as large as the click wanted
  }

  press(event) {
    this.dragged = false;
    this.clicked = null;
    this.pinched = this.fingers.size > 0;
    this.fingers.set(event.pointerId, event);
    this.picture.setPointerCapture(event.pointerId);
  }

  /** One finger or the mouse moves an enlarged picture, two enlarge it. */
  drag(event) {
    const { fingers, view } = this, last = fingers.get(event.pointerId);
    if (!last) return;
    const other = [...fingers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
    fingers.set(event.pointerId, event);
    const [by, down] = [event.clientX - last.clientX, event.clientY - last.clientY];
    this.dragged ||= Math.hypot(by, down) > 2;
    if (!other) return view.scale > 1 && this.place(view.x + by, view.y + down);
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
    this.magnify(middle, view.scale * apart(event) / apart(last));
  }

  lift({ pointerId }) { this.fingers.delete(pointerId); }

  step(by) {
    const at = this.at + by;
    if (at >= this.column.tiles.length - 4) this.explorer.more();
    if (this.column.tiles[at]) this.open(this.column, at);
  }

  /** Close it, as the browser's own button Back does. */
  close() {
    if (this.explorer.page?.leave()) return;
    this.node.close();
  }

  left() {
    if (document.fullscreenElement) document.exitFullscreen();
    this.still();
    this.explorer.send("stop");
    this.explorer.page?.leave();
    this.column.focus(this.at);
  }

  /** Play nothing. */
  still() {
    this.video.pause();
    if (this.video.hasAttribute("src")) this.video.removeAttribute("src") ?? this.video.load();
    this.video.hidden = true;
    this.picture.hidden = false;
    this.wait.textContent = "";
  }

  open(column, at) {
    const { hit, shot } = column.tiles[at], which = { column: column.label, item: hit.item }, { explorer } = this;
    this.still();
    this.held?.forEach((address) => URL.revokeObjectURL(address));
    this.held = [];
    Object.assign(this, { column, at, hit, which, known: null, part: null, times: [], whole: false });
    Object.assign(this.view, { scale: 1 });
    this.place(0, 0);
    Object.assign(this.picture.style, { maxWidth: "", maxHeight: "" });
    Object.assign(this.picture, { src: explorer.previews.kept.get(shot) ?? "", alt: hit.title });
    const words = explorer.shown.text;
    this.moments = make("div");
    this.reason = make("div", {}, words ? "…" : explorer.shown.like || explorer.shown.file ? "Asked by a picture or clip: no words to explain by." : "");
    this.about.replaceChildren(make("h2", {}, hit.title), list(this.places()), this.actions(), this.moments, this.reason);
    const apart = innerHeight <= screen.height;  // in VS Code the window is as high as the whole notebook
    if (!this.node.open) {
      this.node[apart ? "showModal" : "show"]();
      this.about.focus();
      explorer.page?.enter();
    }
    explorer.send("open", which);
    if (hit.kind === "video") explorer.send("moments", which);
    if (words) explorer.send("why", which);
  }

  /** Say its rank by every model, or the rank of a copy that is shown instead of it. */
  places() {
    const shows = ({ hit }) => [hit.key, ...hit.alike].includes(this.hit.key);
    const { columns } = this.explorer;
    return columns.filter(({ about: { newest } }) => !newest).map(({ tiles, title, at }) => {
      const hit = tiles.find(shows)?.hit, by = hit?.key === this.hit.key ? "" : " by a copy of it", rank = this.hit.ranks[at];
      const model = columns.length > 1 ? `${title}: ` : "";
      if (!hit) return rank ? `${model}rank ${count(rank)}` : `${model}beyond rank ${count(tiles.length)}`;
      return `${model}rank ${count(hit.rank)}${by}, ${match(hit.score)}`;
    });
  }

  actions() {
    const more = () => { this.node.close(); this.explorer.search({ ...NOTHING, like: this.hit.file }); };
    const say = (text) => () => { copy.textContent = text; }, not = say("copy it below");
    const write = () => navigator.clipboard?.writeText(this.hit.path).then(say("copied"), not) ?? not();
    const copy = make("button", { click: write }, "copy path");
    this.row = make("p", { class: "cma-row" }, make("button", { click: more }, "more like this"), copy);
    return this.row;
  }

  receive(answer, buffers) {
    const { is, id, column, item, text } = answer, { explorer: { shown }, hit, known } = this;
    if (id !== shown.id || column !== this.column?.label || item !== hit.item || (known && is === "open")) return;
    if (!this.node.open) return;
    if (is === "why") return this.explain(answer, buffers);
    if (is === "clip") return this.playPart(answer, buffers[0]);
    if (is === "moments") return this.showMoments(answer, buffers);
    if (is === "error" && answer.do === "why") return this.reason.replaceChildren(text);
    if (is === "error" && answer.do === "moments") return;  // what is wrong is said about the file
    if (is === "error") {
      this.wait.textContent = "";
      return this.about.prepend(make("p", { class: "cma-alert", role: "alert" }, text));
    }
    this.known = answer;
    this.picture.src = this.keep(addressOf(buffers[0]));
    const { captions, facts, file, path } = answer, { copies } = hit;
    const inWords = captions.length ? [make("h3", {}, "Captions"), list(captions)] : [];
    const [before, words, after] = hit.quote ?? [], quote = hit.quote ? [make("h3", {}, "In its text"), make("p", {}, before, make("mark", {}, words), after)] : [];
    const seen = [make("h3", {}, "What the model saw"), photo(buffers[1], "the part that the model saw")];
    const others = copies.length ? [make("details", {}, make("summary", {}, `+${count(hit.alike.length)} alike`), list(copies))] : [];
    this.about.append(...quote, ...seen, ...inWords, make("h3", {}, "File"), list(this.facts(facts)), make("p", {}, path), ...others);
    if (file !== null) this.offer(this.addressOf(file));
    if (hit.kind === "video") this.playFrom(answer.at ?? 0);
  }

  /** Keep bytes that are shown until another result is. */
  keep(address) {
    this.held.push(address);
    return address;
  }

  /** Say what is known about the file. */
  facts({ taken, changed, bytes, sides, camera, place, seconds }) {
    const size = bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
    const known = { taken, changed: !taken && changed, size: [sides, size].filter(Boolean).join(", "), camera, place,
      length: seconds && clock(seconds) };
    return Object.entries(known).filter(([, value]) => value).map((pair) => pair.join(": "));
  }

  addressOf(number) { return `file/${this.explorer.setup.tab}/${number}`; }

  offer(href) {
    const show = () => this.explorer.send("reveal", this.which);
    this.row.append(make("a", { href, target: "_blank", rel: "noopener" }, "open the original"), make("button", { click: show }, "show in its folder"));
  }

  /** Play the clip from a moment on: the file itself where it is served, else the part around it. */
  playFrom(at) {
    const { file } = this.known, { start, end } = this.part ?? {};
    this.moment = at;
    if (this.part && at >= start && at < end) return this.begin();
    if (file === null || this.part || this.hit.refused) return this.askPart(at);
    if (this.video.hasAttribute("src")) return this.begin();
    this.shown(this.addressOf(file));
  }

  shown(src) {
    Object.assign(this.video, { muted: this.muted, poster: this.picture.src, src });
    this.picture.hidden = true;
    this.video.hidden = false;
  }

  /** Play from a second before the moment. What has no picture that this browser decodes is refused. */
  begin() {
    const { video } = this;
    if (!video.readyState) return;  // it begins once it is loaded
    if (!video.videoWidth) return this.refused();
    if (this.part) this.part.end = this.part.start + video.duration;
    video.currentTime = Math.max(0, this.moment - 1 - (this.part?.start ?? 0));
    if (!CALM.matches) video.play().catch(() => {});
  }

  refused() {
    if (!this.video.hasAttribute("src") || !this.known) return;
    const last = this.part;
    this.still();
    if (last) this.wait.textContent = "This browser cannot play the clip.";
    else this.askPart(this.moment);
    this.hit.refused = true;
  }

  askPart(at) {
    const mp4 = this.video.canPlayType('video/mp4; codecs="avc1.42E01E, mp4a.40.2"');
    this.wait.textContent = "preparing this part of the clip …";
    this.explorer.send("clip", { ...this.which, at, form: mp4 ? "mp4" : "webm" });
  }

  playPart({ start }, bytes) {
    this.still();
    this.part = { start, end: Infinity };
    this.shown(this.keep(addressOf(bytes)));
    this.wait.textContent = this.known.file === null ? "" : "This browser does not play the file: this is a part of it.";
  }

  /** How well each moment of a clip matches, and the best ones as pictures; a click plays from there. */
  showMoments({ strip, moments }, buffers) {
    const values = strip.map(([, value]) => value), low = Math.min(...values), range = Math.max(...values) - low || 1;
    const bars = values.map((value) => make("i", { style: `height: ${Math.round(10 + 90 * (value - low) / range)}%` }));
    const go = ({ clientX }) => {
      const { left, width } = line.getBoundingClientRect();
      this.playFrom(strip[Math.min(strip.length - 1, Math.floor(strip.length * (clientX - left) / width))][0]);
    };
    const line = make("div", { class: "cma-strip", role: "img", "aria-label": "how well each moment matches", click: go }, ...bars);
    const figures = moments.map(([at, value], number) => {
      const text = [clock(at), value !== null && match(value)].filter(Boolean).join(", ");
      const play = make("button", { class: "cma-frame", "aria-label": `play from ${text}`, click: () => this.known && this.playFrom(at) }, photo(buffers[number], ""));
      return make("figure", {}, play, make("figcaption", {}, text));
    });
    const shown = figures.length > 1 ? [make("h3", {}, "Moments"), ...(strip[1]?.[1] ? [line] : []), make("div", { class: "cma-frames" }, ...figures)] : [];
    this.moments.replaceChildren(...shown);
  }

  explain({ words, weights, cosines, times }, buffers) {
    const weighs = (weight) => ({ style: `--weight: ${weight}`, title: `weight ${weight.toFixed(2)}` });
    const marks = words.flatMap(([word, weight]) => [make("mark", weighs(weight), word), " "]);
    const frames = buffers.map((bytes, at) => {
      const one = buffers.length === 1 && !times, weight = `weight ${weights[at].toFixed(2)}`, when = times ? ` at ${clock(times[at])}` : "";
      const about = one ? "the picture" : `frame ${at + 1}${when}: ${weight}, ${match(cosines[at])}`;
      const below = one ? [] : [make("i", weighs(weights[at])), make("figcaption", {}, about)];
      const seen = photo(bytes, `${about}, with the heat of its patches`);
      const go = () => this.known && this.playFrom(times[at]);
      return make("figure", {}, times ? make("button", { class: "cma-frame", click: go }, seen) : seen, ...below);
    });
    this.reason.replaceChildren(make("h3", {}, "Why it matches"), make("p", { class: "cma-words" }, ...marks),
      make("div", { class: "cma-frames" }, ...frames), make("p", { class: "cma-note" }, HOW_TO_READ));
  }
}

/** The whole explorer: the controls, the query whose results are `shown`, and the messages. */
class Explorer {
  constructor(model, page) {
    Object.assign(this, { model, page, setup: model.get("setup"), columns: [], store: new Store(), shown: NOTHING });
    this.id = Math.floor(Math.random() * 1e9);  // of the last request; each view of a widget has its own
    this.sent = new Set();  // names of files that were sent, so that the partner may have them
    this.picks = new Picks(this);
    this.build();
    this.previews = new Previews((what, more) => this.send(what, more), this.results);
    this.viewer = new Viewer(this);
    this.keys = make("dialog", { class: "cma-keys", "aria-label": "keys" }, make("h2", {}, "Keys"),
      list(KEYS.map((pair) => pair.join(": "))), make("button", { click: () => this.keys.close() }, "close"));
    this.node.append(this.viewer.node, this.keys);
    this.resized = new ResizeObserver(() => this.columns.forEach((one) => this.fit(one)));
    this.resized.observe(this.results);
  }

  build() {
    const { setup, page } = this, on = (part, event, act) => part.addEventListener(event, act);
    this.node = make(page ? "main" : "section", { class: "cma-explorer", "aria-label": "explorer" });
    this.node.append(document.createRange().createContextualFragment(PAGE));
    this.node.querySelectorAll("[data-part]").forEach((part) => { this[part.dataset.part] = part; });
    this.options = [...this.node.querySelectorAll("[data-option]")];
    this.lists = [this.ideas, this.missed];
    this.title.hidden = !page;
    this.node.querySelectorAll("*").forEach((one) => one.setAttribute(OWN_KEYS, ""));
    if (setup.texts === false) this.first.textContent = "names first (texts beside files are not searched here)";
    this.chosen.accept = setup.suffixes.join();
    const taken = setup.suffixes.includes(".mp4") ? "picture or clip" : "picture";
    this.hint = `${HINT}${setup.suffixes.length ? `, or drop a ${taken}${FILE_HINT}` : ""}.`;
    this.chosen.ariaLabel = this.chosen.title = `search by a ${taken}`;
    this.chosen.parentElement.hidden = !setup.suffixes.length;
    this.media.append(...setup.media.map((name) => new Option(name)));
    this.strength.max = this.strength.value = setup.strengths.length - 1;
    on(this.models, "change", () => this.name());
    for (const part of [this.models, this.strength, this.kind, this.folder, this.year, this.order, this.names]) on(part, "change", () => this.again());
    for (const kind of DRAGS) on(this.node, kind, (event) => this.drag(event));
    for (const button of this.lists) on(button, "click", () => this.toggle(button));
    on(this.compare, "click", () => { this.compare.ariaExpanded = String(!(this.comparing.hidden = !this.comparing.hidden)); });
    on(this.sheet, "click", () => { this.sheet.ariaExpanded = String(this.filters.classList.toggle("cma-open")); });
    on(this.strength, "input", () => this.name());
    this.strength.setAttribute("list", this.marks.id = `cma-marks-${crypto.getRandomValues(new Uint32Array(1))[0]}`);
    this.name();
    on(this.media, "change", () => this.choose(this.media.value));
    on(this.chosen, "change", () => this.sendFile(this.chosen.files[0]));
    on(this.stop, "click", () => this.cancel());
    on(this.renew, "click", () => this.search(this.query, false));
    on(this.results, "scroll", () => this.grow());
    on(this.node, "keydown", (event) => this.key(event));
    const submit = (event) => own(event) ?? this.close() ?? this.search({ ...this.query, text: this.box.value.trim() });
    on(this.node, "paste", (event) => event.clipboardData.files[0] && (own(event) ?? this.sendFile(event.clipboardData.files[0])));
    on(this.form, "submit", submit);
    on(this.box, "keydown", (event) => event.key === "Enter" && !event.isComposing && submit(event));  // for JupyterLab
  }

  name() {
    const value = this.setup.strengths[this.strength.value], { keeps = {} } = this.choices ?? {};
    const keepsMore = this.wanted().adapters.some((name) => keeps[name] === value);
    this.amount.textContent = `${value}${value === 1 ? " as trained" : keepsMore ? " keeps more" : ""}`;
    this.marks.replaceChildren(...[1, ...Object.values(keeps)].map((one) => new Option("", this.setup.strengths.indexOf(one))));
  }

  key(event) {
    const { key, target } = event, typing = target.matches("input:not([type=checkbox]), select");
    if (typing || this.viewer.node.open || this.keys.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const tile = target.closest(".cma-tile");
    if (key === "/") own(event) ?? this.box.select();
    else if (key === "?") own(event) ?? this.keys.showModal();
    else if (key === "x" && tile) own(event) ?? this.picks.toggle(tile);
    else if (key === "Escape" && this.sheet.ariaExpanded === "true") own(event) ?? this.sheet.click();
    else if (key === "Escape" && this.picks.chosen.size) own(event) ?? this.picks.clear();
    else if (this.page && key.length === 1 && key !== " ") this.box.focus();  // the letter then arrives there
  }

  drag(event) {
    own(event);
    this.node.classList.toggle("cma-over", event.type === "dragenter" || event.type === "dragover");
    if (event.type === "drop") this.sendFile(event.dataTransfer.files[0]);
  }

  /** Ask by the file of the address, which this browser kept. */
  async askKept(query) {
    const file = await this.page?.kept(query.file);
    if (file) return this.sendFile(file);
    this.fail(`${query.file}: this file is no longer here; choose another, or search by words`);
    this.search({ ...query, file: "" }, false);
  }

  async sendFile(file) {
    const { id, setup: { megabytes } } = this, parts = Math.max(1, Math.ceil((file?.size ?? 0) / PART));
    this.chosen.value = "";
    if (!file) return;
    if (file.size > megabytes * 1e6) return this.fail(`${file.name}: more than ${megabytes} MB; choose a smaller file`, true);
    this.page?.keep(file).catch(() => {});  // a browser that keeps nothing asks by it nevertheless
    if (!this.active) this.wait("file", `sending ${file.name} …`);
    this.sent.add(file.name);
    for (let part = 0; part < parts && id === this.id; part++) {  // until it is cancelled
      const bytes = await file.slice(part * PART, (part + 1) * PART).arrayBuffer().catch(() => null);
      if (!bytes) return this.fail(`${file.name}: cannot be read; choose a picture or clip`, true);
      this.model.send({ do: "file", id, name: file.name, part, parts }, undefined, [bytes]);
    }
  }

  /** Choose other media: the answer says what there is to choose from, and then the query is sent again. */
  choose(name, query = this.query, view = null) {
    if (this.setup.media.includes(name)) this.media.value = name;
    if (this.box.value === this.query?.text) this.box.value = query.text;  // otherwise someone is typing
    if (same(query, NOTHING)) this.shown = NOTHING;
    Object.assign(this, { columns: [], next: query, choices: null, view });
    this.picks.clear();
    this.viewer.node.close();
    this.results.replaceChildren();
    this.send("media");
  }

  offer(choices) {
    const { adapters, adapter, about: model, items, examples } = choices;
    this.choices = choices;
    this.chooseFrom(choices);
    const box = (name) => make("label", {}, make("input", { type: "checkbox", value: name ?? "",
      checked: name === null || name === adapter }), name ?? ZERO_SHOT);
    this.models.replaceChildren(make("legend", {}, "models"), ...[null, ...adapters].map(box));
    this.about = `Model ${model}.`;
    this.note.textContent = this.about;
    this.name();
    if (this.view) this.restore(this.view);
    this.view = null;
    this.close();
    this.done();
    this.heading.textContent = plural(items, "item");
    if (this.next.file && this.page && !this.sent.has(this.next.file)) return this.askKept(this.next);
    this.search(this.next, false);
    if (same(this.next, NOTHING) && examples[0]) this.toggle(this.ideas);
  }

  /** What the media offer to choose from; what is chosen stays chosen. */
  chooseFrom({ adapters, kinds, folders, examples, unread, skipped, years }) {
    const shown = { media: this.setup.media[1], adapters: adapters[0], kinds: kinds[1], folders: folders[0],
      years: years[1], missed: examples[0] };
    this.options.forEach((one) => { one.hidden = !shown[one.dataset.option]; });
    const fill = (select, ...pairs) => {
      const { value } = select;
      select.replaceChildren(...pairs.map((pair) => new Option(...pair)));
      if (pairs.some(([text, own = text]) => String(own) === value)) select.value = value;
    };
    fill(this.kind, ["pictures and clips", ""], ["pictures", "image"], ["clips", "video"]);
    fill(this.folder, ["all folders", ""], ...folders.map((name) => [middle(name), name]));
    fill(this.year, ["all years", ""], ...years.map((year) => [year]));
    const more = unread > skipped.length ? [`and ${count(unread - skipped.length)} more`] : [];
    const summary = make("summary", {}, `${plural(unread, "file")} could not be read: which, and why`);
    this.unread.hidden = !unread;
    this.unread.replaceChildren(summary, list([...skipped, ...more]));
  }

  /** How much of the media is embedded. What is new comes at once where nobody looks at anything, else when asked for. */
  growBy({ done, total, seconds, fresh, text, offer }) {
    const { kinds } = this.choices, what = kinds[1] ? "files" : kinds[0] === "video" ? "clips" : "pictures";
    const left = seconds ? `, about ${about(seconds)}` : "", grows = done < total && !text;
    this.grown.textContent = text || (grows ? `${count(done)} of ${count(total)} ${what} can be found${left}` : "");
    if (offer) this.chooseFrom(this.choices = offer);
    this.fresh ||= fresh && (offer !== null || !this.listsAll());
    this.arrive();
  }

  /** Whether the newest are listed, which are there before they are embedded. */
  listsAll() { return this.columns[0]?.about.newest; }

  arrive() {
    if (this.pending) return;  // looked at again after it
    const { results, picks, viewer } = this, looks = results.scrollTop || picks.chosen.size || viewer.node.open
      || results.contains(document.activeElement) || !this.listsAll();
    const empty = this.columns.every(({ tiles }) => !tiles.length);
    if (this.fresh && (!looks || empty)) return this.search(this.query, false);
    this.renew.hidden = !this.fresh;
    this.growing.hidden = !this.fresh && !this.grown.textContent;
  }

  /** Set the choices as they were, of an address or before a change that was cancelled. */
  restore({ adapters, strength, ...view }) {
    const boxes = [...this.models.querySelectorAll("input")], step = this.setup.strengths.indexOf(strength);
    if (adapters) boxes.forEach((one) => { one.checked = adapters.includes(one.value || null); });
    if (step >= 0) this.strength.value = step;
    this.name();
    for (const name of ["kind", "folder", "year", "order"]) {
      const known = [...this[name].options].some((one) => one.value === view[name]);
      this[name].value = known ? view[name] : "";
    }
    this.names.checked = Boolean(view.names);
  }

  /** Open a list of suggestions, which stays until it is closed; close it if it is open. */
  toggle(button) {
    const opens = button.ariaExpanded === "false";
    this.close();
    if (!opens || !this.choices) return;
    button.ariaExpanded = "true";
    this.list.hidden = false;
    if (button === this.ideas) this.remembered();
    else this.send("missed", this.wanted());
  }

  /** The saved queries, the last ones and examples; the one that is shown can be saved, and all be forgotten. */
  remembered() {
    const { saved, history } = this.store, { shown } = this, others = history.filter((one) => !saved.some((kept) => same(one, kept)));
    const pair = (query, mark) => [`${mark}${asked(query)}`, query];
    const examples = this.choices.examples.map((text) => [text, { ...NOTHING, text }]);
    this.suggest([...saved.map((one) => pair(one, "★ ")), ...others.map((one) => pair(one, "")), ...examples], this.hint);
    const act = (text, doing) => make("button", { class: "cma-act", click: () => doing() ?? this.remembered() }, text);
    const known = saved.some((one) => same(one, shown)), word = known ? "do not keep this search" : "save this search";
    if (!same(shown, NOTHING) && !shown.file) this.list.append(act(word, () => this.store.toggle(this.plain(shown))));
    if (saved.length || history.length) this.list.append(act("clear", () => this.store.clear()));
    this.list.append(act("keys", () => this.keys.showModal()));
  }

  plain({ text, like, file }) { return { text, like, file }; }

  close() {
    this.list.hidden = true;
    this.list.replaceChildren();
    this.lists.forEach((button) => { button.ariaExpanded = "false"; });
  }

  suggest(pairs, head) {
    const buttons = pairs.map(([text, query]) => make("button", { click: () => this.search(query) }, text));
    this.list.replaceChildren(make("p", {}, head), ...buttons);
  }

  send(what, more = {}) {
    if (what in LONG) this.wait(what, LONG[what]);  // it may take long, so it gets an id of its own
    const id = what in LONG ? ++this.id : this.shown.id;
    this.model.send({ do: what, id, media: this.media.value, ...more });
    if (!this.page) this.watch();
  }

  /** After a question, ask whether the kernel lives, and say when it does not answer. While nothing is asked nothing is
   *  sent, so that a hub sees when a kernel is idle. */
  watch() {
    const text = "No answer: the notebook's kernel is busy, was restarted or was stopped. Wait, or run the cell again.";
    if (this.silence) return;  // one question at a time
    this.model.send({ do: "ping", id: 0 });
    this.silence = setTimeout(() => { this.gone.textContent = text; }, SILENCE);
  }

  wanted() {
    const boxes = [...this.models.querySelectorAll("input")];
    const strength = this.setup.strengths[this.strength.value];
    if (boxes[0] && !boxes.some((one) => one.checked)) boxes[0].checked = true;
    const adapters = boxes.filter((one) => one.checked).map((one) => one.value || null);
    const view = { kind: this.kind.value, folder: this.folder.value, year: this.year.value, order: this.order.value };
    return { adapters, strength, ...view, names: this.names.checked };
  }

  /** Search, once the media are open. The old results stay, dimmed, until new ones come. */
  search({ text, like, file }, remember = true) {
    const query = this.next = { text, like, file };
    this.fresh = false;
    if (!this.choices) return this.active === "media" || this.choose(this.media.value, this.next);
    this.send("search", { ...this.wanted(), ...query });
    this.results.setAttribute("aria-busy", "true");
    this.pending = { ...query, remember, typed: this.box.value, id: this.id, view: this.wanted() };
  }

  /** Set the choices to those of the results that are shown. */
  putBack() {
    if (this.shown.view) this.restore(this.shown.view);
  }

  get query() { return this.choices ? this.pending ?? this.shown : this.next; }  // the query asked last

  /** Send the same query after another choice of models, strength, kind, folder, year, order or names. */
  again() {
    if (this.missed.ariaExpanded === "true") this.close();  // it would now list other captions
    this.search(this.query, false);
  }

  cancel() {
    this.model.send({ do: "cancel", id: this.id++ });
    this.fail("Cancelled. The same search continues from what is embedded so far.");
    this.putBack();
  }

  more() {
    if (this.extending || this.pending || !this.columns.length) return;  // other results come first
    const all = this.columns.every(({ tiles, about: { ranked } }) => tiles.length >= ranked);
    if (all && this.page) this.page.top = 0;
    if (all) return;
    this.extending = true;
    this.send("more", { start: Math.max(...this.columns.map((column) => column.tiles.length)) });
  }

  grow() {
    const { results, page } = this;
    if (page?.top) results.scrollTop = page.top;  // where one was, once so many results are there
    const { scrollTop, clientHeight, scrollHeight } = results;
    if (page?.top && scrollTop > page.top - 2) page.top = 0;
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
    Object.assign(this, { active, pending: null, extending: false });
    this.results.removeAttribute("aria-busy");
  }

  fail(text, file = false) {
    if (!file || this.active === "file") this.done();  // a refused file does not stop a search
    this.alert.textContent = text;
  }

  /** A query could not be sent: the address keeps it, so the page asks it once the server is back and loads it again. */
  unsent() {
    const { pending } = this;
    if (!pending) return this.done();
    this.done();
    this.page.remember({ ...this.plain(pending), ...pending.view, media: this.media.value }, true, 0);
    this.gone.textContent = "The server does not answer. Your query is kept, and asked once the server is back.";
  }

  receive(answer, views) {
    const buffers = views.map((one) => new Uint8Array(one.buffer ?? one, one.byteOffset, one.byteLength));
    const { is, id } = answer, { shown } = this, of = is === "error" ? answer.do : is;
    if (!this.page) this.gone.textContent = "";
    if (is === "pong") {
      clearTimeout(this.silence);
      this.silence = null;
    } else if (is === "progress" && id === this.id && answer.do in LONG) this.progress(answer);
    else if (is === "media" && id === this.id) this.offer(answer);
    else if (is === "growing") answer.media === this.media.value && this.choices && this.growBy(answer);
    else if (is === "hits") this.take(answer, buffers);
    else if (of === "thumbs" && id === shown.id) this.previews.receive(answer, buffers);
    else if (["open", "moments", "why", "clip", "reveal"].includes(of)) this.viewer.receive(answer, buffers);
    else if (of === "copy") this.picks.receive(answer);
    else if (is === "missed" && id === this.id) this.showMissed(answer);
    else if (is === "file" && id === this.id) this.search({ ...NOTHING, file: answer.name });
    else if (is === "error" && id === this.id) this.fail(answer.text, of === "file");
  }

  progress({ do: what, done, total, waits, unit = what === "missed" ? "captions" : "frames" }) {
    const some = count(Math.min(done, total || done));
    if (waits) this.doing.textContent = "waiting for the cell that runs …";
    else if (done) this.doing.textContent = `${some} ${total ? `of about ${count(total)} ` : ""}${unit} …`;
    if (total) Object.assign(this.bar, { max: total, value: Math.min(done, total) });
  }

  take({ id, start, columns }, [picture]) {
    const replaces = this.pending?.id === id;
    if (replaces) this.replace(columns, picture);
    else if (id !== this.shown.id || !start) return;
    this.extending = false;
    columns.forEach(({ hits }, at) => this.columns[at]?.add(hits, this));
    this.grow();
    if (replaces) this.arrive();
  }

  /** Replace the results by those of the search that was pending; `picture` asked. */
  replace(columns, picture) {
    const { remember, typed, ...query } = this.pending, top = this.results.scrollTop;
    this.done();
    this.picks.clear();
    this.viewer.node.close();
    this.shown = query;
    this.previews.reset();
    this.columns = columns.map((about, at) => new Column(about, at));
    this.results.replaceChildren(...this.columns.map((column) => column.node));
    this.results.scrollTop = 0;
    if (this.box.value === typed && (remember || !typed)) this.box.value = query.text;  // otherwise someone is typing
    const words = asked(query), { ranked = 0, dated } = columns[0] ?? {};
    const found = dated && words ? `${count(ranked)} that match` : plural(ranked, "item");
    this.heading.textContent = words && !dated ? `Results for ${words}` : `${found}${words && ` ${words}`}, newest first`;
    if (this.page) document.title = words || TITLE;
    this.chip(query, picture);
    const tab = ({ title }, at) => make("button", { click: () => this.showTab(at) }, title);
    this.tabs.replaceChildren(...(this.columns.length > 1 ? this.columns.map(tab) : []));
    this.showTab(0);
    if (words) this.store.add(this.plain(query));
    this.page?.remember({ ...this.plain(query), ...query.view, media: this.media.value }, remember, top);
  }

  /** In a narrow window the results of one model are shown, and a button for each. */
  showTab(at) {
    this.columns.forEach((column, number) => {
      this.tabs.children[number]?.setAttribute("aria-pressed", number === at);
      column.node.classList.toggle("cma-front", number === at);
      this.fit(column);
    });
  }

  fit(column) { return column.width === column.grid.clientWidth || column.layout(0, this.previews); }

  /** Light up the same result in the other columns. */
  light({ hit }, on) {
    const keys = [hit.key, ...hit.alike], mark = (tile) => tile.classList.toggle("cma-same", on && keys.includes(tile.hit.key));
    if (this.columns.length > 1) this.columns.forEach(({ tiles }) => tiles.forEach(mark));
  }

  /** Show the picture or clip that asks, with a button that takes it away. */
  chip({ like, file }, picture) {
    const name = like || file, drop = () => this.search({ ...NOTHING, text: this.shown.text });
    this.chips.hidden = !name;
    const button = make("button", { click: drop, "aria-label": `do not ask by ${name}` }, `${like ? "like" : "file"}: ${middle(name)} ×`);
    const shown = picture ? [photo(picture, `what asks: ${name}`)] : [];
    this.chips.replaceChildren(...(name ? [...shown, button] : []));
  }

  showMissed({ adapter, changes, count: found, of }) {
    this.done();
    if (this.missed.ariaExpanded !== "true") return;  // another list has been opened
    const pairs = changes.map(([text, a, b]) => [`${text} (rank ${count(a)} → ${count(b)})`, { ...NOTHING, text }]);
    this.suggest(pairs, `Of ${plural(of, "caption")}, ${count(found)} rank their picture or clip better with ${adapter}:`);
  }
}

/** The page of its own: its address holds all that decides the results, and Back closes what is large first. `top` is
 *  where the results were scrolled to when one left them. */
class Page {
  top = 0;

  read() {
    const query = new URLSearchParams(location.hash.slice(1)), get = (name) => query.get(name) ?? "";
    const view = { strength: query.has("strength") ? Number(get("strength")) : null };
    view.adapters = query.has("model") ? query.getAll("model").map((name) => name || null) : null;
    for (const name of Object.keys(VIEW)) view[name] = get(name);
    return { text: get("q"), like: get("like"), file: get("file"), media: query.get("in"), view };
  }

  /** Keep the file that asks, the last one alone, for when the page is loaded again; "" if the browser does not. */
  async keep(file) {
    await caches.delete(STORE);
    await (await caches.open(STORE)).put(`/${encodeURIComponent(file.name)}`, new Response(file));
  }

  /** The kept file of a name, null where there is none. */
  async kept(name) {
    const answer = await caches.match(`/${encodeURIComponent(name)}`, { cacheName: STORE }).catch(() => null);
    return answer && new File([await answer.blob()], name);
  }

  remember({ media, text, like, file, adapters, strength, ...view }, isNew, top) {
    const query = new URLSearchParams({ ...(text && { q: text }), ...(like && { like }), ...(file && { file }) });
    query.set("in", media);
    for (const name of adapters) query.append("model", name ?? "");
    query.set("strength", strength);
    for (const name of Object.keys(VIEW)) if (view[name]) query.set(name, view[name]);
    const address = `#${query}`;
    const way = isNew && !history.state?.large ? "pushState" : "replaceState";
    if (address === location.hash) return;
    if (way === "pushState") history.replaceState({ top }, "");  // for who comes back
    history[way](null, "", address);
  }

  /** What is large is a step of its own in the browser's history. */
  enter() { history.pushState({ large: true }, ""); }

  /** Go back to what was before; false where one is there. */
  leave() {
    this.leaving = Boolean(history.state?.large);
    if (this.leaving) history.back();
    return this.leaving;
  }
}

/** Let the keys with Ctrl, Alt or Cmd reach JupyterLab, but for those by which one edits a text. */
function passChords(node, signal) {
  const pass = (event) => {
    const chord = (event.ctrlKey || event.metaKey || event.altKey) && !["Control", "Meta", "Alt"].includes(event.key);
    const edits = event.target.matches?.("input, select") && "acvxyz".includes(event.key.toLowerCase());
    if (!chord || edits || !node.contains(event.target)) return;
    const marked = [];
    for (let one = event.target; one !== node.parentElement; one = one.parentElement) if (one.hasAttribute(OWN_KEYS)) marked.push(one);
    marked.forEach((one) => one.removeAttribute(OWN_KEYS));
    setTimeout(() => marked.forEach((one) => one.setAttribute(OWN_KEYS, "")));
  };
  addEventListener("keydown", pass, { capture: true, signal });  // before JupyterLab, which listens at the document
}

function render({ model, el }) {
  const page = document.body.dataset.page ? new Page() : null, explorer = new Explorer(model, page);
  const ended = new AbortController(), { signal } = ended;
  const begin = ({ media, view = null, ...query }) => explorer.choose(media, query, view);
  const receive = (answer, views) => explorer.receive(answer, views);
  const gone = (text) => { explorer.gone.textContent ||= text; }, unsent = () => explorer.unsent();
  model.on("msg:custom", receive);
  el.append(explorer.node);
  const query = page?.read() ?? NOTHING;
  begin(same(query, NOTHING) ? { ...query, text: explorer.setup.query } : query);
  if (page) {
    model.on("gone", gone);
    model.on("unsent", unsent);
    addEventListener("popstate", ({ state }) => {
      const { leaving } = page, { node } = explorer.viewer;
      page.leaving = false;
      if (node.open) return node.close();
      if (leaving) return;
      page.top = state?.top ?? 0;
      begin(page.read());
    }, { signal });
    if (history.state?.large) page.leave();  // it was loaded again while a result was large
    document.addEventListener("keydown", (event) => event.target === document.body && explorer.key(event), { signal });
    explorer.box.focus();
  } else {
    explorer.node.setAttribute(OWN_KEYS, "");
    passChords(explorer.node, signal);
  }
  return () => {
    model.off("msg:custom", receive);
    if (page) model.off("gone", gone) ?? model.off("unsent", unsent);
    clearTimeout(explorer.silence);
    ended.abort();
    explorer.resized.disconnect();
  };
}

export default { render };
