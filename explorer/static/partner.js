// The partner of explorer.js where there is no server: it answers the messages (MESSAGES.md) from the files that
// `python -m explorer.site` has written beside it, as session.py answers them from an index.

const STEP = 60, DEPTH = 1000, AWAY = 0.5;  // results in an answer; items ranked by all frames; weight of -words
const BYTES_A_LETTER = 1.5;  // tokens a letter, from which on a tokenizer does not know a script
const CLOSE = 4, ALIKE = 0.95;  // bits in which the hashes of copies differ, least cosine of a picture and its copy
const PART = 30;  // seconds of a part of a film
const LISTED = 50, LONG = 500, FOUND = 4, BEST = 5;  // most entries of a list, characters of a text, searches, moments
const ZERO_SHOT = "zero-shot", TAKEN = "upload the whole folder again";
const ELSEWHERE = "`python -m explorer` does it, on the computer that has the files";
const ABSENT = {
  why: `This page does not compute why a result matches: ${ELSEWHERE}.`,
  copy: `This page copies no files: ${ELSEWHERE}. The list and the CSV can be taken from here.`,
  reveal: `This page shows no folders: ${ELSEWHERE}.`,
};
const NO_FILES = `This page is not asked by files: ${ELSEWHERE}.`;
const sum = (row, other, from = 0, start = 0, width = other.length) => {
  let total = 0;
  for (let i = 0; i < width; i++) total += row[from + i] * other[start + i];
  return total;
};
const norm = (row) => Math.sqrt(sum(row, row));
const unit = (row) => { const length = Math.max(norm(row), 1e-12); return row.map((value) => value / length); };
const words = (text) => text.split(/\s+/).filter(Boolean);
const folded = (text) => words(text.toLowerCase()).join(" ");

/** Every number in half precision, by its bits. */
const HALVES = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
});
const READ = {  // the types of tensors in the files
  F32: (bytes) => new Float32Array(bytes),
  F16: (bytes) => Float32Array.from(new Uint16Array(bytes), (bits) => HALVES[bits]),
  I32: (bytes) => new Int32Array(bytes),
  I64: (bytes) => new Uint32Array(bytes),  // both halves of each number
};

/** Return the tensors of a safetensors file by name: their numbers as `data`, and their `shape`. */
function tensorsOf({ buffer }) {
  const size = Number(new DataView(buffer).getBigUint64(0, true)), begin = 8 + size;
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  delete head.__metadata__;
  return Object.fromEntries(Object.entries(head).map(([name, { dtype, shape, data_offsets: [from, to] }]) =>
    [name, { shape, data: READ[dtype](buffer.slice(begin + from, begin + to)) }]));
}

