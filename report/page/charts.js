"use strict";
// Charts: plotly.js is unpacked when the first one comes into view, and each is drawn when it does. Its hash is in the page's policy.
(() => {
  const { figures, dark } = JSON.parse(document.getElementById("figures").textContent);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false };
  let unpacked;

  // Five digits of base 85 are four bytes; the last ones of a text whose bytes are no multiple of four are fewer.
  const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;.=>?@^_`{|}~";
  const bytesOf = (text) => {
    const value = new Uint8Array(128);
    [...digits].forEach((digit, at) => (value[digit.charCodeAt(0)] = at));
    const whole = new DataView(new ArrayBuffer(Math.ceil(text.length / 5) * 4));
    for (let at = 0; at < text.length; at += 5) {
      let number = 0;
      for (let i = at; i < at + 5; i += 1) number = number * 85 + (i < text.length ? value[text.charCodeAt(i)] : 84);
      whole.setUint32((at / 5) * 4, number);
    }
    return new Uint8Array(whole.buffer, 0, Math.floor((text.length * 4) / 5));
  };

  const unpack = async () => {
    const stream = new Blob([bytesOf(document.getElementById("plotly").textContent)]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };

  // Figures come in the colours of light ground.
  const coloured = (value, ground) => {
    if (typeof value === "string") return ground[value] ?? value;
    if (Array.isArray(value)) return value.map((one) => coloured(one, ground));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, coloured(one, ground)]));
  };

  const draw = (place, ground) => {
    const { data, layout } = coloured(figures[place.id], ground);
    return Plotly.react(place, data, layout, config).then(() => {
      place.dataset.drawn = String(data.length);
      place.style.setProperty("--wide", String(place.offsetWidth)); // paper is smaller
      place.style.setProperty("--tall", String(place.offsetHeight));
    });
  };

  const ground = () => (scheme.matches ? dark : {});
  const seen = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      seen.unobserve(target);
      unpacked ??= unpack();
      unpacked.then(() => draw(target, ground()));
    }
  });
  const places = Object.keys(figures).map((id) => document.getElementById(id));
  places.forEach((place) => seen.observe(place));

  const again = (colours) => places.filter((place) => place.dataset.drawn).forEach((place) => draw(place, colours));
  scheme.addEventListener("change", () => again(ground()));
  window.addEventListener("beforeprint", () => scheme.matches && again({}));
  window.addEventListener("afterprint", () => scheme.matches && again(dark));
})();
