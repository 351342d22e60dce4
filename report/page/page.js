"use strict";
(() => {
  const timelines = [...document.querySelectorAll(".figure[data-span]")];
  const start = (place) => Number(place.dataset.start);
  const span = (place) => Number(place.dataset.span);
  const common = Math.max(0, ...timelines.map(span));
  const home = (place) => [start(place), start(place) + (document.body.dataset.scale === "own" ? span(place) : common)];
  const show = (place, from, to) => Plotly.relayout(place, { "xaxis.range": [from, to] });

  for (const button of document.querySelectorAll("button[data-scale]")) {
    button.addEventListener("click", () => {
      document.body.dataset.scale = button.dataset.scale;
      for (const other of document.querySelectorAll("button[data-scale]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      for (const place of timelines) {
        show(place, ...home(place));
      }
    });
  }

  // Keys act on the focused timeline: the mouse is never needed to read a detail.
  const step = {
    "+": (a, b) => [a + (b - a) / 4, b - (b - a) / 4],
    "=": (a, b) => [a + (b - a) / 4, b - (b - a) / 4],
    "-": (a, b) => [a - (b - a) / 2, b + (b - a) / 2],
    ArrowLeft: (a, b) => [a - (b - a) / 4, b - (b - a) / 4],
    ArrowRight: (a, b) => [a + (b - a) / 4, b + (b - a) / 4],
  };
  for (const place of timelines) {
    place.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) {
        return;
      }
      const [from, to] = place.layout.xaxis.range.map(Number);
      if (event.key === "0") {
        show(place, ...home(place));
      } else if (step[event.key]) {
        show(place, ...step[event.key](from, to));
      } else {
        return;
      }
      event.preventDefault();
    });
  }
})();