/** How many bits of an integer are set. */
function bitsIn(value) {
  const pairs = value - ((value >>> 1) & 0x55555555), fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** The files of the page. What is missing or cut is an error of one line. */
class Files {
  constructor() { this.kept = new Map(); }

  /** Return the bytes of a file; `report` hears how many of how many have come. */
  async bytes(name, report = () => {}) {
    const expected = this.sizes?.[name];
    const response = await fetch(this.address(name)).catch(() => { throw new Error(`${name}: the host does not answer; try again`); });
    if (!response.ok) throw new Error(`${name}: the host has no such file (${response.status}); ${TAKEN}`);
    const parts = [], reader = response.body.getReader();
    let done = 0;
    for (let part = await this.next(name, reader); !part.done; part = await this.next(name, reader)) {
      parts.push(part.value);
      report(done += part.value.length, expected);
    }
    if (expected !== undefined && done !== expected) throw new Error(`${name}: ${done} of ${expected} bytes; ${TAKEN}`);
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  }

  /** The address of a file; that of data, which is kept, has the page's digest. */
  address(name) { return this.digest && !/\.(m?js|css|html)$/.test(name) ? `${name}?${this.digest}` : name; }

  next(name, reader) {
    return reader.read().catch(() => { throw new Error(`${name}: its end does not arrive; try again, or ${TAKEN}`); });
  }

  async json(name) {
    try {
      return JSON.parse(new TextDecoder().decode(await this.bytes(name)));
    } catch (error) {
      throw error instanceof SyntaxError ? new Error(`${name}: its end is missing; ${TAKEN}`) : error;
    }
  }

  /** Return what `make` makes, only once; after a failure it is tried again. */
  once(key, make) {
    if (!this.kept.has(key)) this.kept.set(key, make().catch((error) => { this.kept.delete(key); throw error; }));
    return this.kept.get(key);
  }

  tensors(name) { return this.once(name, async () => tensorsOf(await this.bytes(name))); }
}

/** Return a picture as the model takes it, [3, H, W], and a small JPEG of the part that the model sees. */
async function prepared(name, blob, { size, sides: [high, wide], black, white }) {
  const picture = await createImageBitmap(blob, { colorSpaceConversion: "none" }).catch(() => {
    throw new Error(`${name}: no picture that this browser reads (a clip is not taken here); choose a .jpg or .png`);
  });
  const { shortest_edge: shortest } = size, shorter = Math.min(picture.width, picture.height);
  const resized = (name) => (shortest ? Math.trunc(shortest * picture[name] / shorter) : size[name]);
  const canvas = new OffscreenCanvas(wide, high), context = canvas.getContext("2d");
  Object.assign(context, { imageSmoothingQuality: "high", fillStyle: "white" });
  context.fillRect(0, 0, wide, high);  // seen through what is transparent
  const [width, height] = [resized("width"), resized("height")];
  context.drawImage(picture, -Math.floor((width - wide) / 2), -Math.floor((height - high) / 2), width, height);
  const { data } = context.getImageData(0, 0, wide, high), pixels = new Float32Array(3 * high * wide);
  for (const [at] of pixels.entries()) {
    const channel = Math.floor(at / (high * wide)), value = data[4 * (at % (high * wide)) + channel] / 255;
    pixels[at] = black[channel] + value * (white[channel] - black[channel]);
  }
  const jpeg = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
  return { pixels, shape: [1, 3, high, wide], jpeg: new Uint8Array(await jpeg.arrayBuffer()) };
}

/** The towers of the model, with any adapter at any strength. */
class Towers {
  constructor(files, site) { Object.assign(this, { files, site }); }

  /** Load the text tower and what runs it, which takes long the first time; the last `report` hears of it. */
  open(report) {
    this.report = report;
    return this.files.once("the text tower", async () => {
      const { files } = this, engine = "ort-wasm-simd-threaded.wasm", name = "tower.onnx";
      const total = files.sizes[engine] + files.sizes[name], arrived = { [engine]: 0, [name]: 0 };
      const get = (one) => files.bytes(one, (done) => {
        arrived[one] = done;
        this.report(arrived[engine] + arrived[name], total);
      });
      const load = (one) => import(`./${one}`).catch(() => { throw new Error(`${one}: cannot be loaded; ${TAKEN}`); });
      const [ort, { Tokenizer }, binary, graph, vocabulary] = await Promise.all([load("ort.wasm.min.mjs"),
        load("tokenizers.min.mjs"), get(engine), get(name), files.json("tokenizer.json")]);
      Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: binary, wasmPaths: new URL("./", import.meta.url).href });
      Object.assign(this, { ort, tokenizer: new Tokenizer(vocabulary, {}) });
      this.text = await this.session(name, graph);
    });
  }

  /** Load the vision tower too. */
  async openVision(report) {
    await this.open(report);
    this.report = report;
    await this.files.once("the vision tower", async () => {
      const name = "vision.onnx", graph = await this.files.bytes(name, (done, total) => this.report(done, total));
      this.vision = await this.session(name, graph);
    });
  }

  session(name, graph) {
    return this.ort.InferenceSession.create(graph).catch((error) => {
      throw new Error(`${name}: cannot be run by this browser (${error.message})`);
    });
  }

  /** Whether most letters of a text are of a script that the tokenizer cuts into single bytes. */
  isForeign(text) {
    const letters = text.match(/\p{L}/gu) ?? [], others = letters.filter((one) => one > "\x7f");
    const tokens = this.tokenizer.encode(others.join("")).ids.length - 2;  // without start and end
    return 2 * others.length > letters.length && tokens > BYTES_A_LETTER * others.length;
  }

  /** Return the embedding of a sentence, whether its end was cut, and whether its script is unknown. */
  async embed(text, adapter, strength, maxWords, report) {
    await this.open(report);
    let { ids } = this.tokenizer.encode(text);
    const longest = Math.min(this.site.places, maxWords ?? Infinity), cut = ids.length > longest;
    if (cut) ids = [...ids.slice(0, longest - 1), ids.at(-1)];
    const asked = new this.ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
    return { vector: await this.run(this.text, { ids: asked }, adapter, strength, ""), cut, foreign: this.isForeign(text) };
  }

  /** Return the embedding of a picture that is `prepared`. */
  async embedPicture({ pixels, shape }, adapter, strength, report) {
    await this.openVision(report);
    const asked = new this.ort.Tensor("float32", pixels, shape);
    return this.run(this.vision, { pixels: asked }, adapter, strength, "-vision");
  }

  /** Return what a tower makes of what is asked, under an adapter whose file has this ending. */
  async run(session, feeds, adapter, strength, ending) {
    const { ort: { Tensor }, site } = this, number = Math.max(0, site.adapters.indexOf(adapter));
    feeds.strength = new Tensor("float32", [adapter ? strength : 0], []);
    const given = await this.files.tensors(`${number}${ending}.safetensors`);
    for (const [name, { data, shape }] of Object.entries(given)) feeds[name] = new Tensor("float32", data, shape);
    const run = () => session.run(feeds);
    this.last = (this.last ?? Promise.resolve()).then(run, run);  // one at a time
    const [{ data }] = Object.values(await this.last);
    return data;
  }
}

