// The words of the interface, in the reader's language: the one chosen before, else the browser's.

import { store } from './store.mjs';
import en from './words-en.mjs';
import zh from './words-zh.mjs';

const NAME = 'altclip.language';
export const TABLES = { en, zh };

/** The language among `TABLES` that a person prefers. */
export function preferred(remembered, languages) {
  const known = [remembered, ...languages].map((tag) => String(tag ?? '').toLowerCase().split('-')[0]);
  return known.find((language) => language in TABLES) ?? 'en';
}

const remembered = globalThis.localStorage?.getItem(NAME);
export const language = store(preferred(remembered, globalThis.navigator?.languages ?? []));

/** The tag for numbers and for the document. */
export const locale = () => (language.get() === 'zh' ? 'zh-CN' : 'en');

/** A text of the interface; what depends on values is a function of them. */
export function t(name, ...values) {
  const text = TABLES[language.get()][name];
  return typeof text === 'function' ? text(...values) : text;
}

/** Takes the other language, and remembers it. */
export function choose(next) {
  globalThis.localStorage?.setItem(NAME, next);
  language.set(next);
}
