#!/bin/sh
# Gives the superuser the password of its file, if that is another one than at the last start, and starts PostgreSQL with the arguments.
#
# A database keeps the password that it was made with. While the server is down its own single-user mode, which asks for none, can
# change it; nothing else could after the file has changed, because the former password is gone then.
set -eu

FILE=/run/secrets/password
# In the data, so that a restored copy of it has its own.
KNOWN="$PGDATA/password-digest"

if [ -s "$PGDATA/PG_VERSION" ]; then
    wanted="$(sha256sum <"$FILE")"
    if [ "$(cat "$KNOWN" 2>/dev/null || true)" != "$wanted" ]; then
        # Letters and digits only, so nothing is to be quoted. A statement that fails would be logged.
        printf "ALTER ROLE postgres PASSWORD '%s';\n" "$(cat "$FILE")" |
            (shift && exec postgres --single -D "$PGDATA" "$@" -c log_min_error_statement=panic postgres) >/dev/null
        (umask 0077 && printf '%s\n' "$wanted" >"$KNOWN")
        echo "start: the superuser has the password of $FILE" >&2
    fi
fi
exec docker-entrypoint.sh "$@"