/** The embeddings of all items by one model: V items of several frames of D numbers. */
class Index {
  constructor({ vectors, lengths, hashes }, config) {
    const [, width] = vectors.shape, { data: counts } = lengths, begins = new Uint32Array(counts.length);
    counts.forEach((count, item) => { begins[item + 1] = begins[item] + count; });
    Object.assign(this, { frames: vectors.data, width, counts, begins, hashes: hashes.data, config });
    this.units = Array.from(counts, (_, item) => unit(this.mean(item)));
  }

  /** The mean of an item's frames. */
  mean(item) {
    const { frames, width, counts: { [item]: count }, begins } = this, mean = new Float32Array(width);
    for (let frame = begins[item]; frame < begins[item] + count; frame++) {
      for (let at = 0; at < width; at++) mean[at] += frames[frame * width + at] / count;
    }
    return mean;
  }

  /** The match of a vector with each frame of an item. */
  matches(vector, item) {
    const { frames, width, counts, begins } = this;
    return Array.from({ length: counts[item] }, (_, frame) => sum(frames, vector, (begins[item] + frame) * width));
  }

  /** The cosine of a vector with each frame of an item; null without one. */
  cosines(vector, item) {
    const { frames, width, counts, begins } = this, towards = vector && unit(vector);
    const row = (frame) => frames.subarray((begins[item] + frame) * width, (begins[item] + frame + 1) * width);
    return Array.from({ length: counts[item] }, (_, frame) => (vector ? sum(unit(row(frame)), towards) : null));
  }

  /** The cosine of a text with an item: frames are weighted by the text (section 3.4), or all alike. */
  compare(text, item) {
    const { frames, width, counts, begins, config: { similarity, temperature } } = this, count = counts[item];
    if (similarity === "mean_pooled" || count === 1) return sum(this.units[item], unit(text));
    const scores = this.matches(text, item), highest = Math.max(...scores), pooled = new Float32Array(width);
    for (const [frame, score] of scores.entries()) {
      const weight = Math.exp((score - highest) / temperature), begin = (begins[item] + frame) * width;
      for (let at = 0; at < width; at++) pooled[at] += weight * frames[begin + at];
    }
    return sum(unit(pooled), unit(text));
  }

  /** Return [[item, cosine], …] of some items, best first, as `MediaIndex.ranking` does. */
  rank(vector, items, byText) {
    const towards = unit(vector), best = ([, one], [, other]) => other - one;
    const near = items.map((item) => [item, sum(this.units[item], towards)]).sort(best);
    const first = near.slice(0, DEPTH).sort(([one], [other]) => one - other);
    const again = byText ? first.map(([item]) => [item, this.compare(vector, item)]) : first;
    return [...again.sort(best), ...near.slice(DEPTH)];
  }

