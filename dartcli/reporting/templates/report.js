"use strict";
// Column heads sort the rows: ascending, then descending. Missing values stay last.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => ({ row, value: value(row.cells[column]) }));
      rows.sort((a, b) => compare(a.value, b.value, ascending ? 1 : -1));
      body.append(...rows.map((entry) => entry.row));
    });
  });
}

function value(cell) {
  const number = cell.dataset.value;
  if (number === undefined) return cell.textContent;
  return number === "" ? null : Number(number);
}

function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return direction * (a - b);
  return direction * String(a).localeCompare(String(b), "en", { numeric: true });
}

// say where there is more beside what is shown
const boxes = [...document.querySelectorAll("div.scroll")];
for (const box of boxes) {
  const hint = document.createElement("p");
  hint.className = "more";
  hint.textContent = "Scroll sideways to see the rest \u2192";
  hint.setAttribute("aria-hidden", "true");
  box.after(hint);
}
function mark() {
  for (const box of boxes) box.classList.toggle("overflows", box.scrollWidth > box.clientWidth + 1);
}
mark();
addEventListener("load", mark);
addEventListener("resize", mark);
for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", mark);

// print what is folded
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    part.open = true;
    part.dataset.folded = "";
  }
});
addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("details[data-folded]")) {
    part.open = false;
    delete part.dataset.folded;
  }
});
