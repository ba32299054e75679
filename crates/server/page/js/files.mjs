// Pictures from outside of the page: dropped anywhere, or pasted.

import { store } from './store.mjs';
import { fileOf, open, replace, asked, classified } from './picture.mjs';
import { go, route } from './route.mjs';

/** Whether a file is held over the page. */
export const hovering = store(false);

/** A picture for the view that is shown; views that take none hand it to the search. */
export async function take(blob, name) {
  const picture = await open(blob, name);
  if (route.get().view === 'classify') {
    replace(classified, picture);
  } else {
    replace(asked, picture);
    if (route.get().view !== 'search') go('search');
  }
}

/** Listens to drops and pastes on the whole page. */
export function listen() {
  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
  const over = (event) => { if (hasFiles(event)) event.preventDefault(); };
  const enter = (event) => { if (hasFiles(event)) { depth += 1; hovering.set(true); } };
  const leave = (event) => { if (hasFiles(event)) { depth = Math.max(0, depth - 1); hovering.set(depth > 0); } };
  const drop = (event) => {
    depth = 0;
    hovering.set(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    const file = fileOf(event.dataTransfer);
    if (file) take(file);
  };
  const paste = (event) => {
    const file = fileOf(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    take(file);
  };
  const all = { dragover: over, dragenter: enter, dragleave: leave, drop, paste };
  for (const [name, listener] of Object.entries(all)) document.addEventListener(name, listener);
  return () => { for (const [name, listener] of Object.entries(all)) document.removeEventListener(name, listener); };
}
