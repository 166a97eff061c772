"""HTML, style and script of the QA page; the content goes where ``__CONTENT__`` stands."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>romosaic: quality of the products</title>
<style>
:root { --ink: #1a2133; --quiet: #64708a; --line: #dfe4ee; --paper: #fff; --soft: #f4f6fa;
  --green: #2e9e6b; --amber: #d99a0b; --red: #cf3b3b; }
* { box-sizing: border-box; }
body { margin: 0; padding: 20px 24px 40px; background: var(--paper); color: var(--ink);
  font: 12.5px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 20px; margin: 0 0 2px; }
h2 { font-size: 15px; margin: 28px 0 8px; }
p { margin: 0 0 12px; color: var(--quiet); max-width: 95ch; }
.bar { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 14px 0 10px; }
button, input { font: inherit; color: inherit; border: 1px solid var(--line); border-radius: 7px;
  background: var(--paper); padding: 4px 11px; }
button { cursor: pointer; }
button.on { background: var(--ink); color: #fff; border-color: var(--ink); }
input { width: 22em; }
.box { overflow: auto; border: 1px solid var(--line); border-radius: 9px; }
.tall { max-height: 72vh; }
table { border-collapse: separate; border-spacing: 0; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: 4px 7px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; z-index: 2; background: var(--soft); font-weight: 600;
  vertical-align: bottom; white-space: normal; line-height: 1.2; }
th small { display: block; font-weight: 400; color: var(--quiet); margin-top: 3px; }
th[data-sort] { cursor: pointer; user-select: none; }
th[data-sort]:hover { background: #e9edf5; }
th.up::after { content: " \\2191"; } th.down::after { content: " \\2193"; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
.sticky td:first-child, .sticky th:first-child { position: sticky; left: 0;
  background: var(--paper); z-index: 1; }
.sticky th:first-child { background: var(--soft); z-index: 3; }
tr.row { cursor: pointer; } tr.row:hover td { background: var(--soft); }
tr:last-child > td { border-bottom: 0; }
.dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 7px;
  background: #c5ccda; }
.dot.green { background: var(--green); } .dot.amber { background: var(--amber); }
.dot.red { background: var(--red); }
td.amber { color: #8a6000; background: #fdf3d8; font-weight: 600; }
td.red { color: #9d1f1f; background: #fbe3e3; font-weight: 600; }
td.none { color: #a3acbe; }
.more > td { background: var(--soft) !important; padding: 12px 16px 16px; text-align: left;
  white-space: normal; }
.more table { width: auto; margin: 4px 0 10px; background: var(--paper); border: 1px solid var(--line); }
.more th { position: static; }
.pair { display: flex; flex-wrap: wrap; gap: 28px; align-items: flex-start; }
.pair > div { min-width: 260px; }
</style>
</head>
<body>
<h1>Quality of the products</h1>
<p id="lead"></p>
<div class="bar" id="bar"></div>
<div class="box tall"><table class="sticky" id="main"><thead></thead><tbody></tbody></table></div>
<h2>Limits</h2>
<p>Amber beyond the first limit, red beyond the second: section <code>qa</code> of the configuration.</p>
<div class="pair"><div class="box"><table id="limits"></table></div></div>
<div class="pair"><div><h2>Run times</h2><div class="box"><table id="costs"></table></div></div>
<div><h2>Versions</h2><div class="box"><table id="versions"></table></div></div></div>
<script id="content" type="application/json">__CONTENT__</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("content").textContent);
const state = { key: "grade", up: false, grade: null, text: "" };
const make = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const number = (value, digits, factor = 1) =>
  value === null ? "\u2013" : typeof value === "number" ? (value * factor).toFixed(digits) : value;
const level = row => (row.grade === null ? -1 : data.grades.indexOf(row.grade));
const value = (row, key) => (key === "grade" ? level(row) : row[key]);
function compare(a, b) {
  const [x, y] = [value(a.row, state.key), value(b.row, state.key)];
  if (x === y) return a.place - b.place;
  if (x === null) return 1;
  if (y === null) return -1;
  return (x < y ? -1 : 1) * (state.up ? 1 : -1);
}
function small(table, heads, rows) {
  const top = table.appendChild(make("thead")).appendChild(make("tr"));
  heads.forEach(([text, kind]) => top.appendChild(make("th", text, kind)));
  const body = table.appendChild(make("tbody"));
  rows.forEach(cells => {
    const line = body.appendChild(make("tr"));
    cells.forEach((text, k) => line.appendChild(make("td", text, heads[k][1])));
  });
  return table;
}
function details(index) {
  const row = data.rows[index], more = data.details[index], box = make("div", null, "pair");
  const left = box.appendChild(make("div"));
  left.appendChild(make("b", "Members"));
  left.appendChild(small(make("table"),
    [["exposure", "text"], ["sky level, MJy/sr"], ["sky", "text"], ["flagged, %"], ["offset x, y, mas"]],
    more.members.map(m => [m.exposure, number(m.sky_level, 5), m.sky_status,
      number(m.flagged_fraction, 3, 100), m.offset ? m.offset.map(v => v.toFixed(1)).join(", ") : "\u2013"])));
  const note = more.missing.length ? "Metadata not known: " + more.missing.join(", ")
    : "All wanted metadata are known.";
  left.appendChild(make("div", more.place + ". " + note));
  const mine = data.seams.filter(s => s.product === row.product || s.neighbour === row.product);
  if (mine.length) {
    const right = box.appendChild(make("div"));
    right.appendChild(make("b", "Seams"));
    right.appendChild(small(make("table"),
      [["neighbour", "text"], ["level, 10\u207b\u00b3 MJy/sr"], ["blocks"], ["sources"],
        ["flux, %"], ["offset, mas"]],
      mine.map(s => {
        const own = s.product === row.product, sign = own ? 1 : -1;
        return [own ? s.neighbour : s.product, number(s.level, 3, 1e3 * sign), s.blocks, s.sources,
          number(s.flux, 2, 100 * sign), number(s.offset, 1)];
      })));
  }
  return box;
}
function draw() {
  const head = document.querySelector("#main thead"), body = document.querySelector("#main tbody");
  head.replaceChildren(make("tr"));
  data.columns.forEach(c => {
    const th = head.firstChild.appendChild(make("th", c.heading, c.digits === null ? "text" : ""));
    th.appendChild(make("small", c.unit || "\u00a0"));
    th.title = c.meaning;
    th.dataset.sort = c.name;
    if (state.key === c.name) th.classList.add(state.up ? "up" : "down");
    th.onclick = () => {
      state.up = state.key === c.name ? !state.up : c.digits === null;
      state.key = c.name;
      draw();
    };
  });
  const kept = data.rows.map((row, place) => ({ row, place }))
    .filter(({ row }) => (!state.grade || row.grade === state.grade) &&
      (row.product + " " + row.optical_element).toLowerCase().includes(state.text))
    .sort(compare);
  body.replaceChildren();
  kept.forEach(({ row, place }) => {
    const line = body.appendChild(make("tr", null, "row"));
    data.columns.forEach((c, k) => {
      const cell = line.appendChild(make("td", k ? number(row[c.name], c.digits, c.factor) : null));
      const grade = row[c.name + "_grade"];
      if (k === 0) {
        cell.appendChild(make("span", null, "dot " + (row.grade || "")));
        cell.appendChild(document.createTextNode(row.product));
      } else if (row[c.name] === null) cell.className = "none";
      else if (grade) cell.className = grade;
      if (c.digits === null) cell.classList.add("text");
    });
    line.onclick = () => {
      const next = line.nextSibling;
      if (next && next.className === "more") { next.remove(); return; }
      const more = make("tr", null, "more"), cell = more.appendChild(make("td"));
      cell.colSpan = data.columns.length;
      cell.appendChild(details(place));
      line.after(more);
    };
  });
  document.querySelectorAll("#bar button").forEach(b =>
    b.classList.toggle("on", (b.dataset.grade || null) === state.grade));
}
const bar = document.getElementById("bar");
const count = grade => data.rows.filter(row => row.grade === grade).length;
const choices = [[null, "all " + data.rows.length], ...data.grades.map(g => [g, count(g) + " " + g])];
choices.forEach(([grade, text]) => {
  const button = bar.appendChild(make("button"));
  if (grade) { button.dataset.grade = grade; button.appendChild(make("span", null, "dot " + grade)); }
  button.appendChild(document.createTextNode(text));
  button.onclick = () => { state.grade = grade; draw(); };
});
const search = bar.appendChild(make("input"));
search.placeholder = "part of a product's name or filter";
search.oninput = () => { state.text = search.value.toLowerCase(); draw(); };
document.getElementById("lead").textContent =
  "A row per product, the worst first. Click a heading to sort, a row for its members and seams. " +
  "\u03c3 is the noise of a pixel of the product itself.";
const unit = c => (c.unit && !/median/.test(c.unit) ? c.unit : "");
small(document.getElementById("limits"),
  [["measure", "text"], ["amber"], ["red"], ["unit", "text"], ["what it is", "text"]],
  data.columns.filter(c => c.meaning).map(c => [c.heading, ...(c.limits || [null, null]).map(v =>
    v === null ? "\u2013" : String(Number((v * c.factor).toPrecision(4)))), unit(c), c.meaning]));
small(document.getElementById("costs"),
  [["step", "text"], ["jobs"], ["CPU, s"], ["wall, s"], ["longest, s"], ["memory, MB"]],
  data.costs.map(r =>
    [r.step, r.jobs, number(r.cpu, 0), number(r.wall, 0), number(r.longest, 0), number(r.memory, 0)]));
small(document.getElementById("versions"), [["package", "text"], ["version", "text"]],
  Object.entries(data.versions));
draw();
</script>
</body>
</html>
"""
