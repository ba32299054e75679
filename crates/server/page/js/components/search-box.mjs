// What is looked for: words, a picture or both; in a second language beside it where two are compared.

import { html, useEffect, useRef, useState } from '../html.mjs';
import { take } from '../files.mjs';
import { asked, replace } from '../picture.mjs';
import { t } from '../words.mjs';
import { Icon } from './icon.mjs';

/** `onSearch` gets the texts, the second one null where none is compared. */
export function SearchBox({ q, q2, comparing, compare, onSearch }) {
  const [first, setFirst] = useState(q);
  const [second, setSecond] = useState(q2);
  useEffect(() => setFirst(q), [q]);
  useEffect(() => setSecond(q2), [q2]);
  const submit = (event) => {
    event.preventDefault();
    onSearch(first.trim(), comparing ? second.trim() : null);
  };
  return html`
    <form class=${`searching${comparing ? ' two' : ''}`} role="search" onSubmit=${submit}>
      <div class="pill">
        <${PictureSlot} />
        <input id="q" type="search" name="q" dir="auto" value=${first} aria-label=${t('query')} placeholder=${t('query_hint')}
          autocomplete="off" autocapitalize="off" enterkeyhint="search" onInput=${(event) => setFirst(event.target.value)} onKeyDown=${intoResults} />
        ${!first && html`<kbd aria-hidden="true">/</kbd>`}
        ${!comparing && html`<${Submit} />`}
      </div>
      ${comparing && html`
        <div class="pill">
          <input type="search" name="q2" dir="auto" value=${second} aria-label=${t('query_other')} placeholder=${t('query_other_hint')}
            autocomplete="off" autocapitalize="off" enterkeyhint="search" onInput=${(event) => setSecond(event.target.value)} onKeyDown=${intoResults} />
          <${Submit} />
        </div>`}
      <button type="button" class="plain toggle" aria-pressed=${comparing ? 'true' : 'false'} title=${t('compare_on')} onClick=${() => compare(!comparing)}>
        <${Icon} name="columns" />${t('compare')}
      </button>
    </form>`;
}

const Submit = () => html`<button type="submit" class="main round" aria-label=${t('search')} title=${t('search')}><${Icon} name="search" /></button>`;

/** The picture of the query, or the button that takes one. */
function PictureSlot() {
  const picture = asked.use();
  const file = useRef(null);
  const choose = async (event) => {
    const [chosen] = event.target.files;
    if (chosen) await take(chosen);
    event.target.value = '';
  };
  if (picture) {
    return html`
      <span class="slot">
        <img src=${picture.url} alt=${picture.name || t('your_picture')} />
        <button type="button" aria-label=${t('remove_picture')} title=${t('remove_picture')} onClick=${() => replace(asked, null)}><${Icon} name="close" /></button>
      </span>`;
  }
  return html`
    <button type="button" class="plain round" aria-label=${t('add_picture')} title=${t('add_picture')} onClick=${() => file.current.click()}><${Icon} name="picture" /></button>
    <input ref=${file} type="file" accept="image/*" hidden onChange=${choose} />`;
}

/** From the words down into the pictures. */
function intoResults(event) {
  if (event.key !== 'ArrowDown') return;
  const tile = document.querySelector('.gallery button[tabindex="0"]');
  if (!tile) return;
  event.preventDefault();
  tile.focus();
}
