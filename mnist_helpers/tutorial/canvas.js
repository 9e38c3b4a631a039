// A canvas for digits. Only `render`, at the end, needs Jupyter; all else works in any page.
//
// A drawing is a list of strokes, a stroke a list of points [x, y] from 0 to 1, y pointing down.
// An answer has `pixels` (784 levels, 255 for ink), and for ink `probabilities` and `doubtful`.

const PEN = 0.07; // the pen's width; 1 is the canvas's
const NEAR = 0.004; // points nearer to each other make no difference
const WAIT = 25; // milliseconds between two drawings that are sent

/** Draw strokes on a canvas, dark on white. */
export function paint(canvas, strokes) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  Object.assign(pen, { lineCap: "round", lineJoin: "round", lineWidth: PEN * canvas.width });
  for (const stroke of strokes) {
    pen.beginPath();
    for (const [x, y] of [stroke[0], ...stroke]) pen.lineTo(x * canvas.width, y * canvas.height);
    pen.stroke();
  }
}

/** Return the strokes as they were after `count` points. */
export function beginning(strokes, count) {
  const left = (number) => Math.max(0, count - strokes.slice(0, number).flat().length);
  const parts = strokes.map((stroke, number) => stroke.slice(0, left(number)));
  return parts.filter((part) => part.length);
}

/** Paint 28x28 levels of ink on a canvas of that size; paint nothing without levels. */
export function paintPixels(canvas, pixels = []) {
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(canvas.width, canvas.height);
  pixels.forEach((level, place) => (image.data[4 * place + 3] = level)); // black, but see-through
  pen.putImageData(image, 0, 0);
}

/** Return a function that makes the call at once, or `wait` milliseconds after the last one. */
export function throttled(call, wait) {
  let timer = null;
  let last = -Infinity;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      last = performance.now();
      call();
    }, Math.max(0, last + wait - performance.now()));
  };
}

const inPerCent = (probability) => `${Math.round(100 * probability)}%`;

/** Say an answer in words. */
export function inWords({ probabilities, doubtful, error } = {}) {
  if (error) return error;
  if (!probabilities) return "Draw a digit from 0 to 9.";
  const highest = Math.max(...probabilities);
  const digit = probabilities.indexOf(highest);
  const words = `${digit === 8 ? "an" : "a"} ${digit} (${inPerCent(highest)})`;
  return doubtful ? `That may not be a digit. Perhaps ${words}?` : `That is ${words}.`;
}

/**
 * Let a canvas be drawn on, and call `changed` with each change.
 * Returns what can be done with it; `stop` takes the canvas out of use.
 */
export function drawingSurface(canvas, changed) {
  let strokes = [];
  const past = []; // the drawings that undo goes back to
  let pointer = null; // that draws; a second finger doesn't
  let playing = null;

  const show = (some) => {
    strokes = some;
    paint(canvas, strokes);
    changed();
  };
  const change = (some) => {
    clearInterval(playing);
    pointer = null; // a stroke that isn't finished ends here
    show(some);
  };
  const clear = () => {
    past.push(strokes);
    change([]);
  };
  const add = (event) => {
    const box = canvas.getBoundingClientRect();
    const within = (at, all) => Math.min(Math.max(Math.round((1000 * at) / all), 0), 1000) / 1000;
    const stroke = strokes.at(-1);
    const some = event.getCoalescedEvents?.() ?? [];
    for (const { clientX, clientY } of some.length ? some : [event]) {
      const point = [within(clientX - box.left, box.width), within(clientY - box.top, box.height)];
      const [x, y] = stroke.at(-1) ?? [-1, -1];
      if (Math.hypot(point[0] - x, point[1] - y) > NEAR) stroke.push(point);
    }
    show(strokes);
  };
  const listeners = {
    pointerdown(event) {
      if (pointer !== null || event.button !== 0) return;
      pointer = event.pointerId;
      canvas.setPointerCapture(pointer);
      clearInterval(playing);
      past.push(strokes);
      strokes = [...strokes, []];
      add(event);
    },
    pointermove: (event) => event.pointerId === pointer && add(event),
    pointerup: (event) => event.pointerId === pointer && (pointer = null),
    pointercancel: (event) => event.pointerId === pointer && (pointer = null),
  };
  for (const name in listeners) canvas.addEventListener(name, listeners[name]);

  return {
    strokes: () => strokes,
    undo: () => change(past.pop() ?? []),
    clear,
    /** Draw recorded strokes, a point each so many milliseconds. */
    replay(recorded, milliseconds = 15) {
      clear();
      const began = performance.now();
      playing = setInterval(() => {
        const count = Math.ceil((performance.now() - began) / milliseconds);
        if (count >= recorded.flat().length) clearInterval(playing);
        show(beginning(recorded, count));
      }, milliseconds);
    },
    stop() {
      clearInterval(playing);
      for (const name in listeners) canvas.removeEventListener(name, listeners[name]);
    },
  };
}

