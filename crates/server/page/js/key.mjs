// The API key: kept for this tab, asked for once when a route wants it.

import { store } from './store.mjs';

const NAME = 'altclip.key';

/** `asked`: null, or `{ refused }` while the dialog is open; `refused` where a key was not accepted. */
export const asked = store(null);
export const key = store(sessionStorage.getItem(NAME));

let waiting = null;

/** Asks for a key; all who ask meanwhile get the same. Null where the person declines. */
export function askForKey(refused) {
  if (!waiting) {
    let resolve;
    const promise = new Promise((done) => { resolve = done; });
    waiting = { promise, resolve };
    asked.set({ refused });
  }
  return waiting.promise;
}

/** What the dialog answers. */
export function answer(given) {
  if (given) remember(given);
  asked.set(null);
  waiting?.resolve(given);
  waiting = null;
}

function remember(given) {
  sessionStorage.setItem(NAME, given);
  key.set(given);
}

export function forget() {
  sessionStorage.removeItem(NAME);
  key.set(null);
}
