"use strict";
// Tables marked data-sortable get a button in every header that sorts, and a field that filters. Without this script
// they are plain tables in the order of the paper. A link to something that is folded unfolds it in every browser.
(() => {
  const value = cell => cell.dataset.sort ?? cell.textContent.trim();
  const number = text => text === "" || Number.isNaN(Number(text)) ? null : Number(text);

  const compare = (one, other) => {
    const [a, b] = [number(one), number(other)];
    if (a !== null && b !== null) return a - b;
    if (a !== null || b !== null) return a !== null ? -1 : 1; // numbers before words and gaps
    return one.localeCompare(other, "en", { numeric: true });
  };

  const sortable = table => {
    const bodies = [...table.tBodies];
    const order = bodies.map(body => [...body.rows]);
    const rows = order.flat().filter(row => !row.classList.contains("group"));
    const heads = [...table.querySelectorAll("thead [data-key]")];
    const said = table.parentElement.querySelector("[data-said]");
    let current = null, way = 0;

    const restore = () => bodies.forEach((body, i) => body.append(...order[i]));
    const sort = head => {
      way = head === current ? (way + 1) % 3 : 1;
      current = head;
      heads.forEach(one => one.setAttribute("aria-sort", "none"));
      restore();
      table.classList.toggle("sorted", way > 0);
      if (way === 0) { said.textContent = "in the order of the paper"; return; }
      const place = Number(head.dataset.key);
      const of = row => { const cell = [...row.cells].find(c => c.dataset.col === String(place)); return cell ? value(cell) : ""; };
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [of(a), of(b)];
        if ((x === "") !== (y === "")) return x === "" ? 1 : -1; // gaps last, either way
        return way === 1 ? compare(x, y) : compare(y, x);
      });
      bodies[0].append(...sorted);
      head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
      said.textContent = `sorted by ${head.querySelector("button").dataset.name}, ${way === 1 ? "ascending" : "descending"}`;
    };
    heads.forEach(head => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.dataset.name = (head.dataset.name ?? head.textContent).trim().replace(/\s+/g, " ");
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(head));
      head.append(button);
      head.setAttribute("aria-sort", "none");
    });
    return rows;
  };

  const filterable = (table, rows) => {
    const tools = table.parentElement.querySelector(".tools");
    const field = tools.querySelector("input"), choice = tools.querySelector("select"), said = tools.querySelector("[data-count]");
    const texts = rows.map(row => row.textContent.toLowerCase());
    const apply = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      rows.forEach((row, i) => {
        const kept = words.every(word => texts[i].includes(word)) && (!choice || !choice.value || (row.dataset.kinds ?? "").split("|").includes(choice.value));
        row.hidden = !kept;
        count += kept;
      });
      const all = count === rows.length;
      if (!all) table.parentElement.querySelectorAll(".fold").forEach(fold => { fold.open = true; });
      table.querySelectorAll("tr.group").forEach(group => {
        group.hidden = !all && ![...group.parentElement.rows].some(row => !row.hidden && row !== group);
      });
      said.textContent = all ? "" : `${count} of ${rows.length} rows`;
    };
    field.addEventListener("input", apply);
    choice?.addEventListener("change", apply);
    tools.hidden = false;
    if (field.value || choice?.value) apply(); // a reloaded page keeps what was typed
  };

  const unfold = () => {
    const target = document.getElementById(location.hash.slice(1));
    for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();

  document.querySelectorAll("table[data-sortable]").forEach(table => filterable(table, sortable(table)));
})();
