// `/` leads to the words from everywhere on the page.

import { go, route } from './route.mjs';

/** Listens to the key. */
export function listen() {
  document.addEventListener('keydown', onKey);
  return () => document.removeEventListener('keydown', onKey);
}

function onKey(event) {
  const writing = event.target.closest?.('input:not([type="range"], [type="checkbox"]), textarea, dialog');
  if (event.key !== '/' || writing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (route.get().view !== 'search') go('search');
  focusWords();
}

/** The field may be drawn a little later. */
function focusWords() {
  const words = document.getElementById('q');
  if (!words) return requestAnimationFrame(focusWords);
  words.focus();
  return words.select();
}
