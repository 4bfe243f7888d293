#!/usr/bin/env bash
# `make dev`: build, load, deploy and follow the logs, again whenever something changes, until Ctrl-C.
# What is deployed stays; `make undeploy` removes it. Variables are those of the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."

POLL_S=${POLL_S:-1}
IMAGE_SOURCES=(Dockerfile.producer Dockerfile.consumer .dockerignore LICENSE requirements services)
CHART_SOURCES=(charts)

say() { echo "== $* ($(date +%H:%M:%S))"; }

# Names and contents, in 12 digits; nothing where a file is gone before it is read.
fingerprint() {
    local files
    files=$(find "$@" -type f ! -path '*/__pycache__/*' ! -name '.*.sw?' | LC_ALL=C sort)
    { echo "$files"; git hash-object --no-filters --stdin-paths <<<"$files"; } | git hash-object --stdin | cut -c1-12
}

# Where there is nothing to follow, as before the pods are there, it is tried again after a while.
tail_pid=
follow_at=0
follow() {
    follow_at=$((SECONDS + 5))
    make --no-print-directory logs &
    tail_pid=$!
}
unfollow() {
    if [ -n "$tail_pid" ]; then
        kill "$tail_pid" 2>/dev/null || true
        wait "$tail_pid" 2>/dev/null || true
        tail_pid=
    fi
}
trap unfollow EXIT
trap 'echo; say "stopped; what is deployed stays"; exit 0' INT TERM

built=
bring() { # IMAGES: build and load what is new, and upgrade
    if [ "$1" != "$built" ]; then
        say "building dev-$1"
        make --no-print-directory images IMAGE_TAG="dev-$1" || return
        make --no-print-directory load TAG="dev-$1" || return
        built=$1
    fi
    say "deploying dev-$1"
    make --no-print-directory deploy TAG="dev-$1" TIMEOUT="${DEPLOY_TIMEOUT:-90s}"
}

deployed=
while true; do
    if images=$(fingerprint "${IMAGE_SOURCES[@]}" 2>/dev/null) \
        && chart=$(fingerprint "${CHART_SOURCES[@]}" 2>/dev/null) \
        && [ "$images $chart" != "$deployed" ]; then
        unfollow
        deployed="$images $chart"
        follow_at=0
        bring "$images" || say "that failed; the next change is tried again"
    fi
    if ((SECONDS >= follow_at)) && ! { [ -n "$tail_pid" ] && kill -0 "$tail_pid" 2>/dev/null; }; then
        unfollow
        follow
    fi
    sleep "$POLL_S"
done
