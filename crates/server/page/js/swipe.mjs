// A finger that goes to the side.

/** Pixels that a swipe is long at least, and how much longer to the side than up or down. */
const LONG = 48;
const FLAT = 1.5;

/** Handlers of an element; `move` gets 1 for a swipe to the left, which leads on, and -1 for one to the right. */
export function swipes(start, move) {
  return {
    onTouchStart: ({ touches }) => { start.current = touches.length === 1 ? touches[0] : null; },
    onTouchEnd: ({ changedTouches: [end] }) => {
      const begun = start.current;
      start.current = null;
      if (!begun) return;
      const [x, y] = [end.clientX - begun.clientX, end.clientY - begun.clientY];
      if (Math.abs(x) >= LONG && Math.abs(x) >= FLAT * Math.abs(y)) move(x < 0 ? 1 : -1);
    },
  };
}
