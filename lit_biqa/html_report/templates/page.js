// Draws the charts of the page and passes its filters and its theme on to them.
(async () => {
  const text = (id) => document.getElementById(id).textContent;
  const charts = JSON.parse(text("charts"));
  const themes = JSON.parse(text("themes"));
  const filters = [...document.querySelectorAll("[data-filter]")];
  const root = document.documentElement;
  let views = [];

  const dark = () =>
    (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

  const draw = async (name, { spec, tables }) => {
    const place = document.getElementById(`chart-${name}`);
    const datasets = Object.fromEntries(tables.map((table) => [table, text(`table-${table}`)]));
    const params = (spec.params ?? []).map((param) => ({ ...param, value: chosen(param.name) ?? param.value }));
    const options = { renderer: "canvas", actions: false, config: themes[dark() ? "dark" : "light"], tooltip: { theme: dark() ? "dark" : "light" } };
    const { view } = await vegaEmbed(place, { ...spec, params, datasets: { ...spec.datasets, ...datasets } }, options);
    place.vegaView = view;
    return view;
  };

  const chosen = (name) => filters.find((filter) => `chosen_${filter.dataset.filter}` === name)?.value;

  const drawAll = async () => {
    views.forEach((view) => view.finalize());
    views = [];
    for (const [name, chart] of Object.entries(charts)) views.push(await draw(name, chart));
    root.dataset.drawn = dark() ? "dark" : "light";
  };

  const filter = async () => {
    for (const card of document.querySelectorAll("[data-of]")) {
      const of = JSON.parse(card.dataset.of);
      card.hidden = filters.some(({ value, dataset }) => value && (of[dataset.filter] ?? value) !== value);
    }
    for (const view of views) {
      const known = Object.keys(view.getState({ signals: () => true }).signals);
      for (const { value, dataset } of filters) {
        if (known.includes(`chosen_${dataset.filter}`)) view.signal(`chosen_${dataset.filter}`, value);
      }
      await view.runAsync();
    }
    root.dataset.filtered = filters.map(({ value }) => value).join("|");
  };

  filters.forEach((each) => each.addEventListener("change", filter));
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  await filter();
  await drawAll();
})();
