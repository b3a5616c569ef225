# Sourced by the other scripts: the checkout as working directory, and how a step shows itself.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# bash leaves what it runs behind when it is told to end. So the first of our scripts runs itself in a process
# group of its own, and ends the whole group: pytest tears down, and .ci/molecule takes its lab away.
if [[ -z ${SLUICE_CI_GROUP:-} ]]; then
    export SLUICE_CI_GROUP=$$
    setsid "$root/.ci/${0##*/}" "$@" &
    group=$!
    # shellcheck disable=SC2317  # the trap calls it
    end_group() {
        trap '' INT TERM HUP
        kill -TERM -- "-$group" 2>/dev/null || true
        for _ in {1..300}; do # what tears down has half a minute
            kill -0 -- "-$group" 2>/dev/null || exit 130
            sleep 0.1
        done
        kill -KILL -- "-$group" 2>/dev/null || true
        exit 130
    }
    trap end_group INT TERM HUP
    wait "$group"
    exit
fi

step() {
    printf '\n== %s\n' "$*"
}

# Run a command in one of the environments: in_venv .venv pytest ...
in_venv() {
    local venv=$1
    shift
    PATH="$root/$venv/bin:$PATH" VIRTUAL_ENV="$root/$venv" "$@"
}