/** Build what stands in the page; return its parts by name. */
export function build(root) {
  const digits = [...Array(10).keys()];
  root.className = "mnist-canvas";
  root.innerHTML = `
    <canvas class="paper" width="560" height="560" tabindex="0" role="img"
      aria-label="Canvas: draw a digit with mouse, pen or finger"></canvas>
    <div class="beside">
      <p class="says" role="status"></p>
      <div class="sees-and-bars">
        <figure><canvas class="sees" width="28" height="28" role="img"
          aria-label="The drawing as the network sees it"></canvas>
          <figcaption>what the network sees: 28x28</figcaption></figure>
        <div class="bars" role="img">${digits.map((digit) => `<span>${digit}</span>
          <div class="bar"></div><span class="per-cent"></span>`).join("")}</div>
      </div>
    </div>
    <div class="buttons" role="group" aria-label="Drawing">
      <button class="undo" title="Ctrl+Z">Undo</button>
      <button class="clear">Clear</button>
      <button class="replay">Show me one</button>
    </div>
    <div class="buttons" role="group" aria-label="Keep it as an example">It is a
      ${digits.map((digit) => `<button class="keep" title="or press ${digit}"
        aria-label="Keep it as ${digit}">${digit}</button>`).join("")}
      <span class="kept"></span></div>`;
  const part = (name) => root.querySelector(`.${name}`);
  return {
    part,
    showAnswer(answer) {
      const probabilities = answer.probabilities ?? Array(10).fill(0);
      const words = probabilities.map(inPerCent);
      part("says").textContent = inWords(answer);
      paintPixels(part("sees"), answer.pixels);
      part("bars").ariaLabel = words.map((word, digit) => `${digit}: ${word}`).join(", ");
      root.querySelectorAll(".bar").forEach((bar, digit) => {
        bar.style.transform = `scaleX(${probabilities[digit]})`;
        bar.nextElementSibling.textContent = answer.probabilities ? words[digit] : "";
      });
    },
  };
}

/** Show the canvas in a notebook; the kernel has the network. */
function render({ model, el }) {
  const root = el.appendChild(document.createElement("div"));
  root.dataset.lmSuppressShortcuts = "true"; // digits and Ctrl+Z are ours here, not JupyterLab's
  const { part, showAnswer } = build(root);
  let number = model.get("answer").number ?? 0;
  const send = throttled(() => {
    model.set("drawing", { number, strokes: surface.strokes() });
    model.save_changes();
  }, WAIT);
  const surface = drawingSurface(part("paper"), () => {
    number += 1;
    root.ariaBusy = "true";
    send();
  });
  const kept = [];
  const keep = (label) => {
    const strokes = surface.strokes();
    if (!strokes.length) return;
    model.send({ label, strokes });
    kept.push(strokes);
    surface.clear();
  };
  const undo = () => {
    surface.undo();
    if (surface.strokes() !== kept.at(-1)) return;
    kept.pop(); // the drawing that is back was an example, perhaps with the wrong label
    model.send({ undo: true });
  };
  const recorded = model.get("recorded");
  let next = 0;
  part("replay").hidden = !recorded.length;
  part("replay").onclick = () => surface.replay(recorded[next++ % recorded.length]);
  part("undo").onclick = undo;
  part("clear").onclick = surface.clear;
  root.querySelectorAll(".keep").forEach((button, label) => (button.onclick = () => keep(label)));
  root.onpointerdown = (event) => event.target === part("paper") && part("paper").focus();
  root.onkeydown = (event) => {
    const isUndo = event.key === "z" && (event.ctrlKey || event.metaKey);
    if (isUndo) undo();
    else if (/^[0-9]$/.test(event.key) && !event.ctrlKey && !event.altKey) keep(Number(event.key));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const answered = () => {
    const answer = model.get("answer");
    showAnswer(answer);
    if (answer.number === number) root.ariaBusy = "false";
  };
  const counted = () => (part("kept").textContent = `kept: ${model.get("kept")}`);
  model.on("change:answer", answered);
  model.on("change:kept", counted);
  showAnswer({});
  counted();
  return () => {
    surface.stop();
    model.off("change:answer", answered);
    model.off("change:kept", counted);
  };
}

export default { render };
