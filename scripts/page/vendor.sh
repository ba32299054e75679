#!/bin/sh
# The page's two libraries from npm, pinned, as single ES modules with their licences.
#
#     scripts/page/vendor.sh            (needs npm, tar, sha256sum)
#
# A browser knows no package names: each import is made a path, the source map's name is dropped, and nothing
# else is changed.
set -eu
cd "$(dirname "$0")/../.."
to="$PWD/crates/server/page/vendor"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
npm pack --silent preact@11.2.0 htm@3.1.1 > names
sha256sum --check --strict --quiet << 'SUMS'
3c4456766bd32b6b534d52bf4e9c2a29b33e7eedf6e96ed479300ba1a7888ebf  preact-11.2.0.tgz
2425b9bee11409177bcabc7f32e319926fc6690c1701c0b257c88bdff2d5ba90  htm-3.1.1.tgz
SUMS
for name in preact-11.2.0 htm-3.1.1; do
    mkdir "$name"
    tar -xzf "$name.tgz" -C "$name" --strip-components=1
done

take() {
    { printf '/* %s, %s: see %s */\n' "$2" "$3" "$4"; sed -e 's#from"preact"#from"./preact.mjs"#' -e '/^\/\/# sourceMappingURL/d' "$1"; } > "$to/$5"
}
mkdir -p "$to"
take preact-11.2.0/dist/preact.mjs 'Preact 11.2.0' MIT preact.LICENSE preact.mjs
take preact-11.2.0/hooks/dist/hooks.mjs 'Preact hooks 11.2.0' MIT preact.LICENSE hooks.mjs
take htm-3.1.1/dist/htm.mjs 'htm 3.1.1' Apache-2.0 htm.LICENSE htm.mjs
cp preact-11.2.0/LICENSE "$to/preact.LICENSE"
cp htm-3.1.1/LICENSE "$to/htm.LICENSE"
