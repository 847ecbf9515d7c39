#!/bin/sh
# Starts Redis as its own user. Like the official image it serves other containers unless protected-mode is asked for.
set -eu

case "${1:-}" in -* | *.conf | '') set -- redis-server "$@" ;; esac

if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        find . ! -user redis -exec chown redis:redis {} +
        exec setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
    fi
    # Files written here hold data: nobody else reads them.
    umask 0077
    case "$* $(grep -h protected-mode "${2:-}" 2>/dev/null || true)" in
        *protected-mode* | *' --version'* | *' -v'* | *' --help'* | *' -h'*) ;;
        *) set -- "$@" --protected-mode no ;;
    esac
fi
exec "$@"
