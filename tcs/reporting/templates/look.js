"use strict";
// One example at a time, and the map: nothing that the page needs to be read. Without it all examples and the first map are there.
(() => {
  const picks = [...document.querySelectorAll("button.pick")];
  const choose = (chosen) => {
    for (const pick of picks) {
      pick.setAttribute("aria-pressed", String(pick === chosen));
      document.getElementById(pick.dataset.example).hidden = pick !== chosen;
    }
  };
  for (const pick of picks) pick.addEventListener("click", () => choose(pick));
  if (picks.length) {
    picks[0].parentElement.hidden = false;
    choose(picks[Math.floor(picks.length / 2)]);
  }

  const svg = document.getElementById("map");
  if (!svg) return;
  const facts = JSON.parse(document.getElementById("map-facts").textContent);
  const points = [...svg.querySelectorAll("circle[data-i]")];
  const circle = [];
  for (const point of points) circle[Number(point.dataset.i)] = point;
  const cursor = document.getElementById("cursor");
  const [thumb, words] = [document.querySelector(".card .thumb"), document.querySelector(".card .words")];
  let [at, name] = [-1, Object.keys(facts.places)[0]];

  const place = (i) => [facts.places[name][2 * i], facts.places[name][2 * i + 1]];
  const isShown = (i) => !circle[i].parentElement.classList.contains("gone");
  const show = (i) => {
    at = i;
    const [x, y] = place(i);
    cursor.setAttribute("cx", x);
    cursor.setAttribute("cy", y);
    cursor.removeAttribute("visibility");
    words.replaceChildren(...[facts.classes[facts.groups[i]], facts.names[i]].map((text, number) => {
      const line = document.createElement("p");
      line.textContent = text;
      if (number === 0) line.style.fontWeight = "600";
      return line;
    }));
    if (facts.columns) {
      const [last, rows] = [facts.columns - 1, Math.ceil(facts.names.length / facts.columns) - 1];
      thumb.style.backgroundSize = `${100 * facts.columns}% ${100 * (rows + 1)}%`;
      thumb.style.backgroundPosition =
        `${last ? (100 * (i % facts.columns)) / last : 0}% ${rows ? (100 * Math.floor(i / facts.columns)) / rows : 0}%`;
      thumb.style.backgroundImage = "var(--sheet)";
      thumb.setAttribute("aria-label", `${facts.classes[facts.groups[i]]}, ${facts.names[i]}`);
    }
  };

  const nearest = (x, y, most) => {
    let [best, least] = [-1, most * most];
    for (let i = 0; i < circle.length; i += 1) {
      const [px, py] = place(i);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least && isShown(i)) [best, least] = [i, distance];
    }
    return best;
  };
  const pointed = (event, most) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const found = nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, most * scale);
    if (found >= 0 && found !== at) show(found);
  };
  svg.addEventListener("pointermove", (event) => pointed(event, 12));
  svg.addEventListener("click", (event) => pointed(event, 24));

  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  svg.addEventListener("keydown", (event) => {
    const way = ways[event.key];
    if (!way) return;
    event.preventDefault();
    if (at < 0 || !isShown(at)) {
      const first = nearest(svg.viewBox.baseVal.width / 2, svg.viewBox.baseVal.height / 2, 1e9);
      if (first >= 0) show(first);
      return;
    }
    const [x, y] = place(at);
    let [best, least] = [-1, Infinity];
    for (let i = 0; i < circle.length; i += 1) {
      const [px, py] = place(i);
      const along = (px - x) * way[0] + (py - y) * way[1];
      const aside = Math.abs((px - x) * way[1]) + Math.abs((py - y) * way[0]);
      if (i !== at && along > 0 && aside <= 2 * along && along + 2 * aside < least && isShown(i)) [best, least] = [i, along + 2 * aside];
    }
    if (best >= 0) show(best);
  });

  const maps = [...document.querySelectorAll("button[data-map]")];
  for (const button of maps) {
    button.addEventListener("click", () => {
      name = button.dataset.map;
      for (const other of maps) other.setAttribute("aria-pressed", String(other === button));
      for (let i = 0; i < circle.length; i += 1) {
        const [x, y] = place(i);
        circle[i].setAttribute("cx", x);
        circle[i].setAttribute("cy", y);
      }
      svg.setAttribute("aria-label", `${name} map`);
      if (at >= 0) show(at);
    });
  }

  const groups = new Map([...svg.querySelectorAll("g.pt")].map((group) => [group.dataset.g, group]));
  const chips = [...document.querySelectorAll("button[data-group]")];
  const filter = () => {
    const chosen = new Set(chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.group));
    for (const [number, group] of groups) group.classList.toggle("gone", chosen.size > 0 && !chosen.has(number));
    if (at >= 0 && !isShown(at)) cursor.setAttribute("visibility", "hidden");
  };
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }
  document.getElementById("every-class").addEventListener("click", () => {
    for (const chip of chips) chip.setAttribute("aria-pressed", "false");
    filter();
  });
})();
