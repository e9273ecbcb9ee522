// What moves in the report beside its tables: the graph that moves and zooms, and the file that is chosen in both.
const objects = data.objects;
const LISTED = 40; // entries of a list in the inspector

const home = (path) => {
  // what a store path is called, without the directory of the store and the hash
  const name = path.startsWith(`${data.store}/`) ? path.slice(data.store.length + 1) : path;
  return name.replace(/^[0-9a-z]{32}-(?=.)/, "");
};

const fileLink = (place) => {
  const path = objects[place].path;
  return make("button", { type: "button", class: "link", "data-object": place, title: printable(path) }, printable(base(path)));
};
const file = (place) => [fileLink(place), make("span", { class: "home" }, printable(home(objects[place].store_path)))];
const pathOf = (path) => {
  const place = places.get(path);
  return place === undefined ? [make("span", { class: "path" }, printable(path))] : file(place);
};
const places = new Map(objects.map((each, place) => [each.path, place]));

// For each column what it sorts by, and what its cell holds where that is more than the same.
const state = (row) => (row.state === "bare" ? (row.expected ? "expected" : "open") : row.state);
const stateWords = (row) => (row.state === "bare" ? (row.expected ? "bare, as it should be" : "bare, could be bound") : row.state === "missing" ? "not found" : row.state);
const soname = (row) => row.soname_state || "none";
const RANKS = { error: 0, warning: 1, note: 2 };
const TABLES = {
  "findings-table": {
    rows: data.findings,
    text: (row) => [row.severity, row.check, row.path, row.message, row.program, row.reason],
    columns: {
      severity: { value: (row) => RANKS[row.severity], facet: (row) => row.severity, cell: (row) => [badge(row.severity, row.severity)] },
      check: { value: (row) => row.check },
      object: { value: (row) => base(row.path), cell: (row) => pathOf(row.path) },
      message: {
        value: (row) => row.message,
        wide: true,
        cell: (row) => [
          printable(row.message),
          row.program === row.path ? null : make("span", { class: "home" }, `in ${printable(row.program)}`),
        ],
      },
    },
  },
  "roots-table": {
    rows: data.roots,
    text: (row) => [row.path, row.kind, row.loader, row.compared_why_not],
    columns: {
      object: { value: (row) => base(row.path), cell: (row) => file(row.object) },
      kind: { value: (row) => row.kind },
      libraries: { value: (row) => row.libraries },
      bytes: { value: (row) => row.bytes },
      bound: { value: (row) => row.bound },
      bare: { value: (row) => row.bare },
      lookups_now: { value: (row) => row.lookups_now },
      lookups_bare: { value: (row) => row.lookups_bare },
      saved: { value: (row) => (row.lookups_now === null ? null : row.lookups_bare - row.lookups_now) },
      observed: {
        value: (row) => row.observed,
        cell: (row) => [row.observed === null ? printable(row.observed_why_not || "no") : number(row.observed)],
      },
      compared: { value: (row) => (row.compared ? "compared" : row.compared_why_not || "no") },
    },
  },
  "names-table": {
    rows: data.names,
    text: (row) => [objects[row.object].path, row.name, stateWords(row), row.why, row.found_by, row.via, ...row.targets.map((place) => objects[place].path)],
    columns: {
      object: { value: (row) => base(objects[row.object].path), cell: (row) => file(row.object) },
      name: {
        value: (row) => base(row.name),
        wide: true,
        cell: (row) => [
          make("span", { class: "path" }, printable(row.name)),
          row.tag === "DT_NEEDED" ? null : make("span", { class: "home" }, row.tag),
        ],
      },
      state: { value: stateWords, cell: (row) => [badge(state(row), stateWords(row))] },
      why: { value: (row) => row.why || "" },
      found_by: {
        value: (row) => row.found_by,
        cell: (row) => [
          printable(row.found_by),
          row.tried.length ? list(`tried ${count(row.tried.length, "place", "places")}`, row.tried) : null,
        ],
      },
      target: { value: (row) => (row.targets.length ? base(objects[row.targets[0]].path) : ""), cell: (row) => row.targets.flatMap(file) },
      roots: { value: (row) => row.roots },
    },
  },
  "duplicates-table": {
    rows: data.duplicates,
    text: (row) => [row.name, ...row.objects.map((place) => objects[place].path)],
    columns: {
      name: { value: (row) => row.name },
      objects: { value: (row) => row.objects.length, cell: (row) => row.objects.flatMap(file) },
      together: {
        value: (row) => row.together.length,
        cell: (row) => (row.together.length ? [list(count(row.together.length, "program", "programs"), row.together)] : ["no"]),
      },
      extra_bytes: { value: (row) => row.extra_bytes },
    },
  },
  "objects-table": {
    rows: objects,
    text: (row) => [row.path, row.kind, row.soname, soname(row), row.soname_why, row.left_alone],
    columns: {
      object: { value: (row) => base(row.path), cell: (row) => file(places.get(row.path)) },
      kind: { value: (row) => row.kind },
      bytes: { value: (row) => row.bytes },
      closure_bytes: { value: (row) => row.closure_bytes },
      needs: { value: (row) => row.needs.length },
      needed_by: { value: (row) => row.needed_by.length },
      roots: { value: (row) => row.roots },
      soname_state: {
        value: soname,
        cell: (row) => [badge(row.soname_state === "bound" ? "bound" : "", soname(row)), row.soname_why ? make("span", { class: "home" }, row.soname_why) : null],
      },
    },
  },
  "store-paths-table": {
    rows: data.store_paths,
    text: (row) => [row.path],
    columns: {
      path: { value: (row) => home(row.path), wide: true, cell: (row) => [make("span", {}, printable(home(row.path))), make("span", { class: "home path" }, printable(row.path))] },
      objects: { value: (row) => row.objects.length },
      bytes: { value: (row) => row.bytes },
    },
  },
};

