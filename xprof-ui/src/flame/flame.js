(function () {
  "use strict";
  // Of the drawing (draw.rs): where frames may stand, and how wide a character is.
  const LEFT = 10, WIDTH = 1180, CHARACTER = 6.6;
  const byId = (id) => document.getElementById(id);
  const input = byId("term");

  // A flame graph: its frames, what is seen of them, and what is marked.
  function picture(svg) {
    const parents = [];
    const frames = Array.from(svg.querySelectorAll("g.f"), (g, index) => {
      const rect = g.querySelector("rect");
      const label = g.querySelector("title").textContent;
      const depth = Number(g.getAttribute("aria-level")) - 1;
      parents[depth] = index;
      return {
        g, rect, text: g.querySelector("text"), label, depth, index,
        name: label.slice(0, label.indexOf("\n")),
        x: (Number(rect.getAttribute("x")) - LEFT) / WIDTH,
        w: Number(rect.getAttribute("width")) / WIDTH,
        parent: depth > 0 ? parents[depth - 1] : -1,
        children: [],
      };
    });
    for (const f of frames) if (f.parent >= 0) frames[f.parent].children.push(f);
    const root = frames[0];
    let zoomed = root;

    function fit(f, width) {
      const room = Math.floor((width - 6) / CHARACTER);
      const text = room < 3 ? "" : f.name.length <= room ? f.name : f.name.slice(0, room - 2) + "..";
      // Narrow frames come without a text.
      if (!f.text && text) {
        f.text = f.g.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "text"));
        f.text.setAttribute("y", Number(f.rect.getAttribute("y")) + 12);
      }
      if (f.text && f.text.textContent !== text) f.text.textContent = text;
    }

    function zoom(target) {
      if (!target) return;
      zoomed = target;
      const above = new Set();
      for (let f = target; f.parent >= 0; f = frames[f.parent]) above.add(f.parent);
      const end = target.x + target.w;
      for (const f of frames) {
        const isAbove = above.has(f.index);
        // Frames stand in depth-first order: what is called from the target follows it.
        const inside = f === target || (f.index > target.index && f.depth > target.depth && f.x < end && under(f, target));
        f.g.classList.toggle("off", !isAbove && !inside);
        f.g.classList.toggle("above", isAbove);
        if (!isAbove && !inside) continue;
        const x = isAbove ? 0 : (f.x - target.x) / target.w;
        const width = (isAbove ? 1 : f.w / target.w) * WIDTH;
        f.rect.setAttribute("x", LEFT + x * WIDTH);
        f.rect.setAttribute("width", Math.max(width, 0.1));
        fit(f, width);
        if (f.text) f.text.setAttribute("x", LEFT + x * WIDTH + 3);
      }
      sayZoom();
    }

    function under(f, target) {
      while (f.depth > target.depth) f = frames[f.parent];
      return f === target;
    }

    // Marks the frames that match; the share of the whole that they are, and how many.
    function mark(matches) {
      let share = 0, count = 0;
      const counted = new Set();
      for (const f of frames) {
        const hit = f !== root && matches(f.name);
        f.g.classList.toggle("hit", hit);
        if (hit) count++;
        // What is called from a match belongs to it already.
        if (f.parent >= 0 && counted.has(f.parent)) counted.add(f.index);
        else if (hit) { counted.add(f.index); share += f.w; }
      }
      return root ? "matched: " + (share / root.w * 100).toFixed(2) + " % in " + count + " frames" : "";
    }

    function move(f, key) {
      const inverted = svg.classList.contains("inverted");
      const widest = (list) => list.reduce((a, b) => (b.w > a.w ? b : a));
      const beside = f.parent < 0 ? [f] : frames[f.parent].children;
      const at = beside.indexOf(f);
      switch (key) {
        case inverted ? "ArrowDown" : "ArrowUp": return f.children.length ? widest(f.children) : f;
        case inverted ? "ArrowUp" : "ArrowDown": return f.parent < 0 ? f : frames[f.parent];
        case "ArrowLeft": return beside[Math.max(at - 1, 0)];
        case "ArrowRight": return beside[Math.min(at + 1, beside.length - 1)];
        default: return null;
      }
    }

    function focus(f) {
      for (const other of svg.querySelectorAll('g.f[tabindex="0"]')) other.setAttribute("tabindex", "-1");
      f.g.setAttribute("tabindex", "0");
      f.g.focus();
      say(f);
    }

    const frameOf = (target) => {
      const g = target.closest && target.closest("g.f");
      return g ? frames.find((f) => f.g === g) : null;
    };
    svg.addEventListener("click", (event) => { const f = frameOf(event.target); if (f) { zoom(f); focus(f); } });
    svg.addEventListener("mouseover", (event) => say(frameOf(event.target)));
    // Keys while a frame has the focus.
    const key = (event) => {
      const f = frameOf(event.target);
      if (!f) return;
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); zoom(f); return; }
      const next = move(f, event.key);
      if (next) { event.preventDefault(); if (next.g.classList.contains("off")) zoom(root); focus(next); }
    };
    const sayZoom = () => byId("reset").classList.toggle("off", zoomed === root || !root);
    return {
      mark, key, sayZoom,
      reset: () => zoom(root),
      focus: () => { if (zoomed) focus(zoomed); return !!zoomed; },
    };
  }

  const pictures = Array.from(document.querySelectorAll("svg.flame"), picture);
  let shown = pictures[0];

  function search(term) {
    let matches = () => false;
    if (term) {
      const lower = term.toLowerCase();
      matches = (name) => name.toLowerCase().includes(lower);
      try {
        const pattern = new RegExp(term, "i");
        matches = (name) => pattern.test(name) || name.toLowerCase().includes(lower);
      } catch (_) { /* no pattern: the words themselves */ }
    }
    // Rows of tables that name functions follow the search.
    for (const row of document.querySelectorAll("tr[data-name]")) row.classList.toggle("off", !!term && !matches(row.dataset.name));
    const matched = shown.mark(matches);
    byId("matched").textContent = term ? matched : "";
  }

  function say(f) { byId("details").textContent = f ? f.label.replace("\n", ": ") : ""; }

  const ask = () => {
    if (input) { input.focus(); input.select(); } else search(prompt("Search (words or a pattern):") || "");
  };
  byId("reset").addEventListener("click", () => shown.reset());
  if (input) input.addEventListener("input", () => search(input.value));
  else byId("search").addEventListener("click", ask);
  for (const button of document.querySelectorAll("button.find")) {
    button.addEventListener("click", () => { input.value = button.textContent; search(input.value); input.scrollIntoView(); });
  }
  // One event of several is looked at.
  const chosen = byId("event");
  const choose = () => {
    for (const part of document.querySelectorAll("[data-event]")) part.classList.toggle("off", part.dataset.event !== chosen.value);
    shown = pictures[Number(chosen.value)];
    say(null);
    shown.sayZoom();
    search(input.value);
  };
  if (chosen) { chosen.addEventListener("change", choose); choose(); }
  document.addEventListener("keydown", (event) => {
    if (event.target === input) {
      if (event.key === "Escape") { input.value = ""; search(""); if (!shown.focus()) input.blur(); }
      return;
    }
    if (event.key === "Escape") { search(""); if (input) input.value = ""; shown.reset(); return; }
    if (event.key === "/" || (event.key === "f" && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      ask();
      return;
    }
    shown.key(event);
  });
  shown.sayZoom();
})();
