// What two answers share: the same query in two languages should find the same pictures.

/**
 * Compares the first `k` of two lists of matches, `k` being the length of the shorter.
 * `left` and `right` give for the id of a shared picture its rank, from 1, in the other list.
 */
export function overlap(first, second) {
  const k = Math.min(first.length, second.length);
  const ranks = (matches) => new Map(matches.slice(0, k).map((match, index) => [match.id, index + 1]));
  const [a, b] = [ranks(first), ranks(second)];
  const shared = [...a.keys()].filter((id) => b.has(id));
  return {
    k,
    shared: shared.length,
    share: k === 0 ? 0 : shared.length / k,
    left: new Map(shared.map((id) => [id, b.get(id)])),
    right: new Map(shared.map((id) => [id, a.get(id)])),
  };
}