  /** Whether two items may be copies by their hashes. */
  close(one, other) {
    const { hashes } = this, at = 2 * one, to = 2 * other;
    const differ = bitsIn(hashes[at] ^ hashes[to]) + bitsIn(hashes[at + 1] ^ hashes[to + 1]);
    return differ <= CLOSE && (hashes[at] || hashes[at + 1]) && (hashes[to] || hashes[to + 1]);
  }

  /** Return {item: its copies} for ranked items that copy no better one; the `right` ones stay apart. */
  copies(items, right) {
    const found = new Map(items.map((item) => [item, []])), free = new Set(items.slice(0, DEPTH).filter((item) => !right.has(item)));
    for (const item of items.slice(0, DEPTH)) {
      if (!free.delete(item)) continue;
      for (const other of free) {
        if (!this.close(item, other)) continue;
        free.delete(other);
        if (sum(this.units[item], this.units[other]) >= ALIKE) found.get(item).push(other) && found.delete(other);
      }
    }
    return found;
  }
}

/** One set of media: its items, and an index for each model. */
class Media {
  constructor(about, items, files, adapters) {
    Object.assign(this, { about, items, files, adapters });
    const clips = new Map();
    for (const [number, item] of items.entries()) {
      const { path, start, end, moment, captions, date } = item, part = start || end ? `#t=${start ?? 0}` : "";
      if (moment && !clips.has(path)) clips.set(path, number);
      Object.assign(item, { file: path + part, title: (captions[0] ?? path).slice(0, LONG), clip: moment ? clips.get(path) : number,
        year: Number(date.slice(0, 4)), asked: new Set(captions.map(folded)) });
    }
  }

  /** What there is to choose from. */
  offer() {
    const { items, about: { about, adapter, keeps, folders, examples }, adapters } = this;
    const years = [...new Set(items.map(({ year }) => year))].filter(Boolean).sort((one, other) => other - one);
    const kinds = [...new Set(items.map(({ kind }) => kind))].sort();
    return { items: items.length, about, adapter, adapters, keeps, folders, examples, kinds, years, unread: 0, skipped: [] };
  }

  label(adapter, strength) {
    if (!adapter || !strength) return ZERO_SHOT;
    return strength === 1 ? adapter : `${adapter} × ${strength}`;
  }

  index(label) {
    const { about: { folder, labels, config }, files } = this, name = `${folder}/${labels.indexOf(label)}.safetensors`;
    return files.once(`index ${name}`, async () => new Index(await files.tensors(name), config));
  }

  /** The numbers of the items that are of a kind, in a folder and of a year. */
  inside({ kind, folder, year }) {
    return this.items.flatMap((item, number) => (!kind || item.kind === kind)
      && (!folder || item.path.startsWith(`${folder}/`)) && (!year || item.year === Number(year)) ? [number] : []);
  }

  newestFirst(items) {
    const date = (item) => this.items[item].date;
    return [...items].sort((one, other) => (date(other) > date(one)) - (date(other) < date(one)));
  }
}

/** Answers the front end, as a `Session` of Python does. */
export class Partner {
  constructor(files, site) {
    Object.assign(this, { files, site, towers: new Towers(files, site), found: new Map(), listeners: new Set() });
    this.parts = [];  // of the file that is arriving
    this.pictures = new Map();  // those that ask, by the names of their files
  }

  get() { return this.site.setup; }
  on(kind, listener) { if (kind === "msg:custom") this.listeners.add(listener); }
  off(kind, listener) { this.listeners.delete(listener); }
  tell(content, buffers = []) { this.listeners.forEach((listener) => listener(content, buffers)); }

  /** Answer a question, or say in one line why not. */
  async send(wanted, _, buffers) {
    await null;  // whoever asks has first noted that it does
    try {
      if (wanted.do in ABSENT) throw new Error(ABSENT[wanted.do]);
      await this[wanted.do](wanted, buffers);
    } catch (error) {
      this.tell({ ...wanted, is: "error", text: error.message.replace(/\s+/g, " ").slice(0, LONG) });
    }
  }

  ping(wanted) { this.tell({ ...wanted, is: "pong" }); }
  stop() {}  // a clip is a file that is there, so there is nothing to stop
  cancel() {}  // the front end takes no answer to a question that it has cancelled

