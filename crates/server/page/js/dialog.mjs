// A modal dialog: the browser keeps the focus inside, closes on Escape and gives the focus back.

import { useEffect, useRef } from './html.mjs';

/**
 * A reference for a `<dialog>` that opens when it is drawn, with the focus on what has `data-first`. `onClose` is
 * called where a person closes it, not where it is no longer drawn.
 */
export function useModal(onClose) {
  const dialog = useRef(null);
  const closed = useRef(onClose);
  closed.current = onClose;
  useEffect(() => {
    const element = dialog.current;
    const listener = () => closed.current();
    element.addEventListener('close', listener);
    element.showModal();
    element.querySelector('[data-first]')?.focus();
    return () => {
      element.removeEventListener('close', listener);
      element.close();
    };
  }, []);
  return dialog;
}

/** Closes a dialog where the click is on what lies around it. */
export function closeOutside(event) {
  if (event.target === event.currentTarget) event.currentTarget.close();
}
