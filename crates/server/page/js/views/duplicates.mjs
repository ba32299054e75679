// Pictures of the index that show nearly the same, group by group.

import * as api from '../api.mjs';
import { html, useEffect, useState } from '../html.mjs';
import { number } from '../likelihood.mjs';
import { go } from '../route.mjs';
import { server } from '../server.mjs';
import { task } from '../task.mjs';
import { t } from '../words.mjs';
import { Waiting } from '../components/answer.mjs';
import { Gallery } from '../components/gallery.mjs';
import { NoIndex } from '../components/no-index.mjs';
import { Notice, ProblemCard } from '../components/problem.mjs';

const RANGE = { least: 0.9, most: 0.995, step: 0.005, usual: 0.97 };
/** Groups at first, and how many more each time. */
const PAGE = 20;
const PAUSE = 250;

const found = task();

export function DuplicatesView({ params }) {
  const threshold = Math.min(Math.max(Number(params.at) || RANGE.usual, RANGE.least), RANGE.most);
  const [wanted, want] = useState(threshold);
  const [shown, show] = useState(PAGE);
  const about = server.use().value;
  const { busy, value, problem } = found.use();

  useEffect(() => { found.run(`at ${threshold}`, (signal) => api.duplicates(threshold, signal)); show(PAGE); }, [threshold]);
  useEffect(() => {
    const timer = setTimeout(() => { if (wanted !== threshold) go('duplicates', { at: wanted }, { replace: true }); }, PAUSE);
    return () => clearTimeout(timer);
  }, [wanted]);

  if (about?.index === false) return html`<h1>${t('title_duplicates')}</h1><${NoIndex} />`;
  const groups = value?.groups ?? [];
  const count = groups.reduce((sum, group) => sum + group.length, 0);
  return html`
    <div class="duplicates">
      <h1>${t('title_duplicates')}</h1>
      <p class="lead">${t('lead_duplicates')}</p>
      <div class="slider">
        <label for="threshold">${t('threshold')}</label>
        <output for="threshold">${wanted.toFixed(3)}</output>
        <span class="soft" aria-hidden="true">${t('threshold_loose')}</span>
        <input id="threshold" type="range" min=${RANGE.least} max=${RANGE.most} step=${RANGE.step} value=${wanted}
          aria-valuetext=${`${t('cosine')} ${number(wanted)}`} onInput=${(event) => want(Number(event.target.value))} />
        <span class="soft" aria-hidden="true">${t('threshold_strict')}</span>
      </div>
      <section aria-label=${t('results')} aria-busy=${busy ? 'true' : undefined}>
        <p class="line" role="status">${busy && !value ? t('finding') : value && groups.length > 0 ? t('groups_found', groups.length, count) : ''}</p>
        ${problem && html`<${ProblemCard} problem=${problem} retry=${found.again} />`}
        ${busy && !value && html`<${Waiting} />`}
        ${value && groups.length === 0 && html`<${Notice} strong icon="copies" title=${t('no_duplicates')}><p>${t('no_duplicates_more')}</p></${Notice}>`}
        ${groups.slice(0, shown).map((group, index) => html`
          <section key=${group.map(({ id }) => id).join()} class="alike">
            <h2>${t('group', index + 1, group.length)}</h2>
            <${Gallery} groups=${[{ name: 'all', pictures: group }]} paths label=${t('group', index + 1, group.length)} />
          </section>`)}
        ${groups.length > shown && html`<p class="row middle"><button type="button" onClick=${() => show(shown + PAGE)}>${t('more_groups')}</button></p>`}
      </section>
    </div>`;
}
