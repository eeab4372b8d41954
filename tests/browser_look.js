// What is looked at in a page: it is called with the document and the width of its frame, and gives an object.
// Boxes are measured as drawn: an element within a part that scrolls or is cut is not wider than the page.
function look(page, frame) {
  const view = page.defaultView, root = page.documentElement, room = root.clientWidth;
  const name = one => one.tagName + "." + (one.getAttribute("class") ?? "") + " " + one.textContent.trim().slice(0, 40);
  const wide = [], faint = [], unnamed = [], seen = new Set();
  const rgba = text => { const n = (text.match(/[\d.]+/g) ?? []).map(Number); return n.length < 3 ? null : [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
  const behind = one => {
    const layers = [];
    for (let up = one; up; up = up.parentElement) { const c = rgba(view.getComputedStyle(up).backgroundColor); if (c && c[3] > 0) layers.push(c); if (c && c[3] === 1) break; }
    return layers.reverse().reduce((under, top) => over(top, under), dark ? [18, 18, 18, 1] : [255, 255, 255, 1]);
  };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const scrolls = one => { for (let up = one.parentElement; up && up !== page.body; up = up.parentElement) { if (view.getComputedStyle(up).overflowX !== "visible" && !up.closest("svg")) return true; } return false; };
  for (const one of page.body.querySelectorAll("*")) {
    const box = one.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    const style = view.getComputedStyle(one);
    if (style.visibility === "hidden" || style.opacity === "0") continue;
    const drawn = one.closest("svg") !== null && one.tagName !== "svg";
    if ((box.right > room + 1 || box.left < -1) && !(drawn && one.tagName !== "text") && !scrolls(one)) wide.push(name(one) + " " + Math.round(box.left) + ".." + Math.round(box.right));
    if (one.classList.contains("scroll") && one.scrollWidth > one.clientWidth + 1) wide.push("scrolls: " + name(one));
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    const ink = rgba(drawn ? style.fill : style.color);
    if (!ink) continue;
    const paper = behind(one), found = contrast(over(ink, paper), paper);
    const key = ink + "/" + paper;
    if (found < 4.5 && !seen.has(key)) { seen.add(key); faint.push(found.toFixed(2) + " " + key + " " + name(one)); }
    if (drawn && frame <= 400 && one.tagName === "text") {
      const size = parseFloat(style.fontSize) * one.ownerSVGElement.getScreenCTM().a;
      if (size < 7.5) faint.push("text of " + size.toFixed(1) + " px: " + name(one));
    }
  }
  for (const image of page.images) { if (!image.alt.trim()) unnamed.push("img"); if (!image.naturalWidth) unnamed.push("not loaded: " + image.alt); }
  for (const svg of page.querySelectorAll("svg")) if (!svg.getAttribute("aria-label")?.trim()) unnamed.push("svg");
  const loaded = view.performance.getEntriesByType("resource").map(entry => entry.name).filter(at => !at.startsWith("data:"));
  const ids = [...page.querySelectorAll("[id]")].map(one => one.id);
  const twice = ids.filter((id, place) => ids.indexOf(id) !== place);
  return {wide, faint, unnamed, loaded, twice, dark, page: root.scrollWidth - room, images: page.images.length, tall: root.scrollHeight};
}
