for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], given = [...body.rows];
  const key = cell => {
    const text = cell.dataset.key ?? cell.textContent.trim(), found = text.replace("\u2212", "-").match(/^[-+]?\d[\d\u2009]*\.?\d*(e[-+]?\d+)?/);
    return text === "" ? null : found ? Number(found[0].replace(/\u2009/g, "")) : text;
  };
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort"), first = head.classList.contains("number") ? "descending" : "ascending";
      const next = !now ? first : now === first ? (first === "ascending" ? "descending" : "ascending") : null;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      const rows = [...given];
      if (next) {
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        rows.sort((one, other) => {
          const a = key(one.cells[column]), b = key(other.cells[column]);
          if (a === null || b === null) return (a === null) - (b === null);
          if (typeof a === "number" && typeof b === "number") return sign * (a - b);
          return sign * String(a).localeCompare(String(b), undefined, {numeric: true});
        });
      }
      body.append(...rows);
    });
  });
}
