/* The search of a page that was opened from the disk: browsers give such a page no web worker and
   no JSON file, which mkdocs' own search needs. Over http this does nothing. */
(function () {
  const results = document.getElementById("mkdocs-search-results");
  if (location.protocol !== "file:" || !results) return;
  const query = new URLSearchParams(location.search).get("q") || "";
  document.getElementById("mkdocs-search-query").value = query;

  function load(name) {
    return new Promise(function (done, failed) {
      const script = document.createElement("script");
      script.src = base_url + "/search/" + name;
      script.onload = done;
      script.onerror = failed;
      document.head.appendChild(script);
    });
  }

  function entry(page) {
    const item = document.createElement("article");
    const title = document.createElement("h3");
    const link = document.createElement("a");
    link.href = base_url + "/" + page.location;
    link.textContent = page.title;
    title.appendChild(link);
    const text = document.createElement("p");
    text.textContent = page.text.replace(/<[^>]*>/g, " ").slice(0, 200);
    item.append(title, text);
    return item;
  }

  Promise.all([load("lunr.js"), load("search_docs.js")]).then(function () {
    const pages = Object.fromEntries(searchDocs.map((page) => [page.location, page]));
    const index = lunr(function () {
      this.ref("location");
      this.field("title", { boost: 10 });
      this.field("text");
      searchDocs.forEach((page) => this.add(page));
    });
    const words = query.replace(/[^\w\s.-]/g, " ").split(/\s+/).filter(Boolean);
    const found = words.length
      ? index.query((q) => words.forEach((word) => {
          q.term(lunr.tokenizer(word), { boost: 10, presence: lunr.Query.presence.REQUIRED });
        }))
      : [];
    results.replaceChildren(...found.slice(0, 30).map((hit) => entry(pages[hit.ref])));
    if (!found.length) results.textContent = "Nothing was found.";
  });
})();
