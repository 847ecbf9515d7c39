#!/bin/bash
# Starts Open WebUI. Without WEBUI_SECRET_KEY the key comes from WEBUI_SECRET_KEY_FILE, made at the first start, as in the
# official image; here that file is in the data volume by default because the rest may be read-only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [ -z "${WEBUI_SECRET_KEY:-}" ]; then
    file="${WEBUI_SECRET_KEY_FILE:-/app/backend/data/.webui_secret_key}"
    if [ ! -s "$file" ]; then
        (umask 0077 && head --bytes=24 /dev/urandom | base64 > "$file")
    fi
    WEBUI_SECRET_KEY="$(cat "$file")"
    export WEBUI_SECRET_KEY
fi

# It copies its static files to this place at each start; where that is read-only each one would be an error in the log.
if [ -z "${STATIC_DIR:-}" ] && [ ! -w open_webui/static ]; then
    STATIC_DIR="$(mktemp --directory)"
    cp --recursive open_webui/static/. "$STATIC_DIR"
    export STATIC_DIR
fi

exec open-webui serve --host "${HOST:-0.0.0.0}" --port "${PORT:-8080}"
