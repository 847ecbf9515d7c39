#!/bin/bash
# Starts PostgreSQL; an empty PGDATA is initialised first. Understands the official image's variables:
# POSTGRES_USER, POSTGRES_DB, POSTGRES_PASSWORD (each also as _FILE), POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD,
# and runs *.sql, *.sql.gz and *.sh of /docker-entrypoint-initdb.d once.
set -Eeuo pipefail

sockets=/var/run/postgresql
new="$PGDATA/.initialising"

setting() { # name, default: the variable's value, or the content of the file that its _FILE twin names
    local file="${1}_FILE"
    if [ -n "${!1:-}" ] && [ -n "${!file:-}" ]; then
        echo "error: set $1 or $file, not both" >&2
        exit 1
    fi
    if [ -n "${!file:-}" ]; then cat "${!file}"; else echo "${!1:-$2}"; fi
}

own_directories() {
    mkdir -p "$PGDATA" "$sockets"
    find "$PGDATA" ! -user postgres -exec chown postgres:postgres {} +
    chmod 0700 "$PGDATA"
    # A tmpfs for sockets that can't be changed is no reason not to start.
    chown postgres:postgres "$sockets" 2>/dev/null || true
}

run_scripts() {
    local script
    for script in /docker-entrypoint-initdb.d/*; do
        case "$script" in
            *.sh) echo "running $script"; if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
            *.sql) echo "running $script"; psql --file="$script" ;;
            *.sql.gz) echo "running $script"; gunzip --stdout "$script" | psql ;;
        esac
    done
}

initialise() {
    local user database password method="${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" private
    user="$(setting POSTGRES_USER postgres)"
    database="$(setting POSTGRES_DB "$user")"
    password="$(setting POSTGRES_PASSWORD '')"
    if [ -z "$password" ] && [ "$method" != trust ]; then
        echo "error: no password for a new database: set POSTGRES_PASSWORD_FILE" >&2
        exit 1
    fi
    rm -rf "$new"
    mkdir -m 0700 "$new"
    # initdb splits nothing itself: the arguments come as one string, possibly quoted.
    eval 'initdb --pgdata="$new" --username="$user" --pwfile=<(printf "%s\n" "${password:-unused}") '"${POSTGRES_INITDB_ARGS:-}"
    printf '\nhost all all all %s\n' "$method" >> "$new/pg_hba.conf"

    # The server that takes the first commands has a socket of its own, so no health check sees it.
    private="$(mktemp -d -p "$sockets" .initialising.XXXX)"
    export PGHOST="$private" PGUSER="$user" PGPASSWORD="$password" PGDATABASE=postgres PSQLRC=/dev/null
    pg_ctl --pgdata="$new" --wait --silent -o "-c listen_addresses='' -c unix_socket_directories='$private' -p 5432" start
    if [ "$database" != postgres ]; then
        psql --no-psqlrc -v ON_ERROR_STOP=1 -v name="$database" --quiet <<< 'CREATE DATABASE :"name";'
    fi
    export PGDATABASE="$database" POSTGRES_USER="$user" POSTGRES_DB="$database"
    psql() { command psql --no-psqlrc -v ON_ERROR_STOP=1 --no-password "$@"; }
    run_scripts
    unset -f psql
    pg_ctl --pgdata="$new" --wait --silent --mode=fast stop
    rm -rf "$private"
    unset PGHOST PGUSER PGPASSWORD PGDATABASE PSQLRC
    touch "$new/complete"
}

adopt() { # the version file last: it says that everything is there
    rm -f "$PGDATA/PG_VERSION"
    find "$new" -mindepth 1 -maxdepth 1 ! -name complete ! -name PG_VERSION -exec mv --target-directory="$PGDATA" {} +
    [ ! -e "$new/PG_VERSION" ] || mv "$new/PG_VERSION" "$PGDATA/PG_VERSION"
    rm -rf "$new"
}

case "${1:-}" in -* | '') set -- postgres "$@" ;; esac

if [ "$1" = postgres ]; then
    for argument in "$@"; do
        case "$argument" in --help | -'?' | --version | -V | --describe-config) exec "$@" ;; esac
    done
    if [ "$(id -u)" = 0 ]; then
        own_directories
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$BASH_SOURCE" "$@"
    fi
    # A first start that was cut short is done again; one that was complete is adopted.
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        [ -e "$new/complete" ] || initialise
        adopt
        echo "PostgreSQL is initialised"
    fi
fi
exec "$@"
