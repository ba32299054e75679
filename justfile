# Recipes of this repository; CI runs the same ones. `just --list` shows them.

# Formatting, lints, documentation
check:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --document-private-items --locked
    if command -v cargo-deny > /dev/null; then cargo deny --offline check bans licenses sources; else echo "skipped: cargo-deny is not installed"; fi

# All tests that CI runs
test:
    cargo test --release --workspace --locked

# The Python wheel: built, installed into a fresh environment, tested there
python *arguments:
    bindings/python/test.sh {{arguments}}

# The same with torch, mteb, Ray and notebooks (2 GB of packages, ten minutes)
python-full *arguments:
    ALTCLIP_FULL=1 bindings/python/test.sh {{arguments}}

# The kernel benchmarks, each row once, so that they cannot rot
bench-test:
    cargo bench --locked -p altclip-kernels --bench kernels -- --test > /dev/null

# The README's main job: a small random model classifies pictures that are made here
demo:
    cargo xtask demo

# Everything, with the reference library and the full-size model (an hour, 10 GB of disk)
full: check test reference
    cargo test --release --workspace --locked
    just demo-parity
    just full-size
    just trained-folders
    just python-full

# The pinned Python environment in .venv
reference:
    scripts/reference/venv.sh

# Remake the golden files and show what changed
golden: reference
    .venv/bin/python scripts/reference/make_tokenizer.py
    .venv/bin/python scripts/reference/make_goldens.py
    .venv/bin/python scripts/reference/make_gradient_goldens.py
    .venv/bin/python scripts/reference/make_image_goldens.py
    git diff --stat tests/golden

# A multilingual image-text set and small tokenizers from package registries (apt, npm; 120 MB) in build/emoji
emoji-set:
    recipes/emoji/fetch.sh
    cargo run --release --locked -p altclip-recipe-emoji

# The set's tokenizers against transformers
emoji-tokenizers: reference
    .venv/bin/python scripts/reference/emoji_tokenizers.py

# The demo's numbers against transformers
demo-parity:
    cargo xtask demo --json > build/demo.jsonl
    .venv/bin/python scripts/reference/full_size.py classify build/demo/model --label 红色 --label blau --label 'a green picture' build/demo/pictures > build/demo_reference.jsonl
    .venv/bin/python scripts/reference/full_size.py compare build/demo.jsonl build/demo_reference.jsonl

# The real 864 M-parameter shape with random weights against transformers; PICTURES is a folder
full-size pictures=(env("ALTCLIP_TEST_DATA", "build/demo") + "/pictures"):
    scripts/reference/full_size.sh "{{pictures}}"

# What each kind of training leaves, in transformers: the same features
trained-folders: reference
    cargo build --release --locked -p altclip-cli
    .venv/bin/python scripts/reference/trained_folders.py target/release/altclip

# Random pictures and texts, kills and faults in numbers that CI has no time for
long:
    cargo run --release -p altclip-tokenizer --example differential -- 1000000
    ALTCLIP_SAME_BITS=1000 cargo test --release -p altclip --test parity same_bits
    ALTCLIP_ASPECT_CASES=10000 ALTCLIP_MUTATIONS=250 cargo test --release -p altclip-image
    ALTCLIP_KILLS=200 ALTCLIP_SIGNALS=100 cargo test --release -p altclip-cli --test train kills
    ALTCLIP_TORTURE=full cargo test --release -p altclip-train
    ALTCLIP_KILLS=1000 cargo test --release -p altclip-search --test kills -- --nocapture
    ulimit -n 16384 && ALTCLIP_SIGNALS=20 ALTCLIP_CANCELS=1000 ALTCLIP_SLOWLORIS=2000 cargo test --release -p altclip-server --test contract -- --nocapture
    ulimit -n 16384 && ALTCLIP_SIGNALS=100 ALTCLIP_LOAD_SECONDS=60 ALTCLIP_CONNECTIONS=4000 cargo test --release -p altclip-cli --test contract serve -- --nocapture

# Kernels against the machine's peak
bench:
    cargo bench -p altclip-kernels
    cargo bench -p altclip-tokenizer

# The miniature from the emoji set, a step a call: `just emoji-train all 1` (teacher, stage1, stage2, table)
emoji-train step seed="1":
    cargo build --release --locked -p altclip-cli
    recipes/emoji/train.sh {{step}} {{seed}}

# Ours and the other engines in turns (an idle machine, about an hour): `just peers --case image-8`
peers *arguments:
    cargo build --release --locked -p altclip-cli
    bench/peers/venv.sh
    build/peers-venv/bin/python bench/peers/run.py --altclip target/release/altclip {{arguments}}

# Search beside numpy and faiss on the same million vectors (an idle machine with 8 GB, ten minutes)
bench-search rows="1000000" width="768":
    bench/search/venv.sh
    mkdir -p build/search
    cargo run --release --locked -p altclip-search --example scan -- {{rows}} {{width}} build/search
    build/search-venv/bin/python bench/search/peers.py build/search {{width}}

# How well p_match knows what is there, on the emoji set; `--fit` prints its parameters
p-match model="crates/nano/model" *arguments:
    cargo run --release --locked -p altclip-search --example p_match -- {{model}} build/emoji/set {{arguments}}

# Training here and in PyTorch in turns (an idle machine): `just bench-train --texts FOLDER --stage stage1`
bench-train *arguments:
    cargo build --release --locked -p altclip-cli
    bench/peers/venv.sh
    build/peers-venv/bin/python bench/train/run.py --altclip target/release/altclip {{arguments}}

# The page in a real browser: each view, both languages, keyboard, phone, dark (chromium and node; pictures in build/web)
web:
    cargo build --release --locked -p altclip-cli
    cd tests/web && npm ci --silent && npm test --silent && node walk.mjs --altclip ../../target/release/altclip

# The page with made-up answers, to work on it
web-mock port="8080":
    node tests/web/mock.mjs --port {{port}}

# Published clients against the server: openai, huggingface_hub, and the requests of others
serve-clients:
    cargo build --release --locked -p altclip-cli
    scripts/reference/serve_venv.sh
    build/serve-venv/bin/python scripts/reference/serve_clients.py target/release/altclip

# A server under 0.5 to 10 times its load (an idle machine): `just bench-serve --shape 2,10`
bench-serve *arguments:
    bench/serve/run.sh {{arguments}}

# What is handed out, in build/release: program, wheel, licences, checksums; tried in a bare root file system
release:
    scripts/release.sh

# Size of the sources
loc:
    @git ls-files 'crates/*.rs' 'recipes/*.rs' 'xtask/*.rs' | xargs wc -l | sort -rn | head -40
