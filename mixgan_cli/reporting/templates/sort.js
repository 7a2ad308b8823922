// Sort a table by the column whose heading is pressed: numbers by size, then text, missing values last.
const number = (text) => (/^[-+]?[\d.]/.test(text) ? parseFloat(text) : NaN);

function compare(first, second) {
  const [one, other] = [number(first), number(second)];
  if (isNaN(one) !== isNaN(other)) return isNaN(one) ? 1 : -1;
  return isNaN(one) ? first.localeCompare(second) : one - other;
}

document.addEventListener("click", (event) => {
  const heading = event.target.closest("th.sort");
  if (!heading) return;
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const body = heading.closest("table").tBodies[0];
  const text = (row) => row.cells[heading.cellIndex].innerText.trim();
  const missing = (row) => text(row) === "–";
  const rows = [...body.rows].sort(
    (a, b) => missing(a) - missing(b) || (descending ? -1 : 1) * compare(text(a), text(b)),
  );
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...rows);
});
