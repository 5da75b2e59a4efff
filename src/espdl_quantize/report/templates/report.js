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

  document.querySelectorAll("script[data-chart]").forEach(function (holder) {
    var box = document.getElementById(holder.getAttribute("data-chart"));
    charts.push({ box: box, figure: JSON.parse(holder.textContent), narrow: null });
  });
  drawAll();

  window.addEventListener("resize", function () {
    charts.forEach(function (chart) {
      if (chart.narrow !== chart.box.clientWidth < NARROW) { draw(chart); }
    });
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  /* Paper is white, whatever the screen is. */
  window.addEventListener("beforeprint", function () { root.classList.add("print"); drawAll(); });
  window.addEventListener("afterprint", function () { root.classList.remove("print"); drawAll(); });

  function copyBySelection(source) {
    var range = document.createRange(), selection = window.getSelection();
    range.selectNodeContents(source);
    selection.removeAllRanges();
    selection.addRange(range);
    var done = document.execCommand("copy");
    if (done) { selection.removeAllRanges(); }
    return done;
  }

  document.querySelectorAll("button[data-copy]").forEach(function (button) {
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
  });
})();
