#!/bin/sh
# Starts HAProxy as master and workers in the foreground; other commands run as they are.
set -eu

case "${1:-}" in -* | '') set -- haproxy "$@" ;; esac

if [ "$1" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi
exec "$@"