fill(TABLES);

// The graph

class Picture {
  constructor(viewport) {
    this.viewport = viewport;
    this.svg = viewport.querySelector("svg");
    const box = this.svg.viewBox.baseVal;
    this.whole = { x: box.x, y: box.y, width: box.width, height: box.height };
    viewport.style.aspectRatio = `${box.width} / ${box.height}`; // within the bounds of the style sheet
    this.view = this.opening();
    this.nodes = new Map();
    this.edges = [];
    this.pointers = new Map();
    this.moved = 0;
    this.read();
    this.listen();
    this.draw();
  }

  read() {
    const known = new Map(objects.map((each, place) => [each.id, place]));
    for (const node of this.svg.querySelectorAll("g.node")) {
      const place = known.get(node.id);
      if (place === undefined) continue;
      this.nodes.set(place, node);
      node.dataset.object = place;
    }
    for (const edge of this.svg.querySelectorAll("g.edge")) {
      const ends = edge.querySelector(":scope > title").textContent.split("->").map((id) => known.get(id));
      this.edges.push({ edge, source: ends[0], target: ends[1] });
    }
    // Browsers show a title when the pointer rests; these are ids, and those further in are words.
    for (const title of this.svg.querySelectorAll(".graph > title, .node > title, .edge > title, .cluster > title")) title.remove();
  }

