#!/usr/bin/env bash
# Tries a release on a system with nothing on it but Python: scripts/bare_root.sh FOLDER
# Needs root, debootstrap and the network; says so and succeeds where the first two are not there.
set -euo pipefail
out=$(cd "$1" && pwd)
if [ "$(id -u)" != 0 ] || ! command -v debootstrap > /dev/null; then
    echo "skipped: a bare root needs root and debootstrap"
    exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
suite=${SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
debootstrap --variant=minbase --include=python3,python3-numpy "$suite" "$root" ${MIRROR:+"$MIRROR"} > /dev/null

(cd "$out" && sha256sum --check --quiet SHA256SUMS)
tar -C "$root/opt" -xzf "$out"/altclip-*.tar.gz --strip-components=1
python3 -m zipfile -e "$out"/altclip-*.whl "$root/opt/python"
# No network, no home, no variables: only what was handed out.
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin ALTCLIP_CACHE=/tmp/cache "$@"; }
inside unshare --net chroot "$root" /opt/altclip --version
inside unshare --net chroot "$root" /opt/altclip demo --out /tmp/demo.html
inside PYTHONPATH=/opt/python unshare --net chroot "$root" /usr/bin/python3 -c '
import altclip
model = altclip.load("nano")
best = model.classify(altclip.samples()["octopus"], ["章鱼", "rocket"])
assert best[0]["label"] == "章鱼", best
print(altclip.__version__, best)
'
echo "a bare $suite runs both"
