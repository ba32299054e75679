"""Empty stand-ins for the CUDA libraries that PyPI's torch wheel links to.

The Linux wheel loads a dozen CUDA libraries (several gigabytes of further
wheels) even when only the CPU is used. Each missing library is replaced by
one whose functions do nothing but answer 100, `cudaErrorNoDevice`: torch then
finds no device and runs on the CPU. Needs `cc` and binutils (`nm`, `readelf`).
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

CUDA_SYMBOL = re.compile(r"^((?:_*cu|_*nv|nccl|_*NV)\w*)(?:@@?(\S+))?$")
CUDA_LIBRARY = re.compile(r"^lib(cu|nv|nccl)\w*\.so\.\d+$")
UNVERSIONED = "libnccl.so.2"


def output(*command):
    """Standard output of a command; stops at its first failure."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def undefined_symbols(library):
    """The CUDA functions that a library expects: pairs of version and name."""
    for line in output("nm", "-D", "--undefined-only", str(library)).splitlines():
        if match := CUDA_SYMBOL.match(line.split()[-1]):
            yield match[2], match[1]


def needed_libraries(library):
    """The CUDA libraries that a library is linked to, each with its symbol versions."""
    dynamic = re.findall(r"NEEDED.*\[(.+)\]", output("readelf", "-dW", str(library)))
    needed = {name: set() for name in dynamic if CUDA_LIBRARY.match(name)}
    for part in output("readelf", "-VW", str(library)).split("File: ")[1:]:
        if part.split()[0] in needed:
            needed[part.split()[0]] |= set(re.findall(r"Name: (\S+)", part))
    return needed


def stand_in(name):
    """C source of one function: error texts are a text, all else is an error code."""
    if name.endswith(("String", "ErrorName")):
        return f'const char *{name}(void) {{ return "no CUDA here"; }}\n'
    return f"long {name}(void) {{ return 100; }}\n"


def build(path, versions):
    """Compile one stand-in; `versions` maps a symbol version to its functions."""
    names = sorted(name for group in versions.values() for name in group)
    source = "".join(map(stand_in, names))
    nodes = [f"{v} {{ global: {'; '.join(sorted(g))}; }};" for v, g in versions.items() if v and g]
    with tempfile.NamedTemporaryFile("w", suffix=".map") as script:
        script.write("\n".join(nodes))
        script.flush()
        command = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{path.name}"]
        command += [f"-Wl,--version-script,{script.name}"] if nodes else []
        command += ["-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source, text=True, check=True)


def main():
    """Write the stand-ins beside torch's own libraries."""
    folder = next(Path(sys.prefix).glob("lib/python3*/site-packages/torch/lib"))
    owner, functions = {None: UNVERSIONED}, {UNVERSIONED: {}}
    libraries = sorted(folder.glob("lib*.so"))
    for library in libraries:
        for name, versions in needed_libraries(library).items():
            functions.setdefault(name, {})
            owner |= dict.fromkeys(versions, name)
    for library in libraries:
        for version, name in undefined_symbols(library):
            functions[owner[version]].setdefault(version, set()).add(name)
    for name, versions in functions.items():
        build(folder / name, versions)
    print(f"{len(functions)} stand-ins in {folder}")


if __name__ == "__main__":
    main()
