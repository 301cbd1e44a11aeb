// Everything can be read without this: it adds enlarging of pictures and sorting of tables.
"use strict";

const dialog = document.querySelector("dialog");
const large = dialog.querySelector("img");

function enlarge(image) {
  dialog.querySelector("h2").textContent = image.alt;
  const room = Math.min((innerWidth - 60) / image.naturalWidth, (innerHeight - 150) / image.naturalHeight);
  // a whole factor, or pixels would not be square
  large.width = image.naturalWidth * Math.max(1, Math.floor(room));
  large.src = image.src;
  large.alt = image.alt;
  dialog.showModal();
}

for (const image of document.querySelectorAll(".shot img")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "zoom";
  button.setAttribute("aria-label", `Enlarge: ${image.alt}`);
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    enlarge(image);
    // by hand, for a click gives a button no focus in Safari
    dialog.addEventListener("close", () => button.focus(), { once: true });
  });
}
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

function compare(a, b, column, sign) {
  const [x, y] = [a, b].map((row) => row.cells[column]);
  if (x.matches("th, .text")) return sign * x.textContent.localeCompare(y.textContent);
  const [p, q] = [x, y].map((cell) => cell.dataset.value);
  // what has no value stays last, whichever way the rest is sorted
  if (p === undefined || q === undefined) return (p === undefined) - (q === undefined);
  return sign * (p - q);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(a, b, column, up ? 1 : -1));
      table.tBodies[0].append(...rows);
    });
  });
}
