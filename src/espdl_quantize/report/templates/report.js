(function () {
  "use strict";
  var root = document.documentElement;
  var NARROW = 440;
  var PAPER = 680;
  var charts = [];

  /* "@name" stands for the colour --name of the theme, but only where a colour belongs: a text
     that happens to start with "@" stays as it is. */
  function painted(value, key, style) {
    if (Array.isArray(value)) {
      return value.map(function (item) { return painted(item, key, style); });
    }
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (name) {
        copy[name] = painted(value[name], name, style);
      });
      return copy;
    }
    if (typeof value === "string" && value[0] === "@" && /color$/.test(key)) {
      return style.getPropertyValue("--" + value.slice(1)).trim();
    }
    return value;
  }

  function put(layout, path, value) {
    var steps = path.split("."), last = steps.pop();
    steps.reduce(function (at, step) { return at[step]; }, layout)[last] = value;
  }

  function draw(chart) {
    var style = getComputedStyle(root);
    var layout = painted(chart.figure.layout, "", style);
    var narrow = chart.box.clientWidth < NARROW;
    if (narrow) {
      layout.font.size = 12;
      /* A finger that scrolls the page must not zoom the chart. */
      layout.dragmode = false;
      Object.keys(chart.figure.narrow).forEach(function (path) {
        put(layout, path, chart.figure.narrow[path]);
      });
    }
    if (root.classList.contains("print")) { layout.width = Math.min(PAPER, chart.box.clientWidth); }
    chart.narrow = narrow;
    chart.box.style.minHeight = layout.height + "px";
    window.Plotly.react(chart.box, painted(chart.figure.data, "", style), layout, {
      responsive: true,
      displayModeBar: false
    });
  }

  function drawAll() { charts.forEach(draw); }

  function begin() {
    charts = [];
    document.querySelectorAll("script[data-chart]").forEach(function (holder) {
      var box = document.getElementById(holder.getAttribute("data-chart"));
      charts.push({ box: box, figure: JSON.parse(holder.textContent), narrow: null });
    });
    drawAll();
    document.querySelectorAll("script[data-graph]").forEach(map);
    document.querySelectorAll("button[data-copy]").forEach(offerCopy);
    links = Array.prototype.slice.call(document.querySelectorAll(".toc a"));
    markHere();
  }

  window.addEventListener("resize", function () {
    charts.forEach(function (chart) {
      if (chart.narrow !== chart.box.clientWidth < NARROW) { draw(chart); }
    });
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  /* Paper is white, whatever the screen is. */
  window.addEventListener("beforeprint", function () { root.classList.add("print"); drawAll(); });
  window.addEventListener("afterprint", function () { root.classList.remove("print"); drawAll(); });

  /* The map of the graph: ops in layers below what they read. Only what is in view is drawn, so
     that thousands of ops stay quick. */
  var BOX = { w: 148, h: 30, x: 18, y: 22 };

  function map(holder) {
    var graph = JSON.parse(holder.textContent), ops = graph.ops;
    var frame = document.querySelector('[data-map="' + holder.getAttribute("data-graph") + '"]');
    var scroll = frame.querySelector(".map-scroll"), canvas = frame.querySelector("canvas");
    var space = frame.querySelector(".map-space"), tip = frame.querySelector(".map-tip");
    var input = frame.querySelector("input"), select = frame.querySelector("select");
    var status = frame.querySelector(".map-found");
    var open = {}, view = 0, nodes = [], edges = [], size = { w: 0, h: 0 }, hit = -1, hits = [];
    var members = {};
    frame.hidden = false;
    ops.forEach(function (op, at) { (members[op[2]] = members[op[2]] || []).push(at); });
    graph.groups.forEach(function (name, at) { open[at] = ops.length <= 60 || members[at].length === 1; });
    graph.views.forEach(function (name, at) {
      var option = document.createElement("option");
      option.value = String(at);
      option.textContent = name;
      select.appendChild(option);
    });

    function error(op) { return op[4 + view]; }

    function lay() {
      var of = [], layers = [];
      nodes = [];
      edges = [];
      ops.forEach(function (op, at) {
        var last = nodes[nodes.length - 1];
        /* A run of ops of a closed group is one block; a group that is left and entered again is
           two, so that the layers stay in order. */
        if (!open[op[2]] && last && last.group === op[2] && !last.single) {
          last.ops.push(at);
        } else {
          nodes.push({ group: op[2], ops: [at], single: open[op[2]], depth: 0, reads: {} });
        }
        of[at] = nodes.length - 1;
      });
      nodes.forEach(function (node, self) {
        node.worst = null;
        node.ops.forEach(function (at) {
          var value = error(ops[at]);
          if (value !== null && (node.worst === null || value > node.worst)) { node.worst = value; }
          ops[at][3].forEach(function (from) {
            if (of[from] !== self) { node.reads[of[from]] = true; }
          });
        });
        Object.keys(node.reads).forEach(function (from) {
          node.depth = Math.max(node.depth, nodes[from].depth + 1);
          edges.push([Number(from), self]);
        });
        (layers[node.depth] = layers[node.depth] || []).push(node);
      });
      var wide = 1;
      layers.forEach(function (layer) { wide = Math.max(wide, layer.length); });
      size.w = Math.max(wide * (BOX.w + BOX.x) + BOX.x, scroll.clientWidth);
      size.h = layers.length * (BOX.h + BOX.y) + BOX.y;
      layers.forEach(function (layer, depth) {
        var step = BOX.w + BOX.x, start = (size.w - layer.length * step + BOX.x) / 2;
        layer.forEach(function (node, at) {
          node.x = start + at * step;
          node.y = BOX.y + depth * (BOX.h + BOX.y);
        });
      });
      edges.sort(function (a, b) { return nodes[a[0]].y - nodes[b[0]].y; });
      space.style.height = size.h + "px";
      space.style.width = size.w + "px";
      scroll.style.height = Math.min(480, size.h + 4) + "px";
      find(false);
      paint();
    }

    function colour(value) {
      if (value === null) { return null; }
      /* From a hundredth of the limit, green, over the limit, yellow, to a hundred times, red. */
      var at = value <= 0 ? 0 : (Math.log(value / graph.limit) / Math.LN10 + 2) / 4;
      at = Math.min(1, Math.max(0, at));
      return "hsl(" + Math.round(140 - 135 * at) + ", 62%, 46%)";
    }

    function label(node) {
      if (!node.single) { return (graph.groups[node.group] || "the rest") + " (" + node.ops.length + ")"; }
      var op = ops[node.ops[0]], name = op[0].split("/").pop();
      return op[1] === name ? name : op[1] + " " + name;
    }

    function paint() {
      var ratio = window.devicePixelRatio || 1, w = scroll.clientWidth, h = scroll.clientHeight;
      var style = getComputedStyle(root), left = scroll.scrollLeft, top = scroll.scrollTop;
      var pen = canvas.getContext("2d");
      canvas.width = w * ratio;
      canvas.height = h * ratio;
      canvas.style.width = w + "px";
      canvas.style.height = h + "px";
      pen.setTransform(ratio, 0, 0, ratio, -left * ratio, -top * ratio);
      pen.strokeStyle = style.getPropertyValue("--line").trim();
      pen.lineWidth = 1;
      pen.beginPath();
      edges.forEach(function (edge) {
        var from = nodes[edge[0]], to = nodes[edge[1]];
        if (from.y + BOX.h > top + h || to.y < top) { return; }
        var x = from.x + BOX.w / 2, y = from.y + BOX.h, u = to.x + BOX.w / 2, v = to.y;
        pen.moveTo(x, y);
        pen.bezierCurveTo(x, y + BOX.y, u, v - BOX.y, u, v);
      });
      pen.stroke();
      pen.font = "12px system-ui, sans-serif";
      pen.textBaseline = "middle";
      nodes.forEach(function (node, at) {
        if (node.y > top + h || node.y + BOX.h < top || node.x > left + w || node.x + BOX.w < left) {
          return;
        }
        var fill = colour(node.worst), text = label(node);
        pen.fillStyle = fill || style.getPropertyValue("--card").trim();
        pen.fillRect(node.x, node.y, BOX.w, BOX.h);
        var found = hits.indexOf(at) >= 0;
        pen.strokeStyle = style.getPropertyValue(found ? "--text" : "--line").trim();
        pen.lineWidth = at === hit ? 4 : found ? 2 : 1;
        pen.strokeRect(node.x, node.y, BOX.w, BOX.h);
        if (!node.single) { pen.strokeRect(node.x + 3, node.y + 3, BOX.w - 6, BOX.h - 6); }
        pen.fillStyle = fill ? (parseInt(fill.slice(4), 10) < 25 ? "#ffffff" : "#0b1410") : style.getPropertyValue("--text").trim();
        while (text.length > 4 && pen.measureText(text).width > BOX.w - 16) {
          text = text.slice(0, -2).replace(/\u2026$/, "") + "\u2026";
        }
        pen.fillText(text, node.x + 8, node.y + BOX.h / 2);
      });
    }

    function at(event) {
      var box = scroll.getBoundingClientRect();
      var x = event.clientX - box.left + scroll.scrollLeft, y = event.clientY - box.top + scroll.scrollTop;
      for (var i = 0; i < nodes.length; i += 1) {
        var node = nodes[i];
        if (x >= node.x && x <= node.x + BOX.w && y >= node.y && y <= node.y + BOX.h) { return i; }
      }
      return -1;
    }

    function describe(node) {
      var worst = node.worst === null ? "not measured" : "noise:signal " + node.worst;
      if (node.single) {
        var op = ops[node.ops[0]];
        return op[0] + " (" + op[1] + "): " + worst;
      }
      return (graph.groups[node.group] || "ops without a path") + ": " + node.ops.length +
        " ops, the worst " + worst + ". Click to open.";
    }

    function find(moves) {
      var wanted = input.value.trim().toLowerCase();
      hits = [];
      if (wanted) {
        nodes.forEach(function (node, place) {
          if (node.ops.some(function (op) {
            return (ops[op][0] + " " + ops[op][1]).toLowerCase().indexOf(wanted) >= 0;
          })) { hits.push(place); }
        });
      }
      status.textContent = wanted ? hits.length + " found" : "";
      if (!hits.length) { hit = -1; return; }
      if (moves) {
        hit = hits[(hits.indexOf(hit) + 1) % hits.length];
        scroll.scrollTop = nodes[hit].y - scroll.clientHeight / 2;
        scroll.scrollLeft = nodes[hit].x - scroll.clientWidth / 2;
        tip.textContent = describe(nodes[hit]);
      }
    }

    var waiting = false;
    function soon() {
      if (waiting) { return; }
      waiting = true;
      requestAnimationFrame(function () { waiting = false; paint(); });
    }
    scroll.addEventListener("scroll", soon, { passive: true });
    scroll.addEventListener("mousemove", function (event) {
      var place = at(event);
      scroll.style.cursor = place >= 0 ? "pointer" : "default";
      if (place >= 0) { tip.textContent = describe(nodes[place]); }
    });
    scroll.addEventListener("click", function (event) {
      var place = at(event);
      if (place < 0 || members[nodes[place].group].length === 1) { return; }
      open[nodes[place].group] = !nodes[place].single;
      lay();
    });
    input.addEventListener("input", function () { hit = -1; find(true); soon(); });
    input.addEventListener("keydown", function (event) {
      if (event.key === "Enter") { event.preventDefault(); find(true); soon(); }
    });
    select.addEventListener("change", function () { view = Number(select.value); lay(); });
    frame.querySelectorAll("[data-map-do]").forEach(function (button) {
      button.addEventListener("click", function () {
        var all = button.getAttribute("data-map-do") === "open";
        graph.groups.forEach(function (name, group) { open[group] = all || members[group].length === 1; });
        lay();
      });
    });
    window.addEventListener("resize", lay);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    lay();
  }

  var links = [];
  function markHere() {
    var here = null;
    links.forEach(function (link) {
      var head = document.getElementById(link.getAttribute("href").slice(1));
      if (head && head.getBoundingClientRect().top < window.innerHeight * 0.35) { here = link; }
    });
    links.forEach(function (link) { link.classList.toggle("here", link === here); });
  }
  window.addEventListener("scroll", markHere, { passive: true });

  function copyBySelection(source) {
    var range = document.createRange(), selection = window.getSelection();
    range.selectNodeContents(source);
    selection.removeAllRanges();
    selection.addRange(range);
    var done = document.execCommand("copy");
    if (done) { selection.removeAllRanges(); }
    return done;
  }

  function offerCopy(button) {
    var source = document.getElementById(button.getAttribute("data-copy"));
    var told = document.createElement("span");
    told.className = "hidden";
    told.setAttribute("role", "status");
    button.after(told);
    button.hidden = false;
    function tell(done) {
      button.textContent = told.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(function () { button.textContent = "Copy"; told.textContent = ""; }, 2000);
    }
    button.addEventListener("click", function () {
      /* Pages opened from a disk have no clipboard in some browsers. */
      if (navigator.clipboard) {
        navigator.clipboard.writeText(source.textContent).then(
          function () { tell(true); },
          function () { tell(copyBySelection(source)); }
        );
      } else {
        tell(copyBySelection(source));
      }
    });
  }

  /* A page that is served renews itself: the line at the top every second, the rest whenever an
     iteration has come. Whoever serves it may go and come back. */
  function words(seconds) {
    if (seconds === null || seconds === undefined) { return ""; }
    var whole = Math.round(seconds);
    if (whole < 60) { return whole + " s"; }
    if (whole < 3600) { return Math.floor(whole / 60) + " min " + (whole % 60) + " s"; }
    return Math.floor(whole / 3600) + " h " + Math.floor(whole % 3600 / 60) + " min";
  }

  function renew() {
    return fetch("./", { cache: "no-store" }).then(function (answer) {
      if (!answer.ok) { throw new Error(answer.status); }
      return answer.text();
    }).then(function (text) {
      var fresh = new DOMParser().parseFromString(text, "text/html");
      charts.forEach(function (chart) { window.Plotly.purge(chart.box); });
      [".body", "header", "footer"].forEach(function (part) {
        var old = document.querySelector(part), now = fresh.querySelector(part);
        if (old && now) { old.replaceWith(document.adoptNode(now)); }
      });
      document.title = fresh.title;
      begin();
    });
  }

  function curve(spark) {
    var space = "http://www.w3.org/2000/svg";
    var picture = document.createElementNS(space, "svg");
    var title = document.createElementNS(space, "title");
    var path = document.createElementNS(space, "path");
    picture.setAttribute("class", "spark");
    picture.setAttribute("viewBox", "0 0 " + spark.width + " " + spark.height);
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", spark.label);
    title.textContent = spark.label;
    path.setAttribute("d", spark.path);
    picture.appendChild(title);
    picture.appendChild(path);
    return picture;
  }

  function watch(panel) {
    var version = panel.getAttribute("data-live");
    var what = panel.querySelector(".live-what"), stage = panel.querySelector(".live-stage");
    var bar = panel.querySelector(".bar"), blocks = panel.querySelector(".live-blocks");
    var log = panel.querySelector(".live-log");

    function show(state) {
      panel.classList.toggle("off", !state.is_running);
      var left = words(state.seconds_left);
      what.textContent = state.is_running
        ? state.what + (left ? " | about " + left + " left" : "")
        : state.message;
      stage.textContent = state.stages.join(" / ") + (state.detail ? ": " + state.detail : "") +
        (state.is_running && state.seconds !== null ? " (" + words(state.seconds) + ")" : "");
      bar.hidden = state.fraction === null || !state.is_running;
      if (state.fraction !== null) {
        bar.firstElementChild.style.width = (100 * state.fraction).toFixed(1) + "%";
      }
      panel.querySelector(".live-title").hidden = !state.blocks.length;
      blocks.textContent = "";
      state.blocks.forEach(function (block) {
        var item = document.createElement("li");
        item.textContent = block.text;
        if (block.spark) { item.appendChild(curve(block.spark)); }
        blocks.appendChild(item);
      });
      var atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
      log.textContent = state.log.join("\n");
      if (atEnd) { log.scrollTop = log.scrollHeight; }
    }

    function poll() {
      fetch("state.json", { cache: "no-store" }).then(function (answer) {
        if (!answer.ok) { throw new Error(answer.status); }
        return answer.json();
      }).then(function (state) {
        show(state);
        if (state.version === version) { return null; }
        version = state.version;
        return renew();
      }).catch(function (error) {
        if (window.console) { window.console.warn("renewing: " + error); }
        panel.classList.add("off");
        what.textContent = "Nobody serves this page any more; it goes on once somebody does. " +
          "report.html in the output folder has the same.";
      }).then(function () { setTimeout(poll, 1000); });
    }
    poll();
  }

  begin();
  document.querySelectorAll("[data-live]").forEach(watch);
})();
