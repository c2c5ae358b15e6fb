// The page's JavaScript: two tables, two dialogs, and the start of Python. What is shown comes from
// `window.fieldbook` functions that Python calls with JSON; what hands do goes to Python as JSON.
import { loadPyodide } from "./pyodide/pyodide.mjs";

const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const followTheme = () => { document.body.dataset.agThemeMode = dark.matches ? "dark" : "light"; };
dark.addEventListener("change", followTheme);
followTheme();

const { createGrid, themeQuartz, ModuleRegistry, AllCommunityModule } = window.agGrid;
ModuleRegistry?.registerModules?.([AllCommunityModule]);
const quartz = { fontFamily: "inherit", wrapperBorder: false };
const theme = themeQuartz
  .withParams({ ...quartz, backgroundColor: "#ffffff", foregroundColor: "#1b2430", browserColorScheme: "light" }, "light")
  .withParams({ ...quartz, backgroundColor: "#1a2028", foregroundColor: "#e6eaf0", browserColorScheme: "dark" }, "dark");

let receive = null;
const early = [];
const tell = (event) => {
  const text = JSON.stringify(event);
  if (receive) receive(text); else early.push(text);
};

// -- wells

const badges = new Map();
function badgeCell({ data }) {
  const state = badges.get(data.id) ?? "synced";
  const cell = document.createElement("span");
  cell.className = "badge cell";
  cell.dataset.state = state;
  cell.textContent = state;
  return cell;
}
const metres = ({ value }) => (value == null ? "" : value.toLocaleString("en", { maximumFractionDigits: 1 }));
const wells = createGrid($("wells"), {
  theme,
  getRowId: ({ data }) => data.id,
  defaultColDef: { sortable: true, resizable: true, minWidth: 80 },
  columnDefs: [
    { field: "name", minWidth: 190, flex: 3, filter: true, sort: "asc", tooltipField: "name", cellClass: "link" },
    { headerName: "Sync", width: 104, sortable: false, cellRenderer: badgeCell, colId: "badge" },
    { field: "status", editable: true, width: 112 },
    { field: "remark", editable: true, minWidth: 130, flex: 2, tooltipField: "remark" },
    { field: "field", editable: true, width: 124, tooltipField: "field" },
    { field: "curves", type: "rightAligned", width: 92 },
    { field: "top_m", headerName: "Top (m)", valueFormatter: metres, type: "rightAligned", width: 108 },
    { field: "base_m", headerName: "Base (m)", valueFormatter: metres, type: "rightAligned", width: 108 },
    { field: "company", minWidth: 130, flex: 1, tooltipField: "company" },
  ],
  readOnlyEdit: true, // a cell shows what the database holds, never what is only in the grid
  onCellEditRequest: ({ data, colDef, newValue }) =>
    tell({ type: "edit", well: data.id, field: colDef.field, value: newValue }),
  onCellClicked: ({ data, column }) => {
    if (column.getColId() === "name") tell({ type: "open", well: data.id });
  },
});

// -- the dialog with the curves of a well

const dialog = $("curves");
let curves = null;
// What is selected: as the database has it, and over it what hands did that it may not have yet.
// Without that, the news of one click would take back the next one for a moment.
let stored = new Set(), selected = new Set(), clicks = 0;
const wanted = new Map(); // key => {on, number}

function settle(keys, settled) {
  stored = new Set(keys);
  for (const [id, { number }] of wanted) if (number <= settled) wanted.delete(id);
  selected = new Set(stored);
  for (const [id, { on }] of wanted) if (on) selected.add(id); else selected.delete(id);
}