  gallery(name) {
    const about = this.site.media[name];
    return this.files.once(name, async () =>
      new Media(about, await this.files.json(`${about.folder}/items.json`), this.files, this.site.adapters));
  }

  async media(wanted) {
    const media = await this.gallery(wanted.media);
    this.tell({ ...wanted, is: "media", ...media.offer() });
    this.towers.open(() => {}).catch(() => {});  // whoever asks the tower shows the error
  }

  /** Take a part of a file; once it is whole, it can be a query. */
  async file({ id, name, part, parts }, [bytes]) {
    const { setup: { suffixes }, picture } = this.site;
    if (!suffixes.length) throw new Error(NO_FILES);
    const arrived = [...this.parts.slice(0, part), bytes], whole = part + 1 === parts;
    this.parts = whole ? [] : arrived;
    if (!whole) return;
    this.pictures = new Map([...this.pictures, [name, await prepared(name, new Blob(arrived), picture)]].slice(-FOUND));
    this.tell({ is: "file", id, name });
  }

  async search(wanted) {
    const media = await this.gallery(wanted.media), { text, like, file, adapters, strength, id } = wanted;
    const query = words(text), columns = new Map();
    const parts = { words: query.filter((word) => word[0] !== "-").join(" "),
      without: query.filter((word) => word[0] === "-" && word !== "-").map((word) => word.slice(1)),
      like: like ? media.items.findIndex((item) => item.file === like) : null, picture: file ? this.pictures.get(file) : null };
    if (parts.like === -1 || parts.picture === undefined) throw new Error(`${like || file}: this file is no longer here; choose another, or search by words`);
    for (const adapter of query.length || like || file ? adapters : [null]) {
      const label = media.label(adapter, strength);
      if (!columns.has(label)) columns.set(label, await this.ask(wanted, media, label, adapter, parts));
    }
    this.found = new Map([...this.found, [id, { media, columns, picture: parts.picture }]].slice(-FOUND));
    this.more({ ...wanted, start: 0 });
  }

  /** Return the answer of one model. */
  async ask(wanted, media, label, adapter, { words: asked, without, like, picture }) {
    const begin = performance.now(), index = await media.index(label), { order, names, strength } = wanted;
    const inside = media.inside(wanted), isNewest = !asked && !without.length && like === null && !picture;
    const answer = { label, index, cut: false, foreign: false, vector: null, named: new Set(), moments: new Map(), right: new Set(), newest: isNewest,
      dated: isNewest || order === "date" };
    const report = (done, total) => this.tell({ ...wanted, is: "progress", done: Math.ceil(done / 1e6), total: Math.ceil(total / 1e6), waits: false, unit: "MB" });
    const embed = async (text) => {
      const { vector, cut, foreign } = await this.towers.embed(text, adapter, strength, index.config.max_words, report);
      answer.cut ||= cut;
      answer.foreign ||= foreign;
      return vector;
    };
    if (isNewest) {
      const ones = media.newestFirst(inside.filter((item) => media.items[item].clip === item));
      answer.ranked = [...index.copies(ones, answer.right)].map(([item, others]) => [item, 0, others]);
    } else {
      const text = asked ? await embed(asked) : null;
      const shown = picture ? await this.towers.embedPicture(picture, adapter, strength, report) : like === null ? null : index.mean(like);
      let vector = text ?? shown;
      if (without.length || (text && shown)) {
        const total = new Float32Array(index.width), add = (one, weight) => unit(one).forEach((value, at) => { total[at] += weight * value; });
        if (text) add(text, 1);
        if (shown) add(shown, 1);
        for (const word of without) add(await embed(word), -AWAY);
        if (!(text || shown) || norm(total) < 1e-4) throw new Error("nothing is left of the query; type a few words of what it shows");
        vector = unit(total).map((value) => value * (text ? norm(text) : 1));
      }
      answer.vector = text ?? shown;
      answer.ranked = index.rank(vector, inside, text !== null);
      if (text) answer.right = new Set(answer.ranked.flatMap(([item]) => media.items[item].asked.has(folded(asked)) ? [item] : []));
      this.arrange(answer, media, { order, asked: names ? asked : "" });
    }
    return Object.assign(answer, { seconds: (performance.now() - begin) / 1000 });
  }

