// A picture that a person gives: dropped, pasted, chosen, or one of the index.

import { store } from './store.mjs';

/** The picture that is searched with, and the one that is classified. */
export const asked = store(null);
export const classified = store(null);

let count = 0;

/** Reads a file: its bytes as a data URI for the server, an object URL to show it. */
export async function open(blob, name = blob.name ?? '') {
  const data = await dataUri(blob);
  count += 1;
  return { id: count, name, data, url: URL.createObjectURL(blob) };
}

function dataUri(blob) {
  return new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** Sets a picture and lets go of the one before. */
export function replace(slot, picture) {
  const old = slot.get();
  slot.set(picture);
  if (old && old !== picture) URL.revokeObjectURL(old.url);
}

/** The first file of a drop or paste; pictures before all else. */
export function fileOf(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith('image/')) ?? files[0] ?? null;
}
