#!/bin/sh
# Fetches the packages of the emoji set and unpacks what is used. Nothing is installed.
#
#     recipes/emoji/fetch.sh            (into build/emoji; needs apt-get, dpkg-deb, npm, tar)
set -eu
cd "$(dirname "$0")/../.."
sums="$PWD/recipes/emoji/sha256sums"
mkdir -p build/emoji/cache
cd build/emoji/cache

# A file that is here already is only compared.
debian() { [ -f "$2" ] || apt-get -o APT::Sandbox::User=root download "$1"; }
node() { [ -f "$2" ] || npm pack --silent "$1"; }

debian fonts-noto-color-emoji=2.042-0+deb12u1 fonts-noto-color-emoji_2.042-0+deb12u1_all.deb
debian unicode-cldr-core=41-0.1 unicode-cldr-core_41-0.1_all.deb
node @lobehub/fluent-emoji-flat@1.1.0 lobehub-fluent-emoji-flat-1.1.0.tgz
node fluentui-emoji-js@1.2.1 fluentui-emoji-js-1.2.1.tgz
node emoji-datasource-twitter@16.0.0 emoji-datasource-twitter-16.0.0.tgz
node openmoji@17.0.0 openmoji-17.0.0.tgz
sha256sum --check --strict "$sums"

sources=../sources
rm -rf "$sources"
mkdir -p "$sources/noto" "$sources/cldr" "$sources/fluent" "$sources/fluent-licence" "$sources/twemoji" "$sources/openmoji"
dpkg-deb --fsys-tarfile fonts-noto-color-emoji_*.deb | tar -x -C "$sources/noto" --strip-components=1
dpkg-deb --fsys-tarfile unicode-cldr-core_*.deb | tar -x -C "$sources/cldr" --strip-components=1 --wildcards \
    './usr/share/unicode/cldr/common/annotations*' './usr/share/doc/*'
tar -xzf lobehub-fluent-emoji-flat-1.1.0.tgz -C "$sources/fluent" --strip-components=1
tar -xzf fluentui-emoji-js-1.2.1.tgz -C "$sources/fluent-licence" --strip-components=1 package/LICENSE
tar -xzf emoji-datasource-twitter-16.0.0.tgz -C "$sources/twemoji" --strip-components=1 \
    package/LICENSE package/README.md package/emoji.json package/img/twitter/64
tar -xzf openmoji-17.0.0.tgz -C "$sources/openmoji" --strip-components=1 package/LICENSE.txt package/README.md package/color/svg
