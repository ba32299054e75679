// The page's files as they lie in the repository, with the headers that the server sends.

import { readFileSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const PAGE = fileURLToPath(new URL('../../crates/server/page/', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.css': 'text/css; charset=utf-8', '.mjs': 'text/javascript; charset=utf-8', '.svg': 'image/svg+xml' };
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Whether a path is of the page. */
export const isPage = (pathname) => pathname === '/' || pathname.startsWith('/assets/');

/** `{ body, headers }` of a path of the page; null where there is no such file. */
export function source(pathname) {
  const name = pathname === '/' ? 'index.html' : normalize(pathname.slice('/assets'.length));
  try {
    const body = readFileSync(join(PAGE, name));
    return { body, headers: { 'content-type': TYPES[extname(name)] ?? 'text/plain', 'content-security-policy': POLICY, 'x-content-type-options': 'nosniff' } };
  } catch {
    return null;
  }
}
