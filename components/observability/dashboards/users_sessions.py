"""Users and sessions: who signs in, and what their work asks of the databases."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards.panels import (
    NONE_ALLOWED,
    RATE,
    Query,
    Sources,
    board,
    choice,
    curves,
    falling,
    number,
    rising,
)

SIGN_INS = "keycloak_credentials_password_hashing_validations_total"
HITS = 'sum(rate(pg_stat_database_blks_hit{datname=~"$database"}[5m]))'
READ = 'sum(rate(pg_stat_database_blks_read{datname=~"$database"}[5m]))'
HIT_RATIO = f"100 * {HITS} / ({HITS} + {READ} > 0)"


def dashboard(sources: Sources) -> Dashboard:
    """Return the dashboard. People are counted where they sign in, never guessed from load."""
    connections = sources.settings.monitoring.database_connections
    realm = sources.settings.keycloak.realm
    passwords = f'{SIGN_INS}{{realm="{realm}"'
    busy = rising(connections * 0.6, connections)
    return board(
        "users-sessions",
        "Users and sessions",
        "Who signs in, how much the pages are used, and what that asks of the databases.",
        [
            number(
                "Sessions", 'sum(vendor_statistics_approximate_entries{cache="sessions"})', "none", about="At Keycloak."
            ),
            number(
                "Sign-ins in a day",
                f'sum(increase({passwords},outcome="valid"}}[24h]))',
                "short",
                about="With a password.",
            ),
            number(
                "Wrong passwords in a day",
                f'sum(increase({passwords},outcome!="valid"}}[24h])) or vector(0)',
                "short",
                rising(20, 100),
            ),
            number("Open connections to the chat", 'haproxy_backend_current_sessions{proxy="chat"}', "none"),
            number("Connections to databases", "sum(pg_stat_database_numbackends)", "none", busy),
            number(
                "Answered from memory",
                HIT_RATIO,
                "percent",
                falling(80, 95),
                "Blocks that PostgreSQL found in its cache.",
            ),
        ],
        [
            curves(
                "Sign-ins an hour",
                "short",
                Query(f"sum by (outcome) (3600 * rate({passwords}}}{RATE}))", "{{outcome}}"),
            ),
            curves(
                "Sessions",
                "short",
                Query('sum(vendor_statistics_approximate_entries{cache="sessions"})', "sessions"),
                Query('sum(vendor_statistics_approximate_entries{cache="authenticationSessions"})', "signing in"),
            ),
            curves(
                "Requests by page",
                "reqps",
                Query(
                    f'sum by (proxy) (rate(haproxy_backend_http_requests_total{{proxy!~"ollama.*|unknown"}}{RATE}))',
                    "{{proxy}}",
                ),
                stacked=True,
            ),
        ],
        [
            curves(
                "Connections to each database",
                "short",
                Query('pg_stat_database_numbackends{datname=~"$database"}', "{{datname}}"),
                steps=busy,
            ),
            curves(
                "Transactions",
                "ops",
                Query(f'sum(rate(pg_stat_database_xact_commit{{datname=~"$database"}}{RATE}))', "done"),
                Query(f'sum(rate(pg_stat_database_xact_rollback{{datname=~"$database"}}{RATE}))', "taken back"),
            ),
            curves("Answered from memory", "percent", Query(HIT_RATIO, "share"), steps=falling(80, 95), maximum=100),
        ],
        [
            curves(
                "What the chat keeps in Redis",
                "short",
                Query('redis_db_keys{instance!="redis-queue",db=~"db[01]"}', "{{db}}"),
                about="Entries: db0 sessions, db1 websockets.",
            ),
            curves(
                "Size of the databases", "bytes", Query('pg_database_size_bytes{datname=~"$database"}', "{{datname}}")
            ),
            curves(
                "Changes by administrators",
                "short",
                Query(
                    "sum(increase(http_server_requests_seconds_count"
                    f'{{method!="GET",outcome="SUCCESS",uri=~"/admin/.+"}}{RATE}))',
                    "changes",
                ),
                about="Of accounts, roles and clients, by commands and deployments; ./aikit users events lists them.",
            ),
            curves(
                "Refused by the proxy",
                "short",
                Query(f'sum(increase(haproxy_frontend_requests_denied_total{{proxy="https"}}{RATE}))', "requests"),
                steps=NONE_ALLOWED,
                about="Who asked for too much at once (aikit:edge-requests-per-10-seconds), or for what is not for outside.",
            ),
        ],
        hours=6,
        choices=[choice("database", "Database", "pg_stat_database_numbackends", "datname")],
    )
