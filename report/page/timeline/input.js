// Mouse, touch, keys and buttons of the timeline.

const KEYS = {
  w: (t) => t.zoom(0.6),
  s: (t) => t.zoom(1 / 0.6),
  a: (t) => t.pan(-0.25),
  d: (t) => t.pan(0.25),
  0: (t) => t.do("home"),
  e: (t) => t.do("all"),
  "[": (t) => t.do("earlier"),
  "]": (t) => t.do("later"),
  ",": (t) => t.neighbour(-1),
  ".": (t) => t.neighbour(1),
  n: (t) => t.step(1),
  N: (t) => t.step(-1),
  "/": (t) => t.search.focus(),
  Escape: (t) => t.pin(null),
};
Object.assign(KEYS, { "+": KEYS.w, "=": KEYS.w, "-": KEYS.s, _: KEYS.s, ArrowUp: KEYS.w, ArrowDown: KEYS.s });
Object.assign(KEYS, { ArrowLeft: KEYS.a, ArrowRight: KEYS.d, Home: KEYS[0], W: KEYS.w, S: KEYS.s, A: KEYS.a, D: KEYS.d });

const WHEEL = 0.0015; // of zoom in powers of e for a pixel of the wheel; one notch of most mice is 100 to 120
const STILL = 4; // pixels that a click may move

Object.assign(Timeline.prototype, {
  do(what) {
    const act = {
      in: () => this.zoom(0.6),
      out: () => this.zoom(1 / 0.6),
      left: () => this.pan(-0.25),
      right: () => this.pan(0.25),
      home: () => {
        this.home();
        this.write();
      },
      all: () => this.show(...this.limits()),
      quiet: () => {
        this.showsQuiet = !this.showsQuiet;
        this.arrange();
        this.draw();
      },
      earlier: () => this.goTo(this.iteration - 1),
      later: () => this.goTo(this.iteration + 1),
      previous: () => this.step(-1),
      next: () => this.step(1),
    }[what];
    if (act) {
      act();
    }
  },

  listen() {
    const { frame, over, place } = this;
    place.querySelector(".tl-bar").addEventListener("click", (event) => this.do(event.target.dataset.do));
    frame.addEventListener("keydown", (event) => {
      if (KEYS[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) {
        KEYS[event.key](this);
        event.preventDefault();
      }
    });
    over.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.pointer(over);
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.set({ find: this.search.value.trim() }), 200);
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        clearTimeout(this.typing);
        if (this.filter.find !== this.search.value.trim()) {
          this.set({ find: this.search.value.trim() });
        }
        this.step(event.shiftKey ? -1 : 1);
        event.preventDefault();
      }
    });
    this.iterationInput.addEventListener("change", () => {
      const wanted = Number.parseInt(this.iterationInput.value, 10);
      this.goTo(Number.isFinite(wanted) ? wanted - this.sides[0].firstSteady : 0);
    });
    this.alignSelect.value = this.align;
    this.alignSelect.addEventListener("change", () => {
      this.align = this.alignSelect.value;
      this.matches = null;
      this.home();
      this.write();
    });
    window.addEventListener("hashchange", () => this.follow(location.hash));
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.('a[href^="#timeline"]');
      if (link && link.getAttribute("href") === location.hash) {
        this.follow(location.hash);
      }
    });
    this.ruler.addEventListener("pointerdown", (event) => {
      const [low, high] = this.limits();
      const share = (event.offsetX - this.gutter) / (this.width - this.gutter);
      if (share >= 0 && event.offsetY >= RULER - 8) {
        this.pan((low + share * (high - low) - (this.from + this.to) / 2) / (this.to - this.from));
      }
    });
    for (const [event, width] of [["beforeprint", `${PAPER}px`], ["afterprint", ""]]) {
      window.addEventListener(event, () => {
        frame.style.width = width;
        this.resize();
      });
    }
    new ResizeObserver(() => this.resize()).observe(frame);
    for (const query of ["(prefers-color-scheme: dark)", "print"]) {
      matchMedia(query).addEventListener("change", () => {
        this.theme = readTheme(place);
        this.legend();
        this.draw();
      });
    }
  },

  resize() {
    if (this.frame.clientWidth !== this.width && this.frame.clientWidth) {
      this.arrange();
      this.draw();
    }
  },

  // Zoom about the pointer; sideways, and with Shift, move. Once everything is in view the page scrolls on.
  wheel(event) {
    const [low, high] = this.limits();
    const unit = event.deltaMode === 1 ? 33 : event.deltaMode === 2 ? 400 : 1;
    const [dx, dy] = event.shiftKey ? [event.deltaY * unit, 0] : [event.deltaX * unit, event.deltaY * unit];
    if (dx === 0 && dy > 0 && this.to - this.from >= high - low) {
      return;
    }
    event.preventDefault();
    this.wheeled = { x: event.offsetX, dx: (this.wheeled?.dx || 0) + dx, dy: (this.wheeled?.dy || 0) + dy };
    if (!this.framed) {
      this.framed = requestAnimationFrame(() => {
        const { x, dx: sideways, dy: turned } = this.wheeled;
        this.framed = this.wheeled = null;
        if (Math.abs(sideways) > Math.abs(turned)) {
          this.pan(sideways / (this.width - this.gutter));
        } else {
          this.zoom(Math.exp(turned * WHEEL), this.time(Math.max(x, this.gutter)));
        }
      });
    }
  },

  pointer(over) {
    let held = null;
    over.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && event.offsetX > this.gutter) {
        held = { x: event.offsetX, y: event.offsetY, from: this.from, to: this.to, moved: false, marks: event.shiftKey };
        over.setPointerCapture(event.pointerId);
        this.frame.focus({ preventScroll: true });
      }
    });
    over.addEventListener("pointermove", (event) => {
      if (!held) {
        this.hover(event.offsetX, event.offsetY);
        return;
      }
      held.moved ||= Math.abs(event.offsetX - held.x) > STILL;
      if (!held.moved) {
        return;
      }
      this.tip.hidden = true;
      const scale = (held.to - held.from) / (this.width - this.gutter);
      if (held.marks) {
        this.marking = [this.time(held.x), this.time(event.offsetX)];
        this.say(`${duration(Math.abs(this.marking[1] - this.marking[0]))} marked`);
        this.drawOver();
      } else {
        const by = (event.offsetX - held.x) * scale;
        this.show(held.from - by, held.to - by);
      }
    });
    const release = (event) => {
      if (held && held.moved && held.marks && this.marking) {
        const [from, to] = this.marking.sort((a, b) => a - b);
        this.marking = null;
        this.show(from, to);
      } else if (held && !held.moved && event.type === "pointerup") {
        this.pin(this.hover(held.x, held.y));
      }
      this.marking = held = null;
    };
    over.addEventListener("pointerup", release);
    over.addEventListener("pointercancel", release);
    over.addEventListener("pointerleave", () => (this.tip.hidden = true));
    over.addEventListener("dblclick", (event) => this.zoom(0.4, this.time(event.offsetX)));
  },
});
