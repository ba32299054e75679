// A value outside of components that draws again whoever uses it.

import { useEffect, useState } from './html.mjs';

/** A store: `get`, `set`, and `use` inside of components. */
export function store(value) {
  const listeners = new Set();
  const get = () => value;
  const set = (next) => {
    if (Object.is(next, value)) return;
    value = next;
    for (const listener of [...listeners]) listener();
  };
  const subscribe = (listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  const use = () => {
    const [seen, see] = useState(value);
    useEffect(() => {
      const look = () => see(value);
      look();
      return subscribe(look);
    }, []);
    // A change between the drawing and the subscription is seen at once.
    return Object.is(seen, value) ? seen : value;
  };
  return { get, set, subscribe, use };
}
