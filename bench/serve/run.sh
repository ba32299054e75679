#!/bin/sh
# The server with an engine of 20 ms a batch, under load from this machine; one JSON line a step.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --locked -p altclip-cli
cargo build --release --locked -p altclip-server --example load
target/release/altclip serve --stub-ms 20 --port 8017 --quiet > /dev/null &
server=$!
trap 'kill $server' EXIT
sleep 1
target/release/examples/load 127.0.0.1:8017 --batch-ms 20 --pid $server "$@"
