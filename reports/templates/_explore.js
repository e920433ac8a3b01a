// Curves of the chosen trainings over each other, one panel for each quantity, drawn from the tables of this page.
(() => {
  const COLOURS = ["#3b7dd8", "#c8553d", "#a07d00", "#4f9d80", "#9a63c4", "#7d8590"], DASHES = ["", "7 3", "2 3", "8 3 2 3"];
  const WIDTH = 560, HEIGHT = 250, LEFT = 62, BOTTOM = 34, TOP = 12, RIGHT = 12;
  const tables = [...document.querySelectorAll("table[data-series]")];
  const choice = document.getElementById("choice"), panels = document.getElementById("panels"), readout = document.getElementById("readout");
  if (!tables.length) return;

  const series = tables.map((table, i) => {
    const [, ...names] = [...table.tHead.rows[0].cells].map(cell => cell.textContent);
    const rows = [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.textContent === "" ? NaN : Number(cell.textContent)));
    const points = new Map(names.map((name, k) => [name, rows.map(row => [row[0], row[k + 1]]).filter(([, y]) => Number.isFinite(y))]));
    return { name: table.dataset.series, points, colour: COLOURS[i % COLOURS.length], dash: DASHES[Math.floor(i / COLOURS.length) % DASHES.length] };
  });
  const quantities = [...new Set(series.flatMap(one => [...one.points.keys()]))];

  const element = (name, values, parent, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(values).forEach(([key, value]) => node.setAttribute(key, value));
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const short = value => Number(value.toPrecision(3)).toString();

  const panel = (quantity, lines) => {
    const figure = document.createElement("figure");
    const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${quantity} against the step: ${lines.map(l => l.name).join("; ")}` }, figure);
    const all = lines.flatMap(line => line.points.get(quantity));
    const xs = all.map(([x]) => x), positive = all.every(([, y]) => y > 0), scale = positive ? Math.log : y => y;
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)], ys = all.map(([, y]) => scale(y));
    let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
    if (y0 === y1) { y0 -= 0.1; y1 += 0.1; }
    const across = x => LEFT + (WIDTH - LEFT - RIGHT) * (x1 === x0 ? 0.5 : (x - x0) / (x1 - x0));
    const down = y => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (scale(y) - y0) / (y1 - y0);
    for (let i = 0; i <= 3; i++) {
      const value = y0 + (y1 - y0) * i / 3, y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * i / 3, x = x0 + (x1 - x0) * i / 3;
      element("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y, class: "rule" }, svg);
      element("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, svg, short(positive ? Math.exp(value) : value));
      if (x1 > x0 || i === 0) element("text", { x: across(x), y: HEIGHT - 16, "text-anchor": i === 3 ? "end" : "middle" }, svg, String(Math.round(x)));
    }
    element("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, svg, "step");
    lines.forEach(line => {
      const points = line.points.get(quantity), style = { stroke: line.colour, fill: "none", "stroke-width": 1.8, "stroke-dasharray": line.dash };
      if (points.length > 1) element("polyline", { points: points.map(([x, y]) => `${across(x).toFixed(1)},${down(y).toFixed(1)}`).join(" "), ...style }, svg);
      if (points.length < 30) points.forEach(([x, y]) => element("circle", { cx: across(x), cy: down(y), r: 3.2, fill: line.colour }, svg));
    });
    svg.addEventListener("pointermove", event => {
      const box = svg.getBoundingClientRect(), at = x0 + (x1 - x0) * ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
      readout.textContent = `${quantity}: ` + lines.map(line => {
        const [x, y] = line.points.get(quantity).reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
        return `${line.name} ${short(y)} at step ${x}`;
      }).join("; ");
    });
    const caption = document.createElement("figcaption");
    caption.textContent = quantity;
    figure.prepend(caption);
    return figure;
  };

  const draw = () => {
    const chosen = series.filter(one => one.box.checked);
    panels.replaceChildren(...quantities.map(quantity => {
      const lines = chosen.filter(one => one.points.get(quantity)?.length);
      return lines.length ? panel(quantity, lines) : "";
    }));
    readout.textContent = chosen.length ? "" : "Choose trainings above.";
  };
  series.forEach((one, i) => {
    const label = document.createElement("label");
    one.box = document.createElement("input");
    one.box.type = "checkbox";
    one.box.checked = i < 4 || one.points.keys().next().value.endsWith("by step") && one.name.includes(", one,");
    one.box.addEventListener("change", draw);
    label.append(one.box, ` ${one.name}`);
    label.style.setProperty("--colour", one.colour);
    choice.append(label);
  });
  choice.hidden = false;
  draw();
})();