  listen() {
    const { viewport } = this;
    viewport.addEventListener(
      "wheel",
      (event) => {
        // the wheel scrolls the page until somebody has turned to the graph
        if (!event.ctrlKey && document.activeElement !== viewport) return;
        event.preventDefault();
        this.zoom(Math.exp(event.deltaY * (event.ctrlKey ? 0.01 : 0.0015) * (event.deltaMode === 1 ? 20 : 1)), this.at(event.clientX, event.clientY));
      },
      { passive: false },
    );
    viewport.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      this.moved = 0;
    });
    viewport.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      viewport.addEventListener(name, (event) => {
        this.pointers.delete(event.pointerId);
        if (!this.pointers.size) viewport.classList.remove("dragging");
      });
    }
    viewport.addEventListener("click", (event) => {
      viewport.focus({ preventScroll: true });
      const node = event.target.closest("g.node");
      if (this.moved > 6) return;
      choose(node && node.dataset.object !== undefined ? Number(node.dataset.object) : null, { from: "graph" });
    });
    viewport.addEventListener("keydown", (event) => {
      const step = 0.15;
      const keys = {
        ArrowLeft: () => this.move(-step * this.view.width, 0),
        ArrowRight: () => this.move(step * this.view.width, 0),
        ArrowUp: () => this.move(0, -step * this.view.height),
        ArrowDown: () => this.move(0, step * this.view.height),
        "+": () => this.zoom(1 / 1.4),
        "=": () => this.zoom(1 / 1.4),
        "-": () => this.zoom(1.4),
        0: () => this.fit(),
        Escape: () => choose(null, { from: "graph" }),
      };
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    const zooms = { in: () => this.zoom(1 / 1.4), out: () => this.zoom(1.4), fit: () => this.fit() };
    for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", zooms[button.dataset.zoom]);
  }

  drag(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    if (event.pointerType === "mouse" && !event.buttons) {
      this.pointers.delete(event.pointerId); // it was let go of elsewhere
      return;
    }
    const now = { x: event.clientX, y: event.clientY };
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, each]) => each);
    this.moved += Math.abs(now.x - last.x) + Math.abs(now.y - last.y);
    if (this.moved > 6 && !this.viewport.hasPointerCapture(event.pointerId)) {
      this.viewport.setPointerCapture(event.pointerId);
      this.viewport.classList.add("dragging");
    }
    if (others.length) {
      const distance = (each) => Math.hypot(each.x - others[0].x, each.y - others[0].y) || 1;
      this.zoom(distance(last) / distance(now), this.at((now.x + others[0].x) / 2, (now.y + others[0].y) / 2));
    } else if (this.moved > 6) {
      this.move((last.x - now.x) * this.scale, (last.y - now.y) * this.scale);
    }
    this.pointers.set(event.pointerId, now);
  }

  // Units of the picture in a pixel; what does not fill the viewport is centred.
  get scale() {
    return Math.max(this.view.width / (this.viewport.clientWidth || 1), this.view.height / (this.viewport.clientHeight || 1));
  }

  at(x, y) {
    const box = this.viewport.getBoundingClientRect();
    return {
      x: this.view.x + this.view.width / 2 + (x - box.left - box.width / 2) * this.scale,
      y: this.view.y + this.view.height / 2 + (y - box.top - box.height / 2) * this.scale,
    };
  }

  move(x, y) {
    const { view, whole } = this;
    const held = (value, size, from, all) => Math.min(Math.max(value, from - size * 0.75), from + all - size * 0.25);
    view.x = held(view.x + x, view.width, whole.x, whole.width);
    view.y = held(view.y + y, view.height, whole.y, whole.height);
    this.draw();
  }

  zoom(factor, about = { x: this.view.x + this.view.width / 2, y: this.view.y + this.view.height / 2 }) {
    const { view, whole } = this;
    const widest = 1.2 * Math.max(whole.width, (whole.height * view.width) / view.height);
    const bounded = Math.min(Math.max(view.width * factor, Math.min(120, whole.width)), widest) / view.width;
    view.x = about.x - (about.x - view.x) * bounded;
    view.y = about.y - (about.y - view.y) * bounded;
    view.width *= bounded;
    view.height *= bounded;
    this.draw();
  }

  // The whole; or of what would leave more than half of the viewport empty as much as fills it, from where programs are.
  opening() {
    const { whole, viewport } = this;
    const shape = viewport.clientWidth / (viewport.clientHeight || 1) || 1;
    const wider = whole.width / whole.height / shape;
    if (wider > 2) return { ...whole, width: whole.height * shape };
    return wider < 0.5 ? { ...whole, height: whole.width / shape } : { ...whole };
  }

  fit() {
    this.view = { ...this.whole };
    this.draw();
  }

  // Many events of one frame are drawn once.
  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const { x, y, width, height } = this.view;
      this.svg.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    });
  }

  centre(place) {
    const node = this.nodes.get(place);
    if (!node) return;
    const box = node.getBoundingClientRect();
    const middle = this.at(box.left + box.width / 2, box.top + box.height / 2);
    const wide = Math.min(this.whole.width, Math.max(this.viewport.clientWidth * 0.9, 300));
    if (this.view.width > wide) {
      const factor = wide / this.view.width;
      this.view.width *= factor;
      this.view.height *= factor;
    }
    this.view.x = middle.x - this.view.width / 2;
    this.view.y = middle.y - this.view.height / 2;
    this.draw();
  }

  mark(chosen, hits) {
    const near = new Set();
    for (const { edge, source, target } of this.edges) {
      const out = chosen !== null && source === chosen;
      const into = chosen !== null && target === chosen;
      edge.classList.toggle("out", out);
      edge.classList.toggle("into", into);
      if (out) near.add(target);
      if (into) near.add(source);
    }
    for (const [place, node] of this.nodes) {
      node.classList.toggle("chosen", place === chosen);
      node.classList.toggle("near", near.has(place));
      node.classList.toggle("hit", hits.has(place));
    }
    this.svg.classList.toggle("choosing", chosen !== null);
    this.svg.classList.toggle("seeking", hits.size > 0);
  }
}

