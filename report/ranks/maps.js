"use strict";
/* Heat maps on canvas: thousands of ranks would be too many elements. Each holds [column, row, value] of the cells above 0. */
(() => {
  const maps = JSON.parse(document.getElementById("maps").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const LEAST = 2, TALLEST = 640, HIGHEST = 18; /* pixels: of a cell that is still seen, of a map, of a row */

  function colour(share) {
    const light = dark.matches ? 30 + 40 * share : 88 - 46 * share;
    return `hsl(${28 - 24 * share} ${55 + 40 * share}% ${light}%)`;
  }

  function draw(canvas, map) {
    const rows = map.rows.length, scale = window.devicePixelRatio || 1;
    const high = Math.max(LEAST, Math.min(HIGHEST, Math.floor(TALLEST / rows)));
    canvas.style.height = `${rows * high}px`;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
    canvas.height = Math.max(1, Math.round(rows * high * scale));
    const wide = canvas.width / map.columns.length, tall = canvas.height / rows, pen = canvas.getContext("2d");
    for (const [column, row, value] of map.cells) { /* the largest come last, and stay visible */
      pen.fillStyle = colour(Math.sqrt(Math.min(1, value / map.most)));
      pen.fillRect(column * wide, row * tall, Math.max(wide, LEAST * scale), tall);
    }
  }

  for (const [id, map] of Object.entries(maps)) {
    const figure = document.getElementById(id), canvas = figure.querySelector("canvas");
    const told = figure.querySelector("output"), rest = told.textContent, across = map.columns.length;
    const known = new Map(map.cells.map(([column, row, value]) => [row * across + column, value]));
    const again = () => draw(canvas, map);
    again();
    dark.addEventListener("change", again);
    window.addEventListener("resize", again);
    canvas.addEventListener("mousemove", (event) => {
      const box = canvas.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left) / box.width * across);
      const row = Math.floor((event.clientY - box.top) / box.height * map.rows.length);
      if (!(column in map.columns) || !(row in map.rows)) return;
      const value = known.get(row * across + column) || 0;
      told.textContent = `${map.across} ${map.columns[column]}, ${map.down} ${map.rows[row]}: ${(value / 1000).toFixed(3)} ms`;
    });
    canvas.addEventListener("mouseleave", () => { told.textContent = rest; });
  }
})();
