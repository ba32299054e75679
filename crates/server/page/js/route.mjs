// The address says what is shown: `#/search?q=cat&q2=猫`. Reloading, sharing and going back work by it.

import { store } from './store.mjs';

export const VIEWS = ['search', 'classify', 'duplicates', 'index'];

/** View and parameters of an address; what is unknown is the search. */
export function parse(hash) {
  const [path, query = ''] = hash.replace(/^#?\/?/, '').split('?', 2);
  const view = VIEWS.includes(path) ? path : 'search';
  return { view, params: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a view; empty parameters are left out. */
export function address(view, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== '' && value !== undefined && value !== null);
  const query = new URLSearchParams(given).toString();
  return `#/${view}${query ? `?${query}` : ''}`;
}

const here = typeof location === 'undefined' ? '' : location.hash;
export const route = store(parse(here));

/** Goes to a view; `replace` leaves no step behind. */
export function go(view, params, { replace = false } = {}) {
  const to = address(view, params);
  if (replace) {
    history.replaceState(null, '', to);
    route.set(parse(to));
  } else if (location.hash !== to) {
    location.hash = to;
  }
}

/** Follows the browser's address. */
export function follow() {
  addEventListener('hashchange', () => route.set(parse(location.hash)));
}
