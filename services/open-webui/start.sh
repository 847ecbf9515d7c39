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

exec open-webui serve --host "${HOST:-0.0.0.0}" --port "${PORT:-8080}"
