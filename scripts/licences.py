"""The licences of everything that is compiled into a program or wheel, one after the other.

    python scripts/licences.py PACKAGE… > THIRD-PARTY-LICENCES

Reads `cargo metadata`; each text stands once, under the names of the crates that have it.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

FILES = re.compile(r"^(licen[cs]e|copying|notice|unlicense|copyright)", re.IGNORECASE)


def metadata():
    """Packages by id, and the normal dependencies of each."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host()]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in found["packages"]}

    def edges(node):
        kinds = ((dep["pkg"], kind["kind"]) for dep in node["deps"] for kind in dep["dep_kinds"])
        return {package for package, kind in kinds if kind is None}

    return packages, {node["id"]: edges(node) for node in found["resolve"]["nodes"]}


def host():
    """The target triple of this machine."""
    version = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return re.search(r"^host: (.*)$", version, re.MULTILINE)[1]


def compiled_in(names, packages, edges):
    """Everything that these packages depend on, without those of this repository."""
    waiting = [key for key, package in packages.items() if package["name"] in names]
    seen = set(waiting)
    while waiting:
        for key in edges[waiting.pop()] - seen:
            seen.add(key)
            waiting.append(key)
    return sorted((packages[key] for key in seen if packages[key]["source"]), key=lambda p: (p["name"], p["version"]))


def main():
    packages, edges = metadata()
    missing = set(sys.argv[1:]) - {package["name"] for package in packages.values()}
    if missing or len(sys.argv) < 2:
        sys.exit(f"no such package: {', '.join(sorted(missing)) or 'none was named'}")
    texts, without = {}, []
    for package in compiled_in(sys.argv[1:], packages, edges):
        name = f"{package['name']} {package['version']} ({package['license'] or 'no licence stated'})"
        folder = Path(package["manifest_path"]).parent
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and FILES.match(path.name)]
        for path in files:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            texts.setdefault(text, []).append(name)
        if not files:
            without.append(f"{name}, {package['repository'] or 'no repository stated'}")
    for text, names in texts.items():
        print("=" * 100, *names, "-" * 100, text, "", sep="\n")
    print("=" * 100, "Crates whose packages hold no licence text:", *without, sep="\n")


if __name__ == "__main__":
    main()
