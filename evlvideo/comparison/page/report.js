"use strict";
(() => {
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);

  // Sorting: a column's best values first, then the other way round, then the order of the page.
  const read = (row, index, kind) => {
    const cell = row.cells[index];
    if (kind === "text") return cell.querySelector(".name").textContent;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  document.querySelectorAll(".sortable").forEach((table) => {
    const body = table.tBodies[0];
    const drawn = [...body.rows];
    const headers = [...table.querySelectorAll("th[data-sort]")];
    const sortBy = (header) => {
      const kind = header.dataset.sort, index = header.cellIndex;
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
    headers.forEach((header) => header.querySelector("button").addEventListener("click", () => sortBy(header)));
  });

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

  // Galleries: clips or questions of one kind, those on which one system is above another, those answered in some way,
  // those with some words; in another order.
  document.querySelectorAll("[data-gallery]").forEach((section) => {
    const cards = section.querySelector(".cards");
    if (!cards) return;
    const form = section.querySelector(".controls");
    const { group, winner, rival, verdict, judged, order, words } = form.elements;
    const [shown, none] = [form.querySelector("output"), section.querySelector("p.none")];
    const items = section.dataset.gallery;
    const clips = [...cards.children].map((card) => ({
      card,
      scores: card.dataset.scores.split(",").map((score) => (score === "" ? null : Number(score))),
      text: null,
    }));

    // How far the winner is above the rival, or above the best of the others; null where one was not scored.
    const lead = (scores) => {
      const mine = scores[winner.value];
      const others = rival.value === "" ? scores.filter((_, system) => String(system) !== winner.value) : [scores[rival.value]];
      const scored = others.filter((score) => score !== null);
      return mine === null || scored.length === 0 ? null : mine - Math.max(...scored);
    };
    const tied = (scores) => {
      const scored = scores.filter((score) => score !== null).sort((a, b) => b - a);
      return scored.length > 1 && scored[0] === scored[1];
    };
    const wins = ({ scores }) => {
      if (!winner || winner.value === "") return true;
      return winner.value === "tie" ? tied(scores) : lead(scores) > 0;
    };
    const verdicts = {
      right: (score) => score >= 1,
      partly: (score) => score > 0 && score < 1,
      wrong: (score) => score === 0,
    };
    const answered = ({ scores }) => {
      if (!verdict || verdict.value === "") return true;
      const of = judged.value === "" ? scores : [scores[judged.value]];
      return of.every((score) => score !== null && verdicts[verdict.value](score));
    };
    const says = (clip, wanted) => {
      if (wanted.length === 0) return true;
      clip.text ??= `${clip.card.dataset.clip} ${[...clip.card.querySelectorAll(".text, .references li, .people li")].map((item) => item.textContent).join(" ")}`.toLocaleLowerCase();
      return wanted.every((word) => clip.text.includes(word));
    };
    const spread = (clip) => (winner && winner.value !== "" && winner.value !== "tie" ? lead(clip.scores) : Number(clip.card.dataset.spread));
    const orders = {
      drawn: () => 0,
      spread: (a, b) => spread(b) - spread(a),
      clip: (a, b) => compare(a.card.dataset.clip, b.card.dataset.clip),
    };
    const name = (select) => select.selectedOptions[0].textContent;

    // The same question, asked of all clips of the split.
    const inAll = () => {
      if (!winner || winner.value === "" || winner.value === "tie") return "";
      const row = document.querySelector(`.wins tr[data-system="${winner.value}"]`);
      const cell = rival.value === "" ? row.cells[1] : row.querySelector(`[data-rival="${rival.value}"]`);
      const above = rival.value === "" ? "all others" : name(rival);
      return ` · in all, ${name(winner)} is above ${above} on ${Number(cell.dataset.value).toLocaleString("en")} of ${Number(cell.dataset.of).toLocaleString("en")} clips`;
    };

    const update = () => {
      if (winner) {
        rival.disabled = winner.value === "" || winner.value === "tie";
        [...rival.options].forEach((option) => { option.disabled = option.value !== "" && option.value === winner.value; });
        if (rival.disabled || rival.value === winner.value) rival.value = "";
      }
      if (verdict) judged.disabled = verdict.value === "";
      const wanted = words.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      clips.forEach((clip) => {
        const visible = (!group || group.value === "" || clip.card.dataset.group === group.value) && wins(clip) && answered(clip) && says(clip, wanted);
        clip.card.hidden = !visible;
        if (!visible) clip.card.querySelectorAll("video").forEach((video) => video.pause());
        count += visible;
      });
      const sorted = [...clips].sort(orders[order.value]).map((clip) => clip.card);
      if (sorted.some((card, place) => card !== cards.children[place])) cards.append(...sorted);
      shown.textContent = (count === clips.length ? `${count} ${items}` : `${count} of ${clips.length} ${items}`) + inAll();
      none.hidden = count > 0;
    };
    let waiting = 0;
    [group, winner, rival, verdict, judged, order].forEach((control) => control && control.addEventListener("change", update));
    words.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(update, 120); });
    form.addEventListener("submit", (event) => { event.preventDefault(); update(); });
    form.addEventListener("reset", () => setTimeout(update));
    update();
  });

  // One clip plays at a time.
  document.addEventListener("play", (event) => {
    document.querySelectorAll("video").forEach((video) => { if (video !== event.target) video.pause(); });
  }, true);
})();
