// What went wrong, in one form for everything: the server's problem+json, no answer, no key.

/** An error with what a person needs: a title, the detail, what to do. */
export class Problem extends Error {
  constructor({ kind = 'server', status = 0, title = '', detail = '', help = '', code = '', wait = 0 }) {
    super(title);
    Object.assign(this, { kind, status, title, detail, help, code, wait });
  }
}

/** The server does not answer. */
export const offline = () => new Problem({ kind: 'offline' });

/** The problem that a response carries: problem details, or a sentence in `error` as `/info` has it. */
export async function fromResponse(response) {
  const { status } = response;
  const wait = Number(response.headers.get('retry-after')) || 0;
  const body = await response.json().catch(() => ({}));
  const text = (value) => (typeof value === 'string' ? value : '');
  const kind = status === 401 ? 'key' : status === 503 || status === 429 ? 'busy' : 'server';
  return new Problem({
    kind,
    status,
    wait,
    title: text(body?.title) || text(body?.error) || `${status} ${response.statusText}`.trim(),
    detail: text(body?.detail),
    help: text(body?.help),
    code: text(body?.code),
  });
}
