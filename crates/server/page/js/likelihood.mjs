// How a probability and a cosine are said to people.

import { locale, t } from './words.mjs';

/** Above it a picture is more probably a match than not: the server's own bound. */
export const MATCHES = 0.5;

/** Shares beyond these are not told apart. */
const LEAST = 0.001;
const MOST = 0.99;

const LEVELS = [[0.9, 'sure'], [0.7, 'likely'], [MATCHES, 'perhaps'], [0.2, 'unlikely'], [0, 'hardly']];

/** The level of a probability. */
export function level(p) {
  return LEVELS.find(([least]) => p >= least)?.[1] ?? 'hardly';
}

/** `97 %`; never 100 % or 0 %, which nobody can know. */
export function percent(p) {
  return part(Math.min(Math.max(p, 0.01), 0.99));
}

/** A share of a whole, with a tenth where it is small; next to nothing and nearly all are said as such. */
export function share(x) {
  if (x < LEAST) return `<${share(LEAST)}`;
  if (x > MOST) return `>${share(MOST)}`;
  const digits = x < 0.0995 ? 1 : 0;
  return new Intl.NumberFormat(locale(), { style: 'percent', minimumFractionDigits: digits, maximumFractionDigits: digits }).format(x);
}

/** A part of things that were counted. */
export const part = (x) => new Intl.NumberFormat(locale(), { style: 'percent' }).format(x);

/** A cosine. */
export const cosine = (score) => new Intl.NumberFormat(locale(), { minimumFractionDigits: 3, maximumFractionDigits: 3 }).format(score);

/** A number of things. */
export const number = (n) => new Intl.NumberFormat(locale()).format(n);

/** `97 % very likely`, where a probability is known. */
export const said = (match) =>
  typeof match.p_match === 'number' ? `${percent(match.p_match)} ${t(level(match.p_match))}` : '';
