"""The other services: pages behind the proxy, databases, sign-in, and the monitoring itself."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.ai.n8n import N8n, N8nWorker
from components.data.qdrant import Qdrant
from components.observability.dashboards.panels import (
    FIRING,
    NONE_ALLOWED,
    RATE,
    Column,
    Query,
    Sources,
    Steps,
    board,
    choice,
    curves,
    falling,
    number,
    rising,
    rows,
    state,
)
from components.secrets.vault import Vault

HIT_RATIO = "100 * rate(redis_keyspace_hits_total[5m]) / (rate(redis_keyspace_hits_total[5m]) + rate(redis_keyspace_misses_total[5m]) > 0)"


def dashboard(sources: Sources) -> Dashboard:
    """Return the dashboard."""
    settings = sources.settings
    full = settings.redis.max_memory_mb << 20
    return board(
        "additional-services",
        "The other services",
        "Pages behind the proxy, databases, sign-in, alerts, and the monitoring itself.",
        [
            state("PostgreSQL", "pg_up"),
            state("Redis", "min(redis_up)"),
            state("Keycloak", 'up{job="keycloak"}'),
            state("Alertmanager", 'up{job="alertmanager"}'),
            number("Alerts", FIRING, "none", NONE_ALLOWED),
            number("Silences", 'sum(alertmanager_silences{state="active"})', "none"),
            number("Series", "prometheus_tsdb_head_series", "short", rising(10_000, 50_000)),
        ],
        [
            rows(
                "Pages behind the proxy",
                "proxy",
                "page",
                Column("up", 'max by (proxy) (haproxy_server_status{proxy=~"$page",state="UP"})', "bool_yes_no"),
                Column(
                    "requests",
                    'sum by (proxy) (rate(haproxy_backend_http_requests_total{proxy=~"$page"}[5m]))',
                    "reqps",
                ),
                Column(
                    "first byte after",
                    'max by (proxy) (haproxy_backend_response_time_average_seconds{proxy=~"$page"})',
                    "s",
                ),
                Column(
                    "failed in a day",
                    'sum by (proxy) (increase(haproxy_backend_http_responses_total{proxy=~"$page",code="5xx"}[24h]))',
                    "short",
                ),
                Column(
                    "out of service", 'max by (proxy) (haproxy_backend_downtime_seconds_total{proxy=~"$page"})', "s"
                ),
            )
        ],
        [
            curves(
                "Requests by page",
                "reqps",
                Query(
                    f'sum by (proxy) (rate(haproxy_backend_http_requests_total{{proxy=~"$page"}}{RATE}))', "{{proxy}}"
                ),
                stacked=True,
            ),
            curves(
                "Time to the first byte",
                "s",
                Query('haproxy_backend_response_time_average_seconds{proxy=~"$page"}', "{{proxy}}"),
                steps=rising(1, 2),
            ),
        ],
        [
            curves(
                "Redis: memory",
                "bytes",
                Query("redis_memory_used_bytes", "{{instance}}"),
                steps=rising(full * 0.8, full),
            ),
            curves("Redis: commands", "ops", Query(f"rate(redis_commands_processed_total{RATE})", "{{instance}}")),
            curves(
                "Redis: found",
                "percent",
                Query(HIT_RATIO, "{{instance}}"),
                steps=falling(50, 80),
                maximum=100,
                about="Of what was asked for.",
            ),
        ],
        *(
            [
                [
                    curves("Qdrant: vectors", "short", Query("collections_vector_total", "vectors")),
                    curves("Qdrant: collections", "short", Query("collections_total", "collections")),
                    curves(
                        "Qdrant: requests",
                        "reqps",
                        Query(f"sum by (status) (rate(rest_responses_total{{job='qdrant'}}{RATE}))", "{{status}}"),
                    ),
                ]
            ]
            if Qdrant.name in sources.services
            else []
        ),
        *(
            [
                [
                    number("n8n: active workflows", "max(n8n_active_workflow_count)", "none"),
                    number(
                        "n8n: workers",
                        f'count(up{{job="{N8nWorker.name}"}} == 1) or vector(0)',
                        "none",
                        Steps("red", ((1, "green"),)),
                    ),
                ],
                [
                    curves(
                        "n8n: executions an hour",
                        "short",
                        Query(f"3600 * rate(n8n_scaling_mode_queue_jobs_completed{RATE})", "done"),
                        Query(f"3600 * rate(n8n_scaling_mode_queue_jobs_failed{RATE})", "lost"),
                    ),
                    curves(
                        "n8n: queue",
                        "short",
                        Query("n8n_scaling_mode_queue_jobs_waiting", "waiting"),
                        Query("n8n_scaling_mode_queue_jobs_active", "under way"),
                        steps=Steps("transparent", ((settings.n8n.waiting_executions, "red"),)),
                        about="An alert begins at the red line.",
                    ),
                    curves(
                        "n8n: memory",
                        "bytes",
                        Query("n8n_process_resident_memory_bytes", "{{instance}}"),
                        about="Of the editor and of each worker.",
                    ),
                ],
            ]
            if N8n.name in sources.services
            else []
        ),
        *(
            [
                [
                    curves(
                        "Vault: requests",
                        "reqps",
                        Query(f"sum(rate(vault_core_handle_request_count{RATE}))", "requests"),
                        Query(f"sum(rate(vault_core_handle_login_request_count{RATE}))", "logins"),
                    ),
                    curves("Vault: leases", "short", Query("max(vault_expire_num_leases)", "leases")),
                    curves(
                        "Vault: entries of the log of accesses",
                        "short",
                        Query(f"sum(rate(vault_audit_log_request_count{RATE}))", "a second"),
                        Query(f"sum(rate(vault_audit_log_request_failure{RATE}))", "failed"),
                    ),
                ]
            ]
            if Vault.name in sources.services
            else []
        ),
        [
            curves(
                "Keycloak: memory", "bytes", Query("sum by (area) (jvm_memory_used_bytes)", "{{area}}"), stacked=True
            ),
            curves(
                "Keycloak: requests",
                "reqps",
                Query(f"sum by (status) (rate(http_server_requests_seconds_count{RATE}))", "{{status}}"),
            ),
            curves(
                "Keycloak: connections to its database",
                "short",
                Query("sum(agroal_active_count)", "in use"),
                Query("sum(agroal_awaiting_count)", "waited for"),
                steps=rising(15, 20),
            ),
        ],
        [
            curves("PostgreSQL: size", "bytes", Query("pg_database_size_bytes", "{{datname}}"), stacked=True),
            curves(
                "Alerts",
                "short",
                *(
                    Query(f'count(ALERTS{{alertstate="firing",severity="{severity}"}}) or vector(0)', severity)
                    for severity in ("critical", "warning", "info")
                ),
            ),
            curves(
                "Messages",
                "short",
                Query(f"sum(increase(alertmanager_notifications_total{RATE}))", "sent"),
                Query(f"sum(increase(alertmanager_notifications_failed_total{RATE}))", "failed"),
                steps=NONE_ALLOWED,
            ),
        ],
        [
            curves("Prometheus: series", "short", Query("prometheus_tsdb_head_series", "series")),
            curves(
                "Prometheus: memory",
                "bytes",
                Query('process_resident_memory_bytes{job="prometheus"}', "used"),
                steps=rising((settings.monitoring.memory_mb << 20) * 0.8, settings.monitoring.memory_mb << 20),
            ),
            curves(
                "Prometheus: measuring takes",
                "s",
                Query("max by (job) (scrape_duration_seconds)", "{{job}}"),
                steps=rising(1, settings.monitoring.scrape_seconds),
            ),
        ],
        hours=6,
        choices=[choice("page", "Page", 'haproxy_backend_status{proxy!~"ollama.*|unknown"}', "proxy")],
    )
