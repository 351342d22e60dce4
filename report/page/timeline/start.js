// Unpack and draw after the first paint, in steps between which the page stays responsive.

const start = async () => {
  const place = document.getElementById("timeline");
  const words = JSON.parse(document.getElementById("timeline-words").textContent);
  let spent = 0;
  const work = async (step) => {
    const began = performance.now();
    step();
    spent += performance.now() - began;
    await pause();
  };
  try {
    definePaints(words);
    const sides = [];
    for (const store of document.querySelectorAll("script[data-timeline]")) {
      const began = performance.now();
      const unpacking = unpack(store.textContent);
      spent += performance.now() - began;
      const { header, column } = await unpacking;
      store.remove();
      let side;
      await work(() => (side = new Side(header, column, words)));
      sides.push(await side.build(work));
    }
    await work(() => (place.timeline = new Timeline(place, sides, words)));
    place.dataset.ready = String(Math.round(spent));
  } catch (error) {
    place.querySelector(".tl-state").textContent =
      `The timeline cannot be drawn in this browser (${error.message}); the tables below hold its numbers.`;
    place.dataset.failed = String(error.stack || error);
  }
};

let started = false;
const once = () => {
  if (!started) {
    started = true;
    start();
  }
};
requestAnimationFrame(() => setTimeout(once, 0));
setTimeout(once, 400); // a page that is not shown gets no frames
