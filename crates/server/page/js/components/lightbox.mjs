// One picture, large, with what is known of it and what can be done with it.

import { picture as fetchPicture } from '../api.mjs';
import { closeOutside, useModal } from '../dialog.mjs';
import { html, useEffect, useRef, useState } from '../html.mjs';
import { cosine, said } from '../likelihood.mjs';
import { asked, classified, open, replace } from '../picture.mjs';
import { go } from '../route.mjs';
import { swipes } from '../swipe.mjs';
import { t } from '../words.mjs';
import { Icon } from './icon.mjs';
import { nameOf, Thumbnail } from './thumbnail.mjs';

export function Lightbox({ pictures, at, onMove, onClose }) {
  const dialog = useModal(onClose);
  const picture = pictures[at];
  const whole = useWhole(picture.id);
  const touch = useRef(null);
  const move = (by) => onMove(Math.min(Math.max(at + by, 0), pictures.length - 1));
  const onKeyDown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.altKey || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    // The grid below must not move too.
    event.stopPropagation();
    move(by);
  };
  const take = async (slot, view) => {
    const taken = await open(whole.blob, nameOf(picture.path));
    dialog.current.addEventListener('close', () => {
      // Not on the picture, which may be far down in the new answer.
      document.getElementById('main').focus({ preventScroll: true });
      replace(slot, taken);
      go(view);
    }, { once: true });
    dialog.current.close();
  };
  return html`
    <dialog class="lightbox" ref=${dialog} aria-labelledby="lightbox-name" onClick=${closeOutside} onKeyDown=${onKeyDown}>
      <div class="stage" ...${swipes(touch, move)}>
        ${whole.url && !whole.broken
          ? html`<${Whole} key=${whole.url} src=${whole.url} alt=${nameOf(picture.path)} onError=${whole.fail} />`
          : html`<${Thumbnail} key=${picture.id} id=${picture.id} />`}
        <${Turn} name="left" label=${t('previous')} disabled=${at === 0} onClick=${() => move(-1)} />
        <${Turn} name="right" label=${t('next')} disabled=${at === pictures.length - 1} onClick=${() => move(1)} />
      </div>
      <div class="about">
        <div class="head">
          <p class="rank" aria-live="polite">${t('rank', at + 1, pictures.length)}<span class="unseen"> ${nameOf(picture.path)} ${said(picture)}</span></p>
          <button type="button" class="plain round" data-first aria-label=${t('close')} title=${t('close')} onClick=${() => dialog.current.close()}>
            <${Icon} name="close" />
          </button>
        </div>
        <h2 id="lightbox-name">${nameOf(picture.path)}</h2>
        <dl>
          ${said(picture) && html`<dt>${t('likelihood')}</dt><dd>${said(picture)}</dd>`}
          ${typeof picture.score === 'number' && html`<dt>${t('similarity')} <small>${t('cosine')}</small></dt><dd>${cosine(picture.score)}</dd>`}
          <dt>${t('file')}</dt><dd class="path">${picture.path}</dd>
        </dl>
        <div class="actions">
          <button type="button" disabled=${!whole.blob} onClick=${() => take(asked, 'search')}><${Icon} name="similar" />${t('similar')}</button>
          <button type="button" disabled=${!whole.blob} onClick=${() => take(classified, 'classify')}><${Icon} name="tag" />${t('classify_this')}</button>
          ${whole.url && html`<a class="button" href=${whole.url} download=${nameOf(picture.path)}><${Icon} name="download" />${t('download')}</a>`}
          <${Copy} text=${picture.path} />
        </div>
      </div>
    </dialog>`;
}

// At the end it keeps the focus, so that the arrow keys go on working.
function Turn({ name, label, disabled, onClick }) {
  return html`
    <button type="button" class=${`turn ${name}`} aria-label=${label} title=${label} aria-disabled=${disabled ? 'true' : undefined} onClick=${onClick}>
      <${Icon} name=${name} />
    </button>`;
}

function Copy({ text }) {
  const [done, say] = useState(false);
  useEffect(() => say(false), [text]);
  // Only a safe context has a clipboard.
  if (!navigator.clipboard) return null;
  const copy = () => navigator.clipboard.writeText(text).then(() => say(true), () => {});
  return html`<button type="button" onClick=${copy}><${Icon} name="copy" /><span aria-live="polite">${t(done ? 'copied' : 'copy_path')}</span></button>`;
}

/** How many times larger than it is a small picture is shown at most. */
const LARGER = 4;

function Whole(picture) {
  const [size, measure] = useState(null);
  const style = size && { maxWidth: `min(100%, ${LARGER * size.naturalWidth}px)`, maxHeight: `min(100%, ${LARGER * size.naturalHeight}px)` };
  return html`<img ...${picture} style=${style} onLoad=${(event) => measure(event.target)} />`;
}

/** The file of a picture; `broken` where the browser cannot show its kind. */
function useWhole(id) {
  const [whole, set] = useState({ id });
  const url = useRef(null);
  useEffect(() => {
    const abort = new AbortController();
    fetchPicture(id, abort.signal).then((blob) => {
      url.current = URL.createObjectURL(blob);
      set({ id, blob, url: url.current, fail: () => set({ id, blob, url: url.current, broken: true }) });
    }, () => {});
    return () => {
      abort.abort();
      if (url.current) URL.revokeObjectURL(url.current);
      url.current = null;
    };
  }, [id]);
  return whole.id === id ? whole : { id };
}
