// Asks for the API key.

import { closeOutside, useModal } from '../dialog.mjs';
import { html, useState } from '../html.mjs';
import { answer } from '../key.mjs';
import { t } from '../words.mjs';

/** What a header can carry. */
const PRINTABLE = /^[!-~]+$/;

export function KeyDialog({ refused }) {
  const dialog = useModal(() => answer(null));
  const [typed, type] = useState('');
  const [shown, show] = useState(false);
  const [odd, find] = useState(false);
  const bad = refused || odd;
  const submit = (event) => {
    event.preventDefault();
    const given = typed.trim();
    find(!PRINTABLE.test(given));
    if (PRINTABLE.test(given)) answer(given);
  };
  return html`
    <dialog class="ask" ref=${dialog} aria-labelledby="key-title" onClick=${closeOutside}>
      <form onSubmit=${submit}>
        <h2 id="key-title">${t('key_title')}</h2>
        <p>${t('key_lead')}</p>
        ${bad && html`<p class="bad" role="alert" id="key-refused">${t('key_refused')}</p>`}
        <label for="key-input">${t('key_label')}</label>
        <input id="key-input" type=${shown ? 'text' : 'password'} value=${typed} data-first autocomplete="off" spellcheck=${false}
          autocapitalize="off" aria-invalid=${bad ? 'true' : undefined} aria-describedby=${bad ? 'key-refused' : undefined}
          onInput=${(event) => type(event.target.value)} />
        <label class="check"><input type="checkbox" checked=${shown} onChange=${() => show(!shown)} />${t('key_show')}</label>
        <p class="row end">
          <button type="button" class="plain" onClick=${() => dialog.current.close()}>${t('key_cancel')}</button>
          <button type="submit" class="main" disabled=${!typed.trim()}>${t('key_use')}</button>
        </p>
      </form>
    </dialog>`;
}
