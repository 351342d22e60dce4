"use strict";
// Tables: sorted by a click on a title, searched by a word, and filtered by the stage that the address names.
(() => {
  // A row, and the line below it that belongs to it.
  const groups = (body) => {
    const found = [];
    for (const row of body.rows) {
      if (row.classList.contains("under")) found.at(-1).push(row);
      else found.push([row]);
    }
    return found;
  };

  const key = (cell) => (cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v));
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };

  const sort = (table, title) => {
    const down = title.ariaSort === null ? title.classList.contains("num") : title.ariaSort === "ascending";
    for (const other of title.parentElement.cells) other.ariaSort = null;
    title.ariaSort = down ? "descending" : "ascending";
    const body = table.tBodies[0];
    const rows = groups(body);
    const fixed = rows.filter(([row]) => "fixed" in row.dataset);
    const free = rows.filter(([row]) => !("fixed" in row.dataset));
    const of = ([row]) => key(row.cells[title.cellIndex]);
    free.sort((a, b) => (down ? compare(of(b), of(a)) : compare(of(a), of(b))));
    body.append(...fixed.flat(), ...free.flat());
  };

  let stage = null;
  const within = (path) => stage === null || path === undefined || path === stage || path.startsWith(stage + "/");

  const show = (table) => {
    const words = (table.wanted ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const rows of groups(table.tBodies[0])) {
      const said = words.length ? rows.map((row) => row.textContent.toLowerCase()).join(" ") : "";
      const fits = within(rows[0].dataset.stage) && words.every((word) => said.includes(word));
      left += fits && !("fixed" in rows[0].dataset);
      for (const row of rows) row.hidden = !fits;
    }
    if (table.counted) table.counted.textContent = words.length || stage !== null ? `${left} rows` : "";
  };

  const tables = [...document.querySelectorAll("table.sorts")];
  for (const table of tables) {
    for (const title of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "sort";
      button.append(...title.childNodes);
      button.addEventListener("click", () => sort(table, title));
      title.append(button);
    }
    if (!("search" in table.dataset)) continue;
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = "search";
    field.ariaLabel = `search ${table.caption.textContent}`;
    table.counted = document.createElement("span");
    table.counted.className = "note";
    field.addEventListener("input", () => {
      table.wanted = field.value;
      show(table);
    });
    const above = document.createElement("div");
    above.className = "search";
    above.append(field, table.counted);
    table.parentElement.before(above);
  }

  // #timeline&trace=NAME&from=NS&to=NS&stage=PATH&kernel=NAME&find=TEXT
  const told = document.getElementById("filter");
  const read = () => {
    const [place, ...rest] = location.hash.slice(1).split("&");
    if (place !== "timeline") return;
    const asked = new URLSearchParams(rest.join("&"));
    stage = asked.get("stage");
    tables.forEach(show);
    told.hidden = stage === null;
    told.querySelector("b").textContent = stage ?? "";
  };
  told.querySelector("button").addEventListener("click", () => {
    location.hash = "timeline";
  });
  window.addEventListener("hashchange", read);
  read();
})();
