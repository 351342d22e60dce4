// What lies above the picture: what is pinned, the arrow from its call, what is being marked; and the legend and numbers below.

Object.assign(Timeline.prototype, {
  // What lies above the picture: iterations, what is pinned, the arrow from its call, what is being marked.
  drawOver() {
    const context = this.over.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.beginPath();
    context.rect(this.gutter, 0, this.width - this.gutter, this.height);
    context.save();
    context.clip();
    if (this.marking) {
      const [a, b] = this.marking.map((t) => this.x(t));
      context.fillStyle = this.theme.accent;
      context.globalAlpha = 0.18;
      context.fillRect(Math.min(a, b), 0, Math.abs(b - a), this.height);
      context.globalAlpha = 1;
    }
    if (this.pinned) {
      const { lane, item } = this.pinned;
      context.strokeStyle = this.theme.accent;
      context.lineWidth = 2;
      this.outline(context, lane, item);
      const launch = this.launch(lane, item);
      if (launch) {
        this.outline(context, launch.lane, launch.item);
        this.arrow(context, launch, this.pinned);
      }
    }
    context.restore();
    context.strokeStyle = this.theme.line;
    context.lineWidth = 1;
    context.beginPath();
    for (const y of this.titles.slice(1)) {
      context.moveTo(0, y - 2.5);
      context.lineTo(this.width, y - 2.5);
    }
    context.stroke();
  },

  box(lane, item) {
    const [start, end] = [lane.items.start[item], lane.items.end[item]].map((t) => this.x(t - this.origin(lane.side)));
    return [start, lane.y, Math.max(end - start, 1), lane.height];
  },

  outline(context, lane, item) {
    const [x, y, width, height] = this.box(lane, item);
    const left = Math.max(x, this.gutter - 10);
    context.strokeRect(left - 1, y - 1, Math.min(x + width, this.width + 10) - left + 2, height + 2);
  },

  arrow(context, from, to) {
    const [x0, y0, w0, h0] = this.box(from.lane, from.item);
    const [x1, y1, , h1] = this.box(to.lane, to.item);
    const down = y1 > y0;
    const [sx, sy, ex, ey] = [x0 + w0, down ? y0 + h0 : y0, x1, down ? y1 : y1 + h1];
    context.beginPath();
    context.moveTo(sx, sy);
    const bend = (ey - sy) / 2;
    context.bezierCurveTo(sx, sy + bend, ex, ey - bend, ex, ey);
    context.moveTo(ex - 4, ey - (down ? 6 : -6));
    context.lineTo(ex, ey);
    context.lineTo(ex + 4, ey - (down ? 6 : -6));
    context.stroke();
  },

  launch(lane, item) {
    if (lane.role === "device") {
      const [stream, row] = lane.origin(item);
      return this.launch(stream, row);
    }
    const call = lane.role === "stream" ? lane.items.call[item] : -1;
    return call >= 0 ? lane.side.callOf(call) : null;
  },

  legend() {
    const list = this.place.querySelector(".tl-legend");
    list.textContent = "";
    const used = new Set(this.sides.flatMap((side) => side.lanes.flatMap((lane) => lane.paints)));
    const add = (numbers, word, text) => {
      const number = numbers.map((name) => paintNumber.get(name)).find((one) => used.has(one));
      if (number) {
        const row = element("li");
        const swatch = element("canvas", "", { width: 24, height: 12, "aria-hidden": "true" });
        this.swatch(swatch, number);
        row.append(swatch, element("b", word), text && text !== word ? ` ${text}` : "");
        list.append(row);
      }
    };
    list.append(element("li", "Work", { class: "tl-head" }));
    this.words.kinds.forEach(([kind, text]) => add([kind], kind, text));
    list.append(element("li", "Idle time, hatched, by remedy; calls, plain, in the colour of the idle time they cause", { class: "tl-head" }));
    for (const family of this.words.families) {
      const causes = this.words.causes.filter(([, one]) => one === family);
      const text = causes.map(([cause]) => cause.replaceAll("_", " ")).join(", ");
      add([`idle ${family}`, `call ${family}`], family.replaceAll("_", " "), text);
    }
  },

  swatch(canvas, number) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const { plain, second, striped } = this.theme.paints[number];
    for (let i = 0; i < pixels.length; i++) {
      const [x, y] = [i % canvas.width, Math.floor(i / canvas.width)];
      pixels[i] = striped && isStripe(x, y) ? second : plain;
    }
    context.putImageData(image, 0, 0);
  },

  numbers() {
    const rows = this.place.querySelector(".tl-numbers tbody");
    rows.textContent = "";
    for (const lane of this.sides.flatMap((side) => side.lanes)) {
      const items = lane.data.items ?? lane.items.start.length;
      const row = element("tr");
      row.append(element("td", lane.side.name), element("td", lane.label || "(nested)"));
      row.append(element("td", items.toLocaleString("en-US"), { class: "num" }), element("td", duration(lane.total), { class: "num" }));
      rows.append(row);
    }
  },
});