  /** Return one result for all moments of a clip, and for all copies of a picture. */
  fold(answer, media, ranked) {
    const { index, right } = answer, score = new Map(ranked), leaders = new Map(), moments = new Map();
    for (const [item] of ranked) {
      const leader = leaders.get(media.items[item].clip);
      if (leader === undefined) leaders.set(media.items[item].clip, item);
      else moments.set(leader, [...moments.get(leader) ?? [], item]);
    }
    answer.moments = new Map([...answer.moments, ...moments]);
    return [...index.copies([...leaders.values()], right)].map(([item, others]) => [item, score.get(item), others]);
  }

  /** Fold the results, order them by date, and put those first whose name has every word. */
  arrange(answer, media, { order, asked }) {
    const { ranked } = answer, every = words(asked.toLowerCase());
    const fits = ([item]) => every.every((word) => `${media.items[item].path} ${media.items[item].title}`.toLowerCase().includes(word));
    const all = new Map(this.fold(answer, media, ranked).map((one) => [one[0], one]));
    const named = every.length ? this.fold(answer, media, ranked.filter(fits)) : [];
    answer.named = new Set(named.map(([item]) => item));
    const scores = [...all.values()].map(([, score]) => score), middle = scores.length >> 1;
    const median = (scores[middle] + scores[scores.length - 1 - middle]) / 2;
    const fitting = scores.filter((score) => score >= (scores[0] + median) / 2).length;  // nearer to the best than to the median
    const others = [...all.values()].slice(0, order === "date" ? fitting : all.size).filter(([item]) => !answer.named.has(item));
    const joined = new Map([...named, ...others].map((one) => [one[0], one]));
    answer.ranked = order === "date" ? media.newestFirst(joined.keys()).map((item) => joined.get(item)) : [...joined.values()];
  }

  more({ id, start }) {
    const search = this.found.get(id);
    if (!search) return;
    const answers = [...search.columns.values()], columns = answers.map((answer) => this.column(answer, search.media, start, answers));
    this.tell({ is: "hits", id, start, columns }, search.picture && !start ? [search.picture.jpeg] : []);
  }

  /** The rank of each item; copies and other moments have that of their result. */
  ranks({ ranked, moments }) {
    const ranks = new Map(), set = (one, rank) => ranks.has(one) || ranks.set(one, rank);
    ranked.forEach(([item, , alike = []], at) => [item, ...alike, ...moments.get(item) ?? []].forEach((one) => set(one, at + 1)));
    return ranks;
  }

  column({ label, ranked, right, seconds, cut, foreign, newest, dated, named }, { items }, start, answers) {
    const others = answers.length > 1 && !dated ? answers.map((one) => one.ranks ??= this.ranks(one)) : [];
    const hits = ranked.slice(start, start + STEP).map(([item, score, alike = []], at) => {
      const { title, file, path, kind, ratio, date } = items[item];
      return { rank: start + at + 1, item, score, right: right.has(item), named: named.has(item), quote: null, title, file, path, kind, ratio,
        key: String(item), alike: alike.map(String), copies: alike.slice(0, LISTED).map((one) => items[one].path),
        date: date.slice(0, 10), ranks: others.map((one) => one.get(item) ?? null) };
    });
    const place = dated ? -1 : ranked.findIndex(([item]) => right.has(item));
    return { label, newest, dated, items: items.length, ranked: ranked.length,
      right: place < 0 ? null : place + 1, seconds, cut, foreign, hits };
  }

  async missed(wanted) {
    const { about, label } = await this.gallery(wanted.media), adapter = wanted.adapters.find(Boolean);
    if (!adapter || !wanted.strength) throw new Error("choose an adapter, at a strength above 0, to see what CLIP misses");
    this.tell({ ...wanted, is: "missed", adapter, ...about.missed[label(adapter, wanted.strength)] });
  }

  async thumbs(wanted) {
    const found = this.found.get(wanted.id);
    if (!found) return;
    const problems = [], get = async ([, item], at) => {
      problems[at] = "";
      return this.files.bytes(`${found.media.about.folder}/${item}-small.jpg`).catch((error) => {
        problems[at] = error.message;
        return new Uint8Array();
      });
    };
    this.tell({ ...wanted, is: "thumbs", problems }, await Promise.all(wanted.items.map(get)));
  }

