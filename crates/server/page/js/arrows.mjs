// Where an arrow key leads in a grid whose columns depend on its width.

/** The index that `key` leads to from `from` among boxes `{ left, top, width }` in order; `from` at the edge. */
export function step(boxes, from, key) {
  const last = boxes.length - 1;
  switch (key) {
    case 'ArrowRight': return Math.min(from + 1, last);
    case 'ArrowLeft': return Math.max(from - 1, 0);
    case 'Home': return 0;
    case 'End': return last;
    case 'ArrowDown': return nearest(boxes, from, (box, here) => box.top - here.top);
    case 'ArrowUp': return nearest(boxes, from, (box, here) => here.top - box.top);
    default: return null;
  }
}

/** The box of the next row in a direction that is most nearly in the same column. */
function nearest(boxes, from, ahead) {
  const here = boxes[from];
  const middle = (box) => box.left + box.width / 2;
  let best = from;
  let cost = Infinity;
  boxes.forEach((box, index) => {
    const rows = ahead(box, here);
    if (rows <= 1) return;
    // A row further away never wins over a nearer one.
    const price = rows * 1e4 + Math.abs(middle(box) - middle(here));
    if (price < cost) [best, cost] = [index, price];
  });
  return best;
}
