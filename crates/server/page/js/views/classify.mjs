// Zero-shot classification: a picture, labels in any language, and bars.

import * as api from '../api.mjs';
import { html, useEffect, useRef, useState } from '../html.mjs';
import { share } from '../likelihood.mjs';
import { classified, open, replace } from '../picture.mjs';
import { store } from '../store.mjs';
import { task } from '../task.mjs';
import { t } from '../words.mjs';
import { Icon } from '../components/icon.mjs';
import { ProblemCard } from '../components/problem.mjs';

const answer = task();
const written = store({ labels: '', templates: '' });

/** The lines of a text, each once. */
const lines = (text) => [...new Set(text.split('\n').map((line) => line.trim()).filter(Boolean))];

export function ClassifyView() {
  const picture = classified.use();
  const { labels, templates } = written.use();
  const [missing, miss] = useState('');
  const [unfolded] = useState(templates !== '');
  const { busy, value, problem } = answer.use();
  const write = (part) => { miss(''); written.set({ ...written.get(), ...part }); };

  const run = () => {
    const wanted = { labels: lines(labels), templates: lines(templates) };
    if (!picture) return miss('need_picture');
    if (wanted.labels.length === 0) return miss('need_labels');
    if (wanted.templates.some((template) => !template.includes('{}'))) return miss('templates_bad');
    miss('');
    const body = { image: picture.data, labels: wanted.labels, ...(wanted.templates.length > 0 ? { templates: wanted.templates } : {}) };
    return answer.run(JSON.stringify([picture.id, wanted]), (signal) => api.classify(body, signal));
  };
  // A new picture is looked at at once where there are labels to choose from.
  useEffect(() => { if (picture && lines(labels).length > 0) run(); }, [picture?.id]);

  const onKeyDown = (event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) run(); };
  return html`
    <div class="classify">
      <h1>${t('title_classify')}</h1>
      <p class="lead">${t('lead_classify')}</p>
      <div class="bench">
        <${Drop} picture=${picture} />
        <form onSubmit=${(event) => { event.preventDefault(); run(); }} onKeyDown=${onKeyDown}>
          <label for="labels">${t('labels')} <small>${t('labels_hint')}</small></label>
          <textarea id="labels" dir="auto" rows="6" value=${labels} placeholder=${t('labels_example')} spellcheck=${false}
            aria-invalid=${missing === 'need_labels' ? 'true' : undefined} onInput=${(event) => write({ labels: event.target.value })}></textarea>
          <details open=${unfolded}>
            <summary>${t('templates')}</summary>
            <label class="unseen" for="templates">${t('templates')}</label>
            <textarea id="templates" dir="auto" rows="3" value=${templates} placeholder="a photo of {}" spellcheck=${false}
              aria-describedby="templates-help" onInput=${(event) => write({ templates: event.target.value })}></textarea>
            <p class="soft" id="templates-help">${t('templates_hint')}</p>
          </details>
          <p class="row">
            <button type="submit" class="main" disabled=${busy}>${t('run_classify')}</button>
            <span class="bad" role="alert">${missing && t(missing)}</span>
          </p>
        </form>
        <section class="outcome" aria-label=${t('bars')} aria-busy=${busy ? 'true' : undefined}>
          <p class="unseen" role="status">${busy ? t('classifying') : value ? t('best_label', value.labels[0]?.label, share(value.labels[0]?.score ?? 0)) : ''}</p>
          ${problem && html`<${ProblemCard} problem=${problem} retry=${answer.again} />`}
          ${value ? html`<${Bars} labels=${value.labels} />` : !problem && html`<p class="soft empty">${busy ? t('classifying') : t('bars_empty')}</p>`}
        </section>
      </div>
    </div>`;
}

/** The picture, or the place for one. */
function Drop({ picture }) {
  const file = useRef(null);
  const choose = async (event) => {
    const [chosen] = event.target.files;
    if (chosen) replace(classified, await open(chosen));
    event.target.value = '';
  };
  return html`
    <div class=${`drop${picture ? ' full' : ''}`}>
      ${picture && html`<img src=${picture.url} alt=${picture.name || t('your_picture')} />`}
      ${!picture && html`<${Icon} name="picture" /><p>${t('drop_here')}</p>`}
      <button type="button" onClick=${() => file.current.click()}>${t(picture ? 'another_picture' : 'choose_picture')}</button>
      <input ref=${file} type="file" accept="image/*" hidden onChange=${choose} />
    </div>`;
}

function Bars({ labels }) {
  return html`
    <ol class="bars" role="list">
      ${labels.map(({ label, score }) => html`
        <li key=${label}>
          <span class="label" dir="auto">${label}</span>
          <span class="share">${share(score)}</span>
          <span class="bar" aria-hidden="true"><i style=${{ width: `${100 * score}%` }}></i></span>
        </li>`)}
    </ol>
    <p class="soft">${t('shares_help')}</p>`;
}
