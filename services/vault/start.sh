#!/bin/sh
# Starts Vault, initialises it once, unseals it, and gives the deployment and the secrets agent a login each.
#
# Vault is unsealed at a start only: a seal that a person orders in an emergency holds until the container is restarted.
# Secrets pass through files and variables of this shell, never whole through arguments, which other processes could see.
set -eu
umask 0077

FILES=/etc/aikit
STORAGE=/vault/file
# The key is on a volume of its own: who has the data alone can open nothing.
KEY=/vault/config/unseal-key
# In the storage: says that the key was kept, so that there may be something to lose.
KEPT="$STORAGE/key-kept"
# In the storage: checksum of what those and the plugins may do.
GRANTED="$STORAGE/granted"
READY=/tmp/ready
# Programs that the image has beside Vault's own, by name; the official image has them inside of it.
PLUGINS=/usr/lib/vault/plugins
PLUGIN_SETTINGS=/tmp/plugins.hcl

export VAULT_ADDR=http://127.0.0.1:8202
export HOME=/tmp

say() {
    echo "start: $*" >&2
}

refuse() {
    say "$*"
    exit 1
}

# With a seal of another system the key only recovers; Vault unseals itself.
recovers() {
    [ -f "$FILES/seal" ]
}

field() {
    tr -d ' \n' | sed -n "s/.*\"$1\":\[\{0,1\}\"\{0,1\}\([^]\",}]*\).*/\1/p"
}

status() {
    wget -q -O - "$VAULT_ADDR/v1/sys/seal-status" | field "$1"
}

# Repeats a question until its answer is yes.
wait_until() {
    what=$1
    shift
    waited=0
    until "$@" 2>/dev/null; do
        kill -0 "$server" 2>/dev/null || refuse "Vault ended; its own messages above say why"
        [ "$waited" -lt 600 ] || refuse "Vault is not $what after two minutes"
        sleep 0.2
        waited=$((waited + 1))
    done
}

answers() {
    [ -n "$(status initialized)" ]
}

# One node elects itself within seconds; until then it refuses everything.
active() {
    wget -q -O /dev/null "$VAULT_ADDR/v1/sys/health"
}

initialise() {
    [ ! -s "$KEY" ] || refuse "there is an unseal key, but Vault's storage is empty: restore the volume of its data, or remove both volumes to begin anew"
    shares=key
    if recovers; then shares=recovery; fi
    made="$(vault operator init -format=json "-$shares-shares=1" "-$shares-threshold=1")"
    kind=unseal
    if recovers; then kind=recovery; fi
    printf %s "$made" | field "${kind}_keys_b64" | tr -d '\n' >"$KEY.new"
    [ -s "$KEY.new" ] || refuse "Vault was initialised without a key; remove the volume of its data to begin anew"
    chmod 0400 "$KEY.new"
    sync
    mv "$KEY.new" "$KEY"
    sync
    touch "$KEPT"
    sync
    VAULT_TOKEN="$(printf %s "$made" | field root_token)"
    export VAULT_TOKEN
    say "initialised; the key is in $KEY"
}

# Makes a root token of the key, as a person would who lost all others.
root() {
    vault operator generate-root -cancel >/dev/null
    otp="$(vault operator generate-root -generate-otp)"
    nonce="$(vault operator generate-root -init -otp="$otp" -format=json | field nonce)"
    encoded="$(vault operator generate-root -nonce="$nonce" -format=json - <"$KEY" | field encoded_root_token)"
    # Of the two halves at least one must not be seen.
    VAULT_TOKEN="$(printf %s "$encoded" | vault operator generate-root -decode=- -otp="$otp")"
    export VAULT_TOKEN
}

login() {
    vault write -field=token auth/approle/login "role_id=$1" "secret_id=@$FILES/$1-secret" >/dev/null 2>&1
}

