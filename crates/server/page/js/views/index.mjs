// The index: what is in it, and its update as it goes on.

import * as api from '../api.mjs';
import { html, useEffect, useState } from '../html.mjs';
import { number } from '../likelihood.mjs';
import { server } from '../server.mjs';
import { task } from '../task.mjs';
import { language, t } from '../words.mjs';
import { Icon } from '../components/icon.mjs';
import { NoIndex } from '../components/no-index.mjs';
import { Notice, ProblemCard } from '../components/problem.mjs';
import { Progress } from '../components/progress.mjs';

const EVERY = 1000;

const status = task();
let looks = 0;
const look = () => status.run(looks += 1, api.indexStatus);

export function IndexView() {
  const about = server.use().value;
  const { value, problem } = status.use();
  const [refusal, refuse] = useState(null);
  const [ran, run] = useState(false);
  const updating = value?.updating ?? null;

  useEffect(() => { look(); }, []);
  useEffect(() => {
    if (!updating) return undefined;
    const timer = setTimeout(look, EVERY);
    return () => clearTimeout(timer);
  }, [value]);

  const update = async () => {
    run(false);
    refuse(null);
    try {
      await api.updateIndex();
    } catch (error) {
      // One that runs already is as good.
      if (error.status !== 409) return refuse(error);
    }
    await look();
    return run(true);
  };

  if (about?.index === false) return html`<h1>${t('title_index')}</h1><${NoIndex} /><${About} about=${about} />`;
  return html`
    <div class="library">
      <h1>${t('title_index')}</h1>
      <p class="lead">${t('lead_index')}</p>
      ${problem && html`<${ProblemCard} problem=${problem} retry=${look} />`}
      <dl class="figures">
        <${Figure} name=${t('images')} value=${value ? number(value.images) : '–'} large />
        <${Figure} name=${t('model')} value=${value?.model ?? about?.model_id ?? '–'} />
        ${about?.languages?.length > 0 && html`<${Figure} name=${t('languages')} value=${languages(about.languages)} />`}
      </dl>
      <section class="update" aria-label=${t('update')}>
        ${updating
          ? html`<${Progress} ...${updating} />`
          : html`<p class="row"><button type="button" class="main" disabled=${!value} onClick=${update}><${Icon} name="refresh" />${t('update')}</button>
              <span class="good" role="status">${ran && !value?.last_error ? t('updated') : ''}</span></p>
            <p class="soft">${t('update_help')}</p>`}
        ${refusal && html`<${ProblemCard} problem=${refusal} retry=${update} />`}
        ${!updating && value?.last_error && html`<${LastError} error=${value.last_error} />`}
      </section>
      <${About} about=${about} index=${value} />
    </div>`;
}

function Figure({ name, value, large = false }) {
  return html`<div class=${large ? 'large' : undefined}><dt>${name}</dt><dd>${value}</dd></div>`;
}

/** The names of the model's languages, in the reader's own. */
function languages(tags) {
  const names = new Intl.DisplayNames([language.get()], { type: 'language' });
  const named = (tag) => { try { return names.of(tag) ?? tag; } catch { return tag; } };
  return new Intl.ListFormat(language.get(), { type: 'conjunction' }).format(tags.map(named));
}

function LastError({ error }) {
  return html`
    <${Notice} icon="alert" title=${t('update_failed')}>
      <p lang="en">${[error.title, error.detail].filter(Boolean).join(': ')}</p>
      ${error.help && html`<p lang="en">${error.help}</p>`}
    </${Notice}>`;
}

/** What only some want to know. */
function About({ about, index }) {
  if (!about) return null;
  return html`
    <details class="limits">
      <summary>${t('limits')}</summary>
      <dl>
        ${index?.path && html`<dt>${t('path')}</dt><dd class="path">${index.path}</dd>`}
        ${index?.fingerprint && html`<dt>${t('fingerprint')} <small>${t('fingerprint_help')}</small></dt><dd class="path">${index.fingerprint}</dd>`}
        ${about.max_input_length && html`<dt>${t('max_length')}</dt><dd>${t('tokens', about.max_input_length)}</dd>`}
        ${about.max_client_batch_size && html`<dt>${t('max_batch')}</dt><dd>${number(about.max_client_batch_size)}</dd>`}
      </dl>
    </details>`;
}
