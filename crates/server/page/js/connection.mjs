// Whether the server answers. Once it did not, it is asked until it does.

import { store } from './store.mjs';

const EVERY = 2000;

/** True until a request gets no answer; then false until `/livez` answers. */
export const online = store(true);

/** A request got no answer. */
export function lost() {
  if (!online.get()) return;
  online.set(false);
  setTimeout(look, EVERY);
}

async function look() {
  try {
    const response = await fetch('livez', { cache: 'no-store' });
    if (response.ok) return online.set(true);
  } catch { /* still gone */ }
  setTimeout(look, EVERY);
}