# Gives a role its policy, and a login that is valid for these times. May run any number of times.
grant() {
    vault policy write "$1" "$FILES/$1.hcl" >/dev/null
    # Together with the role go the secrets that were valid before.
    vault delete "auth/approle/role/$1" >/dev/null
    vault write "auth/approle/role/$1" "token_policies=$1" "token_ttl=$2" "token_max_ttl=$3" >/dev/null
    vault write "auth/approle/role/$1/role-id" "role_id=$1" >/dev/null
    vault write "auth/approle/role/$1/custom-secret-id" "secret_id=@$FILES/$1-secret" >/dev/null
    say "$1 has its login"
}

# Lets Vault start the plugins as they are in this image.
register_plugins() {
    [ -d "$PLUGINS" ] || return 0
    for plugin in "$PLUGINS"/*-database-plugin; do
        vault plugin register "-sha256=$(sha256sum <"$plugin" | cut -d ' ' -f 1)" database "${plugin##*/}" >/dev/null
        say "${plugin##*/} may be started"
    done
}

rm -f "$READY"
if [ ! -e "$KEPT" ] && [ ! -s "$KEY" ] && [ -e "$STORAGE/raft" ]; then
    # Its key was never kept, so nothing can ever have been stored in it: an initialisation was interrupted.
    say "starting an interrupted initialisation anew"
    rm -rf "$STORAGE/raft"
fi
if [ -e "$KEPT" ] && [ ! -s "$KEY" ]; then
    refuse "the key is missing: restore it to $KEY from your copy (docs/secrets.md); the data was left as it is"
fi
mkdir -p "$STORAGE/raft"

# Credentials of another system's seal are the server's alone: the commands below would take VAULT_TOKEN for theirs.
if [ -f "$FILES/environment" ]; then . "$FILES/environment"; fi
if [ -d "$PLUGINS" ]; then printf 'plugin_directory = "%s"\n' "$PLUGINS"; fi >"$PLUGIN_SETTINGS"
vault server "-config=$FILES/vault.hcl" "-config=$PLUGIN_SETTINGS" &
server=$!
unset VAULT_TOKEN
trap 'kill -TERM "$server" 2>/dev/null || true' TERM INT
trap 'kill -TERM "$server" 2>/dev/null || true; wait "$server" || true' EXIT

wait_until answering answers
if [ "$(status initialized)" != true ]; then initialise; fi
[ -e "$KEPT" ] || touch "$KEPT"
if ! recovers; then vault write sys/unseal "key=@$KEY" >/dev/null; fi
wait_until active active

wanted="$(cat "$0" "$FILES/deployment.hcl" "$FILES/secrets-agent.hcl" "$PLUGINS"/* 2>/dev/null | sha256sum)"
if [ "$(cat "$GRANTED" 2>/dev/null || true)" != "$wanted" ] || ! login deployment || ! login secrets-agent; then
    [ -n "${VAULT_TOKEN:-}" ] || root
    vault auth list -format=json | grep -q '"approle/"' || vault auth enable approle >/dev/null
    # The deployment does the rest.
    grant deployment 15m 1h
    # They run all the time.
    grant secrets-agent 1h 24h
    register_plugins
    printf '%s\n' "$wanted" >"$GRANTED"
fi
if [ -n "${VAULT_TOKEN:-}" ]; then
    # A start that was killed may have left others.
    own="$(vault token lookup -format=json | field accessor)"
    for accessor in $(vault list auth/token/accessors | tail -n +3); do
        if [ "$accessor" != "$own" ] && vault token lookup -accessor "$accessor" | grep -q 'policies.*\[root\]'; then
            vault token revoke -accessor "$accessor" >/dev/null
        fi
    done
    vault token revoke -self >/dev/null
    unset VAULT_TOKEN
    say "the root token is revoked"
fi
touch "$READY"
say ready

# A signal ends the first wait at once; the second one waits for the server to end.
wait "$server" || true
trap - EXIT
wait "$server"