const viewport = document.getElementById("viewport");
const picture = viewport ? new Picture(viewport) : null;
let chosen = null;
let hits = [];
let hit = -1;

const remark = () => picture && picture.mark(chosen, new Set(hits));

if (picture) {
  const search = document.getElementById("graph-search");
  const found = document.getElementById("graph-count");
  const tell = () => {
    found.textContent = search.value.trim() ? (hits.length ? (hit >= 0 ? `${number(hit + 1)} of ${number(hits.length)}` : `${number(hits.length)} found`) : "none found") : "";
  };
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    hits = words.length ? [...picture.nodes.keys()].filter((place) => words.every((word) => objects[place].path.toLowerCase().includes(word))) : [];
    hit = -1;
    if (hits.length === 1) picture.centre(hits[0]);
    remark();
    tell();
  });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !hits.length) return;
    event.preventDefault();
    hit = (hit + (event.shiftKey ? hits.length - 1 : 1)) % hits.length;
    choose(hits[hit], { from: "search" });
    tell();
  });
}

// The file that is chosen

const inspector = document.getElementById("inspector");
const several = (title, rows, all) => {
  if (!rows.length) return [];
  const shown = make("ul", {}, ...rows.slice(0, LISTED));
  if (rows.length > LISTED) shown.append(make("li", {}, all || `and ${number(rows.length - LISTED)} more`));
  return [make("h4", {}, `${title} (${number(rows.length)})`), shown];
};
const inspect = (place) => {
  if (place === null) {
    inspector.replaceChildren(make("p", { class: "muted" }, "No file is chosen."));
    return;
  }
  const it = objects[place];
  const facts = [
    ["Path", make("span", { class: "path" }, printable(it.path))],
    ["Kind", `${it.kind}, ${it.abi}`],
    ["Size", `${size(it.bytes)}, ${size(it.closure_bytes)} with all it needs`],
    ["SONAME", it.soname === null ? "none" : `${printable(it.soname)} (${it.soname_state}${it.soname_why ? `: ${it.soname_why}` : ""})`],
  ];
  if (it.search_path_tag) {
    const entries = it.search_path.split(":").filter(Boolean);
    facts.push([it.search_path_tag, entries.length > 1 ? list(count(entries.length, "directory", "directories"), entries) : make("span", { class: "path" }, printable(it.search_path) || "empty")]);
  }
  if (it.left_alone) facts.push(["Left alone", it.left_alone]);
  const names = data.names.filter((row) => row.object === place);
  const findings = data.findings.filter((row) => row.object === place);
  const needs = names.map((row) => make("li", {}, ...(row.targets.length ? [fileLink(row.targets[0])] : [printable(row.name)]), " ", row.state === "bound" ? null : badge(state(row), row.why || stateWords(row))));
  inspector.replaceChildren(
    make("h3", {}, printable(base(it.path))),
    make("dl", {}, ...facts.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])),
    ...several("Findings", findings.map((row) => make("li", {}, badge(row.severity, row.severity), ` ${printable(row.message)}`))),
    ...several("Needs", needs, make("button", { type: "button", class: "link", "data-names-of": place }, `all ${number(needs.length)} in the table of names`)),
    ...several("Needed by", it.needed_by.map((each) => make("li", {}, fileLink(each)))),
  );
  inspector.scrollTop = 0;
};

function choose(place, { from }) {
  chosen = place;
  inspect(place);
  remark();
  if (place === null || from === "graph") return;
  if (picture) picture.centre(place);
  if (from !== "search") document.getElementById("graph").scrollIntoView();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.object !== undefined) choose(Number(button.dataset.object), { from: inspector.contains(button) ? "search" : "table" });
  if (button.dataset.why !== undefined) tables.get("names-table").only("", { why: button.dataset.why });
  if (button.dataset.namesOf !== undefined) tables.get("names-table").only(objects[Number(button.dataset.namesOf)].path, {});
});
inspect(null);
