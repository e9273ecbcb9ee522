// The tables of a set: what its packages and programs are, and what was found in them.
const RANKS = { error: 0, warning: 1, note: 2 };
const same = (...keys) => Object.fromEntries(keys.map((key) => [key, { value: (row) => row[key] }]));
const which = {
  count: { value: (row) => row.packages.length },
  packages: { value: (row) => row.packages[0] || "", wide: true, cell: (row) => [row.packages.length > 3 ? list(row.packages.slice(0, 3).join(", ") + " …", row.packages) : printable(row.packages.join(", "))] },
};
const named = new Map(data.packages.map((each) => [each.name, each]));
fill({
  "worst-table": { rows: data.worst.map((name) => named.get(name)), text: (row) => [row.name], columns: same("name", "error", "warning", "lookups") },
  "reasons-table": {
    rows: data.reasons,
    text: (row) => [row.reason, ...row.packages],
    columns: { ...same("reason", "number"), severity: { value: (row) => (row.severity === "note" ? "yes" : "could be bound"), cell: (row) => [badge(row.severity === "note" ? "expected" : "open", row.severity === "note" ? "yes" : "could be bound")] }, ...which },
  },
  "checks-table": {
    rows: data.checks,
    text: (row) => [row.check, row.severity, ...row.packages],
    columns: { ...same("check", "number"), severity: { value: (row) => RANKS[row.severity], cell: (row) => [badge(row.severity, row.severity)] }, ...which },
  },
  "findings-table": {
    rows: data.findings,
    text: (row) => [row.severity, row.check, row.package, row.path, row.message],
    columns: {
      ...same("check", "package"),
      severity: { value: (row) => RANKS[row.severity], facet: (row) => row.severity, cell: (row) => [badge(row.severity, row.severity)] },
      message: { value: (row) => row.message, wide: true, cell: (row) => [printable(row.message), make("span", { class: "home path" }, printable(row.path))] },
    },
  },
  "duplicates-table": { rows: data.duplicates, text: (row) => [row.name, ...row.packages], columns: { ...same("name", "number"), ...which } },
  "programs-table": {
    rows: data.programs,
    text: (row) => [row.path, row.package],
    columns: { ...same("package", "libraries", "lookups", "lookups_bare", "symbols"), path: { value: (row) => base(row.path), wide: true, cell: (row) => [printable(base(row.path)), make("span", { class: "home path" }, printable(row.path))] } },
  },
  "packages-table": { rows: data.packages, text: (row) => [row.name], columns: same("name", "files", "programs", "error", "warning", "note", "bare", "lookups", "symbols") },
});