function openCurves({ title, rows }) {
  curves?.destroy(); // a new table each time: nothing of the last one can come back
  $("curves-title").textContent = title;
  dialog.showModal();
  curves = createGrid($("curve-grid"), {
    theme,
    rowData: rows,
    getRowId: ({ data }) => data.id,
    rowSelection: { mode: "multiRow", checkboxes: true, headerCheckbox: true, enableClickSelection: false },
    columnDefs: [
      { field: "mnemonic", headerName: "Curve", width: 116 },
      { field: "text", headerName: "What it is", flex: 1, minWidth: 140, tooltipField: "text" },
      { field: "unit", width: 84 },
      { field: "top", headerName: "Top (m)", valueFormatter: metres, width: 104, type: "rightAligned" },
      { field: "base", headerName: "Base (m)", valueFormatter: metres, width: 104, type: "rightAligned" },
    ],
    onGridReady: ({ api }) => select(api),
    onSelectionChanged: ({ api, source }) => {
      if (source === "api") return; // shown, not done by hand
      const now = new Set(api.getSelectedNodes().map((node) => node.id));
      const here = rows.map((row) => row.id);
      const on = here.filter((id) => now.has(id) && !selected.has(id));
      const off = here.filter((id) => !now.has(id) && selected.has(id));
      if (!on.length && !off.length) return;
      clicks += 1;
      for (const id of on) wanted.set(id, { on: true, number: clicks });
      for (const id of off) wanted.set(id, { on: false, number: clicks });
      settle(stored, 0);
      tell({ type: "toggle", on, off, number: clicks });
    },
  });
}

function select(api) {
  const on = [], off = [];
  api.forEachNode((node) => {
    if (selected.has(node.id) !== Boolean(node.isSelected())) (selected.has(node.id) ? on : off).push(node);
  });
  if (on.length) api.setNodesSelected({ nodes: on, newValue: true, source: "api" });
  if (off.length) api.setNodesSelected({ nodes: off, newValue: false, source: "api" });
}

dialog.addEventListener("close", () => {
  curves?.destroy();
  curves = null;
});

// -- conflicts

function element(name, words = {}, ...children) {
  const made = Object.assign(document.createElement(name), words);
  made.append(...children);
  return made;
}

function conflictBox({ id, title, fields, mine, theirs }) {
  const box = element("div", { className: "conflict" }, element("strong", { textContent: title }));
  const say = (side, field) => (side === null ? "(deleted)" : String(side[field] ?? ""));
  const rows = fields.map((field) => {
    const choice = (side, text, on) => element("td", {}, element("label", {},
      element("input", { type: "radio", name: `${id}/${field}`, value: side, checked: on }), element("span", { textContent: text })));
    return element("tr", {}, element("th", { textContent: field }),
      choice("mine", say(mine, field), true), choice("theirs", say(theirs, field), false));
  });
  const head = ["", "mine", "theirs"].map((textContent) => element("th", { textContent }));
  box.append(element("table", {}, element("tr", {}, ...head), ...rows));
  const button = (textContent, event) =>
    element("button", { textContent, type: "button", onclick: () => tell({ type: "resolve", id, ...event() }) });
  const buttons = element("div", { className: "buttons" },
    button("Keep mine", () => ({ choice: "mine" })), button("Take theirs", () => ({ choice: "theirs" })));
  if (fields.length) {
    buttons.prepend(button("Merge as chosen", () => ({
      fields: Object.fromEntries(fields.map((field) =>
        [field, box.querySelector(`input[name="${CSS.escape(`${id}/${field}`)}"]:checked`).value])),
    })));
  }
  box.append(buttons);
  return box;
}

// -- what Python shows