  /** Send a result large, with the time of the frame that fits the sentence best. */
  async open(wanted) {
    const found = this.found.get(wanted.id);
    if (!found) return;
    const { media: { about, items }, columns } = found, { item } = wanted, { captions, path, facts, times } = items[item];
    const { vector, index } = columns.get(wanted.column), matches = vector && times ? index.matches(vector, item) : null;
    const at = matches ? times[matches.indexOf(Math.max(...matches))] : times?.[0] ?? null;
    const small = () => this.files.bytes(`${about.folder}/${item}-small.jpg`);  // where the others were never shown, offline
    const buffers = await Promise.all(["large", "seen"].map((name) => this.files.bytes(`${about.folder}/${item}-${name}.jpg`).catch(small)));
    const listed = captions.slice(0, LISTED).map((text) => text.slice(0, LONG));
    this.tell({ ...wanted, is: "open", captions: listed, path, facts, at, file: null }, buffers);
  }

  /** Send how well each frame of a clip fits the query, and its best moments, with the preview of their part of it. */
  async moments(wanted) {
    const found = this.found.get(wanted.id);
    if (!found) return;
    const { media: { about, items }, columns } = found, { vector, index } = columns.get(wanted.column), all = new Map();
    for (const [item, { clip, times }] of items.entries()) {
      if (clip !== items[wanted.item].clip) continue;
      index.cosines(vector, item).forEach((value, at) => times && all.set(times[at], [times[at], value, item]));
    }
    const strip = [...all.values()].sort(([one], [other]) => one - other), best = [];
    const apart = strip.length ? (strip.at(-1)[0] - strip[0][0]) / 10 : 0;
    for (const one of [...strip].sort(([, one], [, other]) => other - one)) {
      if (best.length < BEST && best.every(([at]) => Math.abs(at - one[0]) >= apart)) best.push(one);
    }
    const pictures = await Promise.all(best.map(([, , item]) => this.files.bytes(`${about.folder}/${item}-small.jpg`)));
    const pairs = (ones) => ones.map(([at, value]) => [at, value]);
    this.tell({ ...wanted, is: "moments", strip: pairs(strip), moments: pairs(best) }, pictures);
  }

  async clip(wanted) {
    const found = this.found.get(wanted.id);
    if (!found) return;
    const { about: { folder }, items } = found.media, { moment, clip, start } = items[wanted.item];
    const part = moment ? Math.floor(wanted.at / PART) : null;  // a film that was cut has parts of its own
    const bytes = await this.files.bytes(`${folder}/${moment ? `${clip}-${part}` : wanted.item}.webm`);
    this.tell({ ...wanted, is: "clip", start: moment ? part * PART : start ?? 0 }, [bytes]);
  }
}

/**
 * Let the service worker keep all files but the large pictures and the clips, which it keeps once they were shown.
 * Previews come last: a host that goes away meanwhile leaves a page that opens.
 */
async function keepOffline(files) {
  await navigator.serviceWorker.register("./worker.js");
  const { active } = await navigator.serviceWorker.ready, large = /(-large|-seen)\.jpg$|\.webm$/;
  const all = Object.keys(files.sizes).filter((name) => !large.test(name)), isPreview = (name) => name.endsWith("-small.jpg");
  const inOrder = [...all.filter((name) => !isPreview(name)), ...all.filter(isPreview)];
  active.postMessage({ names: ["./", "site.json", ...inOrder.map((name) => files.address(name))], digest: files.digest });
}

/** Open the page: the partner, once the list of its files is there. */
export async function begin() {
  const files = new Files(), site = await files.json("site.json");
  Object.assign(files, { sizes: site.bytes, digest: site.digest });
  keepOffline(files).catch(() => {});  // a browser that keeps nothing shows the page nevertheless
  return new Partner(files, site);
}

const place = document.getElementById("begin");
if (place) {
  try {
    const [{ default: explorer }, model] = await Promise.all([import("./explorer.js"), begin()]);
    place.remove();
    explorer.render({ model, el: document.body });
  } catch (error) {
    place.textContent = error.message;
  }
}
