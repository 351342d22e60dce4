// The timeline on the page: what is in view, and the links that say so.

const NARROWEST = 40; // ns in view at most zoom

const element = (tag, text = "", attributes = {}) => {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  return made;
};

class Timeline {
  constructor(place, sides, words) {
    Object.assign(this, { place, sides, words });
    const of = (selector) => place.querySelector(selector);
    this.frame = of(".tl-frame");
    this.picture = of(".tl-picture");
    this.over = of(".tl-over");
    this.ruler = of(".tl-ruler canvas");
    this.labels = of(".tl-labels");
    this.tip = of(".tl-tip");
    this.state = of(".tl-state");
    this.details = of(".tl-details");
    this.search = of(".tl-search input");
    this.iterationInput = of(".tl-iteration");
    this.alignSelect = of(".tl-align select");
    this.filter = { stage: "", kernel: "", find: "" };
    this.align = sides.length > 1 && sides.every((side) => side.iterations.start.length) ? "iteration" : "start";
    this.iteration = 0;
    this.pinned = null;
    this.theme = readTheme(place);
    this.paintNames = PAINTS.map((one) => one.name);
    this.quietButton = of('[data-do="quiet"]');
    this.quiet = sides.flatMap(quietLanes);
    this.showsQuiet = false;
    this.quietButton.hidden = this.quiet.length === 0;
    of(".tl-align").hidden = sides.length < 2 || !sides.every((side) => side.iterations.start.length);
    of(".tl-iterate").hidden = !sides.some((side) => side.iterations.start.length > 1);
    for (const side of sides) {
      for (const problem of side.problems) {
        of(".tl-problems").append(element("p", problem, { class: "caution" }));
      }
    }
    this.arrange();
    this.home();
    this.listen();
    this.legend();
    this.numbers();
    if (!this.follow(location.hash)) {
      this.say();
    }
  }

  // Local time of a side is the axis's time plus its origin.
  origin(side) {
    if (this.align !== "iteration" || this.sides.length < 2) {
      return 0;
    }
    const { start } = side.iterations;
    return start[Math.min(side.warmUp + this.iteration, start.length - 1)];
  }

  // The number of the iteration that is shown, of the first side; others show the one that is as far from their first steady one.
  get number() {
    return this.iteration + this.sides[0].firstSteady;
  }

  get zero() {
    return this.sides.every((side) => side.header.zero) ? "from first op" : "from the start";
  }

  // --- What is in view

  home() {
    const first = (side) => Math.min(side.warmUp, side.iterations.start.length - 1);
    const spans = this.sides.map((side) => {
      const { start, end } = side.iterations;
      if (start.length === 0) {
        const windows = side.header.devices.map((device) => device.window);
        const [low, high] = windows.length
          ? [Math.min(...windows.map((w) => w[0])), Math.max(...windows.map((w) => w[1]))]
          : side.header.span;
        return [low, high];
      }
      return [start[first(side)], end[Math.min(first(side) + 1, end.length - 1)]];
    });
    this.iteration = 0;
    this.iterationInput.value = String(this.number);
    const from = Math.min(...spans.map(([low], i) => low - this.origin(this.sides[i])));
    const to = Math.max(...spans.map(([, high], i) => high - this.origin(this.sides[i])));
    this.show(from - 0.01 * (to - from), to + 0.01 * (to - from), false);
  }

  limits() {
    const low = Math.min(...this.sides.map((side) => side.header.span[0] - this.origin(side)));
    const high = Math.max(...this.sides.map((side) => side.header.span[1] - this.origin(side)));
    const spare = 0.01 * (high - low) + 1;
    return [low - spare, high + spare];
  }

  show(from, to, write = true) {
    const [low, high] = this.limits();
    const length = Math.min(Math.max(to - from, NARROWEST), high - low);
    const middle = (from + to) / 2;
    const begin = Math.min(Math.max(middle - length / 2, low), high - length);
    this.from = begin;
    this.to = begin + length;
    this.draw();
    if (write) {
      this.write();
    }
  }

  zoom(factor, at = (this.from + this.to) / 2) {
    this.show(at + (this.from - at) * factor, at + (this.to - at) * factor);
  }

  pan(share) {
    const by = share * (this.to - this.from);
    this.show(this.from + by, this.to + by);
  }

  goTo(number) {
    const most = Math.max(...this.sides.map((side) => side.iterations.start.length - side.warmUp)) - 1;
    const least = -Math.max(...this.sides.map((side) => side.warmUp));
    this.iteration = Math.min(Math.max(number, least), most);
    this.iterationInput.value = String(this.number);
    const spans = this.sides
      .filter((side) => side.iterations.start.length)
      .map((side) => {
        const i = Math.min(Math.max(side.warmUp + this.iteration, 0), side.iterations.start.length - 1);
        return [side.iterations.start[i] - this.origin(side), side.iterations.end[i] - this.origin(side)];
      });
    const from = Math.min(...spans.map(([low]) => low));
    const to = Math.max(...spans.map(([, high]) => high));
    this.show(from - 0.02 * (to - from), to + 0.02 * (to - from));
  }

  // --- Links: #timeline&trace=NAME&from=NS&to=NS&stage=PATH&kernel=NAME&find=TEXT

  follow(hash) {
    if (!/^#timeline(&|$)/.test(hash)) {
      return false;
    }
    if (hash === "#timeline") {
      this.comeIntoView();
      return false;
    }
    const given = new URLSearchParams(hash.slice(1).replace(/^timeline&?/, ""));
    const side = this.sides.find((one) => [one.trace, one.name].includes(given.get("trace"))) || this.sides[0];
    if (["iteration", "start"].includes(given.get("align")) && this.sides.length > 1) {
      this.align = given.get("align");
      this.alignSelect.value = this.align;
    }
    const wanted = Number.parseInt(given.get("iteration") ?? "", 10);
    if (Number.isFinite(wanted)) {
      this.iteration = wanted - this.sides[0].firstSteady;
      this.iterationInput.value = String(wanted);
    }
    this.filter = { stage: given.get("stage") || "", kernel: given.get("kernel") || "", find: given.get("find") || "" };
    this.search.value = this.filter.find;
    this.mask();
    const [from, to] = ["from", "to"].map((name) => Number.parseFloat(given.get(name) ?? ""));
    if (Number.isFinite(from) && Number.isFinite(to) && to > from) {
      this.show(from - this.origin(side), to - this.origin(side), false);
    } else {
      this.draw();
    }
    this.say();
    this.comeIntoView();
    return true;
  }

  // Scroll here, and stay here while what lies above still grows, until somebody does something.
  comeIntoView() {
    const scroll = () => this.place.scrollIntoView({ block: "start", behavior: "instant" });
    scroll();
    const grows = new ResizeObserver(scroll);
    grows.observe(document.body);
    const stop = () => grows.disconnect();
    setTimeout(stop, 2000);
    for (const event of ["wheel", "pointerdown", "keydown"]) {
      window.addEventListener(event, stop, { once: true, capture: true, passive: true });
    }
  }

  write() {
    clearTimeout(this.writing);
    this.writing = setTimeout(() => {
      const side = this.sides[0];
      const parts = { trace: side.trace, from: Math.round(this.from + this.origin(side)) };
      parts.to = Math.round(this.to + this.origin(side));
      if (this.sides.length > 1) {
        parts.align = this.align;
        parts.iteration = this.number;
      }
      for (const [name, value] of Object.entries(this.filter)) {
        if (value) {
          parts[name] = value;
        }
      }
      const text = Object.entries(parts).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
      history.replaceState(null, "", `#timeline&${text.join("&")}`);
    }, 150);
  }
}
