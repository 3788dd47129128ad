"use strict";
(() => {
  // Sorting: a column's best values first, then the other way round, then the order of the page.
  const table = document.querySelector(".scores");
  const body = table.tBodies[0];
  const drawn = [...body.rows];
  const headers = [...table.querySelectorAll("th[data-sort]")];
  const read = (row, index, kind) => {
    const cell = row.cells[index];
    if (kind === "text") return cell.querySelector(".name").textContent;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);

  const sortBy = (header, index) => {
    const kind = header.dataset.sort;
    const cycle = kind === "high" ? ["descending", "ascending", null] : ["ascending", "descending", null];
    const next = cycle[(cycle.indexOf(header.getAttribute("aria-sort")) + 1) % cycle.length];
    headers.forEach((other) => other.removeAttribute("aria-sort"));
    if (next) header.setAttribute("aria-sort", next);
    const rows = next === null ? drawn : [...drawn].sort((left, right) => {
      const a = read(left, index, kind), b = read(right, index, kind);
      if (a === null || b === null) return (a === null) - (b === null);
      return next === "ascending" ? compare(a, b) : compare(b, a);
    });
    body.append(...rows);
  };
  headers.forEach((header, index) => header.querySelector("button").addEventListener("click", () => sortBy(header, index)));

  // Charts: a legend entry hides its lines, and pointing at it sets them off from the others.
  const charts = document.querySelector(".charts");
  document.querySelectorAll(".legend button").forEach((button) => {
    const lines = charts.querySelectorAll(`.curve[data-system="${button.dataset.system}"]`);
    const emphasise = (on) => {
      const visible = on && button.getAttribute("aria-pressed") === "true";
      charts.classList.toggle("focus", visible);
      lines.forEach((line) => line.classList.toggle("on", visible));
    };
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      lines.forEach((line) => line.classList.toggle("off", !on));
      emphasise(on);
    });
    ["pointerenter", "focus"].forEach((name) => button.addEventListener(name, () => emphasise(true)));
    ["pointerleave", "blur"].forEach((name) => button.addEventListener(name, () => emphasise(false)));
  });

  // Clips: one kind only, and in another order.
  const cards = document.querySelector(".cards");
  if (!cards) return;
  const clips = [...cards.children];
  const group = document.getElementById("group");
  const order = document.getElementById("order");
  const shown = document.getElementById("shown");
  const orders = {
    drawn: () => 0,
    spread: (a, b) => Number(b.dataset.spread) - Number(a.dataset.spread),
    clip: (a, b) => compare(a.dataset.clip, b.dataset.clip),
  };
  const update = () => {
    clips.forEach((clip) => { clip.hidden = Boolean(group && group.value && clip.dataset.group !== group.value); });
    cards.append(...[...clips].sort(orders[order.value]));
    const count = clips.filter((clip) => !clip.hidden).length;
    shown.textContent = count === clips.length ? "" : `${count} of ${clips.length} clips`;
  };
  [group, order].forEach((control) => control && control.addEventListener("change", update));
  update();
})();
