#!/usr/bin/env bash
# What is handed out: the program, the wheel, their licences and checksums, in build/release; then tried in a bare
# root file system, where debootstrap and root are there.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build/release
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=altclip-$version-$(uname -m)-linux

licences=bindings/python/LICENSE-THIRD-PARTY
rm -rf "$out"
mkdir -p "$out/$name"
python3 scripts/licences.py altclip-cli altclip-python > "$licences"
bindings/python/wheel.sh "$out"
# Both at once have the features of the wheel, so that only the program is left to build.
cargo build --release --locked -p altclip-cli -p altclip-python
strip -o "$out/$name/altclip" target/release/altclip
cp LICENSE README.md CHANGELOG.md "$out/$name/"
cp crates/nano/model/NOTICE "$out/$name/NOTICE-nano"
cp "$licences" "$out/$name/"

# Only what every Linux of the last years has.
echo "libraries:" $(ldd "$out/$name/altclip" | awk '{ print $1 }' | sort)
if ldd "$out/$name/altclip" | grep -vE 'linux-vdso|libc\.so|libm\.so|libgcc_s|ld-linux|libpthread|libdl|librt'; then
    echo "the program needs a library that not every system has" >&2
    exit 1
fi
floor=$(objdump -T "$out/$name/altclip" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
echo "oldest C library: $floor"
tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out/$name.tar.gz" "$name"
(cd "$out" && sha256sum "$name.tar.gz" altclip-*.whl > SHA256SUMS && cat SHA256SUMS)

scripts/bare_root.sh "$out"
