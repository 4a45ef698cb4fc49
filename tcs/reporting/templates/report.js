"use strict";
// Sorting, filtering and hiding: nothing that the page needs to be read.
(() => {
  const valueOf = (cell) => (cell.dataset.v ?? cell.textContent.trim());
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y) ? x - y : a.localeCompare(b, "en", { numeric: true });
  };

  const sortBy = (table, column, header) => {
    const down = header.getAttribute("aria-sort") === "none" ? header.classList.contains("n")
      : header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(valueOf(a.cells[column]), valueOf(b.cells[column])) * (down ? -1 : 1));
    table.tBodies[0].append(...rows);
  };

  for (const table of document.querySelectorAll("table.sheet")) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      header.firstElementChild.addEventListener("click", () => sortBy(table, column, header));
    });
  }

  for (const input of document.querySelectorAll("input[data-filter]")) {
    const rows = document.getElementById(input.dataset.filter).tBodies[0].rows;
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }

  for (const button of document.querySelectorAll("button[data-toggle]")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const part of document.querySelectorAll("g.series")) {
        if (part.dataset.method === button.dataset.toggle) part.classList.toggle("gone", !shown);
      }
    });
  }

  const highlight = (method, on) => {
    for (const part of document.querySelectorAll("g.series")) {
      part.classList.toggle("faint", on && part.dataset.method !== method);
    }
  };
  for (const part of document.querySelectorAll("g.series")) {
    part.addEventListener("pointerenter", () => highlight(part.dataset.method, true));
    part.addEventListener("pointerleave", () => highlight(part.dataset.method, false));
  }

  for (const link of document.querySelectorAll("a[data-json]")) {
    const text = document.getElementById(link.dataset.json).textContent;
    link.href = "data:application/json;charset=utf-8," + encodeURIComponent(text);
  }

  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();
