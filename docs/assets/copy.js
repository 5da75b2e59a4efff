/* A button beside each block of code, which copies it. A page that was opened from the disk has no
   clipboard in some browsers: there, the block is selected, and the browser's own command copies. */
(function () {
  "use strict";
  document.querySelectorAll(".rst-content .highlight pre").forEach(function (block) {
    const text = block.textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    function tell(done) {
      button.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(function () { button.textContent = "Copy"; }, 2000);
    }
    function select() {
      window.getSelection().selectAllChildren(block);
      tell(document.execCommand("copy"));
    }
    button.addEventListener("click", function () {
      if (!navigator.clipboard) { select(); return; }
      navigator.clipboard.writeText(text).then(function () { tell(true); }, select);
    });
    block.parentElement.classList.add("has-copy");
    block.parentElement.appendChild(button);
  });
})();
