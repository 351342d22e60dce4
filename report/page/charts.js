"use strict";
// Charts: plotly.js is unpacked when the first one comes into view, and each is drawn when it does. Its hash is in the page's policy.
(() => {
  const { figures, dark } = JSON.parse(document.getElementById("figures").textContent);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false };
  let unpacked;

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
