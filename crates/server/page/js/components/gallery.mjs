// A grid of pictures: arrow keys move, Enter opens, and one opened picture leads to the next.

import { step } from '../arrows.mjs';
import { html, useEffect, useId, useRef, useState } from '../html.mjs';
import { t } from '../words.mjs';
import { Lightbox } from './lightbox.mjs';
import { Tile } from './tile.mjs';

/**
 * `groups` are `{ name, heading, faint, pictures }`, shown one below the other. `shared` gives for the id of a
 * picture its rank in another gallery; `paths` shows where the files lie; `lit` and `light` are the id that is pointed at, in both.
 */
export function Gallery({ groups, label, scores = false, paths = false, shared, lit, light }) {
  const pictures = groups.flatMap((group) => group.pictures);
  const identity = pictures.map(({ id }) => id).join();
  const [active, activate] = useState(0);
  const [opened, open] = useState(null);
  const place = useRef(null);
  const help = useId();
  const buttons = () => [...place.current.querySelectorAll('.tile > button')];
  useEffect(() => { activate(0); open(null); }, [identity]);

  const focus = (index) => { activate(index); buttons()[index]?.focus(); };
  const close = () => {
    const { activeElement } = document;
    const elsewhere = activeElement !== document.body && !place.current.contains(activeElement);
    open(null);
    // The picture that was seen last; but a person who is somewhere else already stays there.
    if (!elsewhere) focus(opened);
  };
  const onKeyDown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const all = buttons();
    const from = all.indexOf(event.target);
    if (from < 0) return;
    const to = step(all.map((button) => button.getBoundingClientRect()), from, event.key);
    if (to === null) return;
    event.preventDefault();
    focus(to);
  };

  let rank = 0;
  return html`
    <div class="gallery" role="group" aria-label=${label} aria-describedby=${help} ref=${place} onKeyDown=${onKeyDown}>
      <span class="unseen" id=${help}>${t('move_help')}</span>
      ${groups.filter((group) => group.pictures.length > 0).map((group) => html`
        <section key=${group.name} class=${`group ${group.name}${group.faint ? ' faint' : ''}`}>
          ${group.heading && html`<h2>${group.heading}</h2>`}
          <ul role="list">
            ${group.pictures.map((picture) => {
              const index = rank;
              rank += 1;
              return html`<${Tile} key=${picture.id} picture=${picture} scores=${scores} paths=${paths} active=${index === active}
                also=${shared?.get(picture.id)} lit=${lit === picture.id} light=${light}
                onOpen=${() => { activate(index); open(index); }} />`;
            })}
          </ul>
        </section>`)}
      ${opened !== null && pictures[opened] && html`
        <${Lightbox} pictures=${pictures} at=${opened} onMove=${open}
          onClose=${close} />`}
    </div>`;
}
