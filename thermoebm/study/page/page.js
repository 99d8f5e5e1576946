
"use strict";
// Everything here improves a page that can be read without it. No request is ever made.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Light and dark: the system's choice until the button is pressed; remembered where the browser lets a file remember.
function theme(button) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remember = (value) => { try { localStorage.setItem("theme", value); } catch { /* private mode */ } };
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    label();
  });
  system.addEventListener("change", label);
  label();
}

// A cell's value: its full number where there is one, else its text. Cells without a value are null.
function value(cell, numeric) {
  const text = cell.textContent.trim();
  if (cell.classList.contains("empty")) return null;
  if (!numeric) return text;
  const number = Number(cell.dataset.value ?? text);
  return Number.isNaN(number) ? null : number;
}

// Rows in the order of a column; ties keep their order, and rows without a value come last in both directions.
function sort(table, header) {
  const numeric = header.classList.contains("number");
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const compare = numeric ? (a, b) => a - b : new Intl.Collator("en", { numeric: true }).compare;
  const rows = all("tbody tr", table).map((row) => [value(row.cells[header.cellIndex], numeric), row]);
  rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : direction * compare(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const other of all("thead th", table)) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
}

function tabular(block) {
  const table = block.querySelector("table");
  const search = block.querySelector("input[type=search]");
  const count = block.querySelector("output");
  const rows = all("tbody tr", table);

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = [...row.cells].filter((cell) => !cell.hidden).map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  search.addEventListener("input", filter);
  filter();

  for (const header of all("thead th", table)) {
    header.setAttribute("aria-sort", "none");
    const button = document.createElement("button");
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sort(table, header));
  }

  for (const box of all(".columns input", block)) {
    box.addEventListener("change", () => {
      const index = Number(box.value);
      for (const row of table.rows) row.cells[index].hidden = !box.checked;
      filter();
    });
  }
}

function slider(block, runs) {
  const choose = block.querySelector("select");
  const range = block.querySelector("input[type=range]");
  const output = block.querySelector("output");
  const picture = block.querySelector("figure img");
  const caption = block.querySelector("figcaption");
  const show = () => {
    const run = runs[choose.selectedIndex];
    const [epoch, source, note] = run.pictures[range.value];
    picture.src = source;
    picture.alt = `Samples of ${run.name} after epoch ${epoch}`;
    caption.textContent = `${run.name}, epoch ${epoch}${note && ": "}${note}`;
    output.textContent = `${epoch} of ${run.pictures.at(-1)[0]}`;
    range.setAttribute("aria-valuetext", `epoch ${epoch}`);
  };
  const start = () => {
    const last = runs[choose.selectedIndex].pictures.length - 1;
    range.max = last;
    range.value = last;
    range.disabled = last === 0;
    show();
  };
  choose.addEventListener("change", start);
  range.addEventListener("input", show);
  start();
}

function enlarge(dialog) {
  const [picture] = all("img", dialog);
  for (const button of all(".enlarge")) {
    button.addEventListener("click", () => {
      const small = button.querySelector("img");
      picture.src = small.src;
      picture.alt = small.alt;
      dialog.querySelector("p").textContent = small.alt;
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

// A link to a run's config opens every fold that it lies in.
function unfold() {
  const target = document.getElementById(location.hash.slice(1));
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  if (target?.tagName === "DETAILS") target.scrollIntoView();
}

for (const element of all(".needs-script")) element.hidden = false;
theme(document.getElementById("theme"));
all(".tabular").forEach(tabular);
const samples = document.getElementById("sample-data");
const grids = samples ? JSON.parse(samples.textContent) : [];
for (const block of all(".sample-grids")) slider(block, grids);
enlarge(document.getElementById("enlarged"));
addEventListener("hashchange", unfold);
unfold();
