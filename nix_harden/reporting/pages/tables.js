// What pages of nix-harden share: words, and tables that sort, filter and show more rows at each wish.
// Text reaches a page by textContent alone: paths are whatever somebody has named a file.
const data = JSON.parse(document.getElementById("data").textContent);
const STEP = matchMedia("(max-width: 40rem)").matches ? 15 : 50; // rows that a table shows at first; more at each wish
const collator = new Intl.Collator("en", { numeric: true });

// Words

// Characters that a reader would not see, or that turn the text around, are spelled out.
const printable = (text) =>
  text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (each) => `\\u${each.codePointAt(0).toString(16).padStart(4, "0")}`);
const number = (value) => value.toLocaleString("en-US");
const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;
const size = (bytes) => {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
};
const base = (path) => path.slice(path.lastIndexOf("/") + 1) || path;

const make = (tag, properties = {}, ...children) => {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value !== undefined && value !== null) found.setAttribute(name, value);
  }
  found.append(...children.filter((child) => child !== null && child !== undefined));
  return found;
};
const badge = (kind, text) => make("span", { class: `badge ${kind}` }, printable(text));
const said = document.getElementById("said");
const say = (words) => {
  said.textContent = words;
};

// Tables

const list = (title, entries) =>
  make("details", {}, make("summary", {}, title), make("ul", {}, ...entries.map((each) => make("li", { class: "path" }, printable(each)))));

const plain = (kind, value) => {
  if (value === null) return "–";
  if (kind === "bytes") return size(value);
  return kind === "number" ? number(value) : printable(value);
};

const tables = new Map();

class Table {
  constructor(id, spec) {
    this.element = document.getElementById(id);
    this.spec = spec;
    this.rows = spec.rows.map((row) => ({ row, text: spec.text(row).filter(Boolean).join("\n").toLowerCase() }));
    this.heads = [...this.element.tHead.rows[0].cells];
    this.controls = document.querySelector(`.controls[data-for="${id}"]`);
    this.filter = this.controls.querySelector("[data-filter]");
    this.facets = [...this.controls.querySelectorAll("[data-facet]")];
    this.more = this.element.parentElement.nextElementSibling;
    this.key = null;
    this.ascending = true;
    this.limit = STEP;
    this.fillFacets();
    for (const head of this.heads) head.querySelector("button").addEventListener("click", () => this.sortBy(head));
    this.filter.addEventListener("input", () => this.refilter());
    for (const facet of this.facets) facet.addEventListener("change", () => this.refilter());
    this.more.querySelector("[data-more]").addEventListener("click", () => this.show(this.limit + 5 * STEP));
    this.more.querySelector("[data-all]").addEventListener("click", () => this.show(Infinity));
    this.sorted = this.rows;
    this.refilter();
  }

  facetOf(key) {
    const column = this.spec.columns[key];
    return column.facet || column.value;
  }

  fillFacets() {
    for (const facet of this.facets) {
      const of = this.facetOf(facet.dataset.facet);
      const counts = new Map();
      for (const { row } of this.rows) counts.set(of(row), (counts.get(of(row)) || 0) + 1);
      for (const [value, times] of [...counts].sort((one, other) => collator.compare(one[0], other[0]))) {
        if (value !== "") facet.append(make("option", { value }, `${printable(value)} (${number(times)})`));
      }
    }
  }

  sortBy(head) {
    const numeric = head.dataset.kind === "number" || head.dataset.kind === "bytes";
    const again = this.key === head.dataset.key;
    this.ascending = again ? !this.ascending : !numeric;
    this.key = head.dataset.key;
    for (const each of this.heads) each.setAttribute("aria-sort", each === head ? (this.ascending ? "ascending" : "descending") : "none");
    const value = this.spec.columns[this.key].value;
    const keyed = this.rows.map((each) => ({ each, key: value(each.row) }));
    const sign = this.ascending ? 1 : -1;
    keyed.sort((one, other) => {
      if (one.key === null || other.key === null) return (one.key === null) - (other.key === null); // what is not known is last
      return sign * (typeof one.key === "number" ? one.key - other.key : collator.compare(one.key, other.key));
    });
    this.sorted = keyed.map(({ each }) => each);
    this.limit = Math.min(this.limit, STEP);
    this.refilter();
    say(`${head.textContent}: ${this.ascending ? "ascending" : "descending"}`);
  }

  refilter() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const facets = this.facets.filter((facet) => facet.value !== "").map((facet) => [this.facetOf(facet.dataset.facet), facet.value]);
    this.found = this.sorted.filter(
      ({ row, text }) => words.every((word) => text.includes(word)) && facets.every(([of, value]) => String(of(row)) === value),
    );
    this.show(STEP);
  }

  show(limit) {
    this.limit = limit;
    const shown = this.found.slice(0, limit);
    const body = document.createDocumentFragment();
    for (const { row } of shown) body.append(this.line(row));
    this.element.tBodies[0].replaceChildren(body);
    const left = this.found.length - shown.length;
    this.more.hidden = left === 0;
    this.more.querySelector("[data-more]").textContent = `Show ${number(Math.min(left, 5 * STEP))} more`;
    const of = this.found.length === this.rows.length ? "" : ` of ${number(this.rows.length)}`;
    this.controls.querySelector("[data-count]").textContent =
      count(this.found.length, "row", "rows") + of + (left ? `, the first ${number(shown.length)} shown` : "");
  }

  line(row) {
    const line = make("tr", { role: "row" });
    this.heads.forEach((head, place) => {
      const { key, kind } = head.dataset;
      const column = this.spec.columns[key];
      const content = column.cell ? column.cell(row) : [plain(kind, column.value(row))];
      const names = [kind === "number" || kind === "bytes" ? "number" : "", column.wide ? "wide" : ""].join(" ").trim();
      const role = place ? "cell" : "rowheader";
      line.append(
        make(place ? "td" : "th", { role, scope: place ? null : "row", class: names || null, "data-label": head.textContent }, make("div", {}, ...content.filter((each) => each !== null))),
      );
    });
    return line;
  }

  // Show the rows of one value of a facet, or with some words, and nothing else.
  only(words, facets) {
    this.filter.value = words;
    for (const facet of this.facets) facet.value = facets[facet.dataset.facet] || "";
    this.refilter();
    this.element.closest("section").scrollIntoView();
  }
}

const fill = (specs) => {
  for (const [id, spec] of Object.entries(specs)) {
    if (document.getElementById(id)) tables.set(id, new Table(id, spec));
  }
};
window.addEventListener("beforeprint", () => tables.forEach((table) => table.show(Infinity)));
