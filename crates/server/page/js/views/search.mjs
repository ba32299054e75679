// Searching: a question, and its answer with how likely it is; or two questions and what they share.

import * as api from '../api.mjs';
import { html, useEffect, useRef, useState } from '../html.mjs';
import { asked } from '../picture.mjs';
import { go } from '../route.mjs';
import { server } from '../server.mjs';
import { store } from '../store.mjs';
import { task } from '../task.mjs';
import { t } from '../words.mjs';
import { Answer } from '../components/answer.mjs';
import { Comparison } from '../components/comparison.mjs';
import { Gallery } from '../components/gallery.mjs';
import { NoIndex } from '../components/no-index.mjs';
import { SearchBox } from '../components/search-box.mjs';

/** Pictures at first, and how many more each time. */
const STEP = { one: 24, two: 12 };

/** Pictures that are shown before anything is asked. */
const RECENT = 24;

const first = task();
const second = task();
const recent = task();
const scores = store(false);

export function SearchView({ params }) {
  const { q = '', q2 = '', k } = params;
  const picture = asked.use();
  const [comparing, compare] = useState(q2 !== '');
  const showing = scores.use();
  const step = comparing ? STEP.two : STEP.one;
  const top = Number(k) || step;
  const about = server.use().value;
  useEffect(() => { if (q2) compare(true); }, [q2]);

  useEffect(() => {
    ask(first, q, picture, top);
    if (comparing) ask(second, q2, q2 ? picture : null, top);
    else second.clear();
  }, [q, q2, picture?.id, top, comparing]);

  useFromTheTop(JSON.stringify([q, q2, picture?.id]));

  const onSearch = (text, other) => {
    const same = text === q && (other ?? '') === q2;
    if (!same) return go('search', { q: text, q2: other });
    first.again();
    second.again();
  };
  const onCompare = (next) => {
    compare(next);
    if (!next && q2) go('search', { q });
    else if (k) go('search', { q, q2 }, { replace: true });
  };
  const more = () => go('search', { q, q2, k: top + step }, { replace: true });
  const asking = q !== '' || picture !== null || (comparing && q2 !== '');

  return html`
    <div class=${asking ? 'search asked' : 'search'}>
      <h1 class=${asking ? 'unseen' : undefined}>${t('title_search')}</h1>
      ${!asking && html`<p class="lead">${t('lead_search')}</p>`}
      <${SearchBox} q=${q} q2=${q2} comparing=${comparing} compare=${onCompare} onSearch=${onSearch} />
      ${about?.index === false && html`<${NoIndex} />`}
      ${!asking && html`<${Examples} />`}
      ${!asking && about?.index && html`<${Recent} />`}
      ${asking && (comparing
        ? html`<${Comparison} first=${first} second=${second} queries=${[q, q2]} scores=${showing} onScores=${scores.set} more=${more} top=${top} />`
        : html`<${Answer} task=${first} query=${q} scores=${showing} onScores=${scores.set} more=${more} top=${top} />`)}
    </div>`;
}

function ask(task, query, picture, top) {
  if (!query && !picture) return task.clear();
  const body = { top_k: top, ...(query ? { query } : {}), ...(picture ? { image: picture.data } : {}) };
  return task.run(JSON.stringify([query, picture?.id ?? null, top]), async (signal) => {
    const start = performance.now();
    const answer = await api.search(body, signal);
    return { ...answer, ms: Math.round(performance.now() - start), top };
  });
}

/** A new answer is read from its start. */
function useFromTheTop(question) {
  const last = useRef(question);
  useEffect(() => {
    if (last.current === question) return;
    last.current = question;
    scrollTo(0, 0);
  }, [question]);
}

/** The newest pictures of the index; nothing where they cannot be had. */
function Recent() {
  const { value } = recent.use();
  useEffect(() => { recent.run(performance.now(), (signal) => api.recentPictures(RECENT, signal)); }, []);
  return html`
    <section class="recent" aria-label=${t('recent')}>
      ${value?.pictures.length > 0 && html`<${Gallery} groups=${[{ name: 'wall', pictures: value.pictures }]} label=${t('recent')} />`}
    </section>`;
}

function Examples() {
  return html`
    <div class="examples">
      <h2 class="unseen">${t('try_this')}</h2>
      <ul role="list">
        ${t('examples').map((text) => html`<li key=${text}><button type="button" class="chip" onClick=${() => go('search', { q: text })}>${text}</button></li>`)}
      </ul>
      <p class="soft">${t('or_drop')}</p>
    </div>`;
}