const LABELS = {
  idle: "synced", syncing: "syncing", offline: "offline", paused: "offline", off: "starting",
  "needs-auth": "sign in again",
};
window.fieldbook = {
  ready: false,
  shown: 0, // how often another selection was shown; a loop would show in it
  showWells(text) {
    const { add, update, remove, all } = JSON.parse(text);
    wells.applyTransaction({ add: add.filter((row) => !wells.getRowNode(row.id)), remove: remove.filter((row) => wells.getRowNode(row.id)),
      update: [...update, ...add].filter((row) => wells.getRowNode(row.id)) });
    $("count").textContent = `${all} wells`;
  },
  showCurves: (text) => openCurves(JSON.parse(text)),
  showSelection(text) {
    const { curves: keys, settled } = JSON.parse(text);
    if (keys.length !== stored.size || keys.some((key) => !stored.has(key))) this.shown += 1;
    settle(keys, settled);
    if (curves) select(curves);
  },
  showChart: (text) => { $("chart").innerHTML = JSON.parse(text).svg; },
  showBadges(text) {
    const changed = Object.entries(JSON.parse(text));
    for (const [key, badge] of changed) badges.set(key, badge);
    const rowNodes = changed.map(([key]) => wells.getRowNode(key)).filter(Boolean);
    if (rowNodes.length) wells.refreshCells({ rowNodes, columns: ["badge"], force: true });
  },
  showStatus(text) {
    const { state, queued, conflicts, error, rows, total, writes } = JSON.parse(text);
    this.writes = writes;
    this.state = state;
    const badge = $("badge");
    const offline = state === "offline" || state === "paused";
    let label = LABELS[state] ?? state;
    if (total) label = `fetching ${rows} of ${total}`;
    if (queued) label = offline ? `offline, ${queued} waiting` : `${queued} pending`;
    if (label === "synced" && conflicts) label = "needs you";
    badge.dataset.state = label === "needs you" ? "conflict" : offline ? "offline" : queued || total || state === "syncing" ? "pending"
      : label === "synced" ? "synced" : state === "off" ? "starting" : "failed";
    badge.textContent = label;
    badge.title = error ?? "";
    $("conflicts").hidden = !conflicts;
    $("conflicts").textContent = conflicts === 1 ? "1 conflict" : `${conflicts} conflicts`;
    $("offline").checked = state === "paused";
  },
  showConflicts(text) {
    const found = JSON.parse(text);
    $("conflict-list").replaceChildren(...found.map(conflictBox));
    if (found.length && !$("conflict").open) $("conflict").showModal();
    if (!found.length) $("conflict").close();
  },
  say(text) {
    const { text: line } = JSON.parse(text);
    $("say").hidden = !line;
    $("say").textContent = line;
    setTimeout(() => { $("say").hidden = true; }, 8000);
  },
};
$("conflicts").onclick = () => tell({ type: "conflicts" });
$("offline").onchange = ({ target }) => tell({ type: "pause", on: target.checked });

// -- start

async function start() {
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js", { type: "module" });
  const { archives, modules } = await (await fetch("files.json")).json();
  const bytes = (url) => fetch(url).then((answer) => answer.arrayBuffer());
  const loaded = Promise.all(archives.map(bytes));
  const sources = Promise.all(modules.map(async (url) => (await fetch(url)).text()));
  const python = await loadPyodide({ indexURL: new URL("./pyodide/", location.href).href });
  for (const archive of await loaded) python.unpackArchive(archive, "wheel");
  python.FS.mkdirTree("/book/fieldbook");
  python.FS.writeFile("/book/fieldbook/__init__.py", "");
  (await sources).forEach((text, n) => python.FS.writeFile(`/book/fieldbook/${modules[n].split("/").pop()}`, text));
  python.globals.set("url", new URL(".", location.href).href.replace(/\/$/, ""));
  // A token that is a function is asked for when one is needed; offline, the last one is good enough.
  python.globals.set("fetch_token", async () => {
    try {
      const token = await (await fetch("token")).text();
      localStorage.setItem("fieldbook-token", token);
      return token;
    } catch (error) {
      const kept = localStorage.getItem("fieldbook-token");
      if (kept !== null) return kept;
      throw new Error("No token: " + error.message);
    }
  });
  const book = await python.runPythonAsync(`
import sys
sys.path.insert(0, "/book")
import js
from fieldbook.app import main
await main(js.fieldbook, url, fetch_token)
`);
  receive = (text) => book.receive(text);
  for (const text of early.splice(0)) receive(text);
  window.fieldbook.ready = true;
}
start().catch((error) => {
  window.fieldbook.say(JSON.stringify({ text: String(error?.message ?? error) }));
  throw error;
});
