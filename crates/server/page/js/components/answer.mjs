// The answer to one question: the pictures, or that nothing matches; and what is not known.

import { html } from '../html.mjs';
import { MATCHES } from '../likelihood.mjs';
import { t } from '../words.mjs';
import { Gallery } from './gallery.mjs';
import { Notice, ProblemCard } from './problem.mjs';

const MOST = 480;

/** Matches and the rest apart where probabilities are known; all together where not. */
function groupsOf({ matches, no_match: none, uncalibrated }) {
  if (uncalibrated || none) return [{ name: 'all', pictures: matches }];
  const likely = matches.filter(({ p_match: p }) => p >= MATCHES);
  const rest = matches.filter(({ p_match: p }) => !(p >= MATCHES));
  return [
    { name: 'likely', pictures: likely },
    { name: 'rest', heading: t('group_rest'), pictures: rest, faint: true },
  ];
}

/** What is said aloud, and stands above the pictures. Without `ms` no time is said. */
export function summary({ matches, no_match: none, uncalibrated }, ms) {
  if (none) return t(matches.length === 0 ? 'nothing_found' : 'nothing_matches');
  if (uncalibrated) return t('found', matches.length, ms);
  return t('found_matches', matches.filter(({ p_match: p }) => p >= MATCHES).length, ms);
}

export function Answer({ task, query, scores, onScores, more, top }) {
  const { busy, value, problem } = task.use();
  return html`
    <section class="answer" aria-label=${t('results')} aria-busy=${busy ? 'true' : undefined}>
      <div class=${problem ? 'line done' : 'line'}>
        <p role="status" class=${value?.no_match ? 'unseen' : undefined}>${busy && !value ? t('searching') : value ? summary(value, value.ms) : ''}</p>
        ${value && html`<${Scores} on=${scores} set=${onScores} />`}
      </div>
      ${problem && html`<${ProblemCard} problem=${problem} retry=${task.again} />`}
      ${busy && !value && html`<${Waiting} />`}
      ${value && html`
        <${Notices} value=${value} />
        <${Gallery} groups=${groupsOf(value)} label=${t('results_of', query || t('pictured'))} scores=${scores} />
        ${value.matches.length >= value.top && top < MOST && html`
          <p class="row middle"><button type="button" disabled=${busy} onClick=${more}>${t('more')}</button></p>`}`}
    </section>`;
}

/** Nothing matches; nothing is known. */
function Notices({ value: { matches, no_match: none, uncalibrated } }) {
  const reason = reasonOf(uncalibrated);
  return html`
    ${none && html`<${Notice} strong icon="none" title=${t('nothing_matches')}><p>${t(matches.length === 0 ? 'nothing_found' : 'nearest')}</p></${Notice}>`}
    ${uncalibrated && html`<${Notice} quiet title=${t('uncalibrated')}>
      <p lang=${reason === uncalibrated ? 'en' : undefined}>${reason}</p>
      <p>${t('uncalibrated_more')}</p></${Notice}>`}`;
}

/** Why nothing is known, in the reader's language where that is known. */
export const reasonOf = (uncalibrated) => t('reasons')[uncalibrated] ?? uncalibrated;

export function Scores({ on, set }) {
  return html`<label class="check"><input type="checkbox" checked=${on} onChange=${() => set(!on)} />${t('show_scores')}</label>`;
}

/** Squares where the pictures will be. */
export function Waiting({ count = 8 }) {
  return html`
    <ul class="gallery waiting" aria-hidden="true">
      ${Array.from({ length: count }, (_, index) => html`<li key=${index} class="tile"><span class="thumbnail waiting"></span></li>`)}
    </ul>`;
}
