// One query in two languages, side by side: what both find is marked, and how much that is.

import { html, useState } from '../html.mjs';
import { part } from '../likelihood.mjs';
import { overlap } from '../overlap.mjs';
import { t } from '../words.mjs';
import { reasonOf, Scores, summary, Waiting } from './answer.mjs';
import { Gallery } from './gallery.mjs';
import { ProblemCard } from './problem.mjs';

export function Comparison({ first, second, queries, scores, onScores, more, top }) {
  const [a, b] = [first.use(), second.use()];
  const [lit, light] = useState(null);
  const both = a.value && b.value ? overlap(a.value.matches, b.value.matches) : null;
  const full = [a, b].some(({ value }) => value && value.matches.length >= value.top);
  return html`
    <section class="comparison" aria-label=${t('results')} aria-busy=${a.busy || b.busy ? 'true' : undefined}>
      <div class="line">
        <div role="status" class="overlap">${both && html`<${Overlap} both=${both} />`}</div>
        ${(a.value || b.value) && html`<${Scores} on=${scores} set=${onScores} />`}
      </div>
      <div class="sides">
        <${Side} side=${first} state=${a} query=${queries[0]} shared=${both?.left} scores=${scores} lit=${lit} light=${light} />
        <${Side} side=${second} state=${b} query=${queries[1]} shared=${both?.right} scores=${scores} lit=${lit} light=${light} />
      </div>
      ${full && html`<p class="row middle"><button type="button" disabled=${a.busy || b.busy} onClick=${more}>${t('more')}</button></p>`}
    </section>`;
}

function Overlap({ both }) {
  return html`
    <p><b>${t('overlap', both.shared, both.k)}</b> <span class="soft">${t('overlap_at', both.k)} ${part(both.share)}</span></p>
    <p class="soft">${t('overlap_help')}</p>`;
}

function Side({ side, state, query, shared, scores, lit, light }) {
  const { busy, value, problem } = state;
  return html`
    <div class="side">
      <div>
        <h2 dir="auto">${query || '…'}</h2>
        <p class="soft">${value ? summary(value) : busy ? t('searching') : ''}</p>
        ${value?.uncalibrated && html`<p class="soft">${t('uncalibrated_short', reasonOf(value.uncalibrated))}</p>`}
      </div>
      <div>
        ${problem && html`<${ProblemCard} problem=${problem} retry=${side.again} />`}
        ${busy && !value && html`<${Waiting} count=${4} />`}
        ${value && html`
          <${Gallery} groups=${[{ name: 'all', pictures: value.matches }]} label=${t('results_of', query)} scores=${scores} shared=${shared} lit=${lit} light=${light} />`}
      </div>
    </div>`;
}
