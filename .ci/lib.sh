# Sourced by the other scripts: the checkout as working directory, and how a step shows itself.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

step() {
    printf '\n== %s\n' "$*"
}

# Run a command in one of the environments: in_venv .venv pytest ...
in_venv() {
    local venv=$1
    shift
    PATH="$root/$venv/bin:$PATH" VIRTUAL_ENV="$root/$venv" "$@"
}
