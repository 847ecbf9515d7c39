"""Ollama: the server of the models, as the queue in front of it sees it."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards.panels import (
    CPU,
    MEMORY,
    NONE_ALLOWED,
    RATE,
    Query,
    Sources,
    Steps,
    board,
    curves,
    number,
    rising,
    state,
)


def dashboard(sources: Sources) -> Dashboard:
    """Return the dashboard."""
    limits = sources.settings.monitoring
    chosen = sources.settings.ollama
    in_flight = chosen.requests_in_flight * chosen.replicas
    # Which server it is matters where there are several.
    at = " at {{server}}" if chosen.replicas > 1 else ""
    waiting = rising(1, limits.waiting_requests)
    return board(
        "ollama-dashboard",
        "Ollama: the models' server",
        "Whether the models can be reached, how much they are used, and how long people wait.",
        [
            state("Ollama", 'max(haproxy_server_status{proxy="ollama",state="UP"})'),
            number(
                "Servers",
                'haproxy_backend_active_servers{proxy="ollama"}',
                "none",
                Steps("red", tuple({1: "yellow", chosen.replicas: "green"}.items())),
                f"That answer, of {chosen.replicas}.",
            ),
            number(
                "Answering",
                'haproxy_backend_current_sessions{proxy="ollama"}',
                "none",
                rising(in_flight, in_flight + 1),
            ),
            number("Waiting", 'haproxy_backend_current_queue{proxy="ollama"}', "none", waiting),
            number(
                "Requests in the last hour",
                'sum(increase(haproxy_backend_http_requests_total{proxy="ollama"}[1h]))',
                "short",
            ),
            number(
                "Refused in the last hour",
                'sum(increase(haproxy_backend_http_responses_total{proxy="ollama",code="5xx"}[1h]))',
                "short",
                NONE_ALLOWED,
            ),
            number("Out of service", 'haproxy_backend_downtime_seconds_total{proxy="ollama"}', "s"),
        ],
        [
            curves(
                "Requests",
                "reqps",
                Query(
                    f'sum by (code) (rate(haproxy_backend_http_responses_total{{proxy="ollama",code!="1xx"}}{RATE}))',
                    "{{code}}",
                ),
                stacked=True,
            ),
            curves(
                "Answering and waiting",
                "short",
                Query('haproxy_backend_current_sessions{proxy="ollama"}', "answering"),
                Query('haproxy_backend_current_queue{proxy="ollama"}', "waiting"),
                steps=Steps("transparent", ((in_flight, "blue"), (limits.waiting_requests, "red"))),
                about=f"{in_flight} are answered at once (blue); an alert begins at the red line.",
            ),
        ],
        [
            curves(
                "Time of an answer",
                "s",
                Query('haproxy_backend_queue_time_average_seconds{proxy="ollama"}', "in the queue"),
                Query('haproxy_backend_response_time_average_seconds{proxy="ollama"}', "to the first byte"),
                Query('haproxy_backend_total_time_average_seconds{proxy="ollama"}', "in all"),
                steps=rising(limits.answer_seconds, limits.answer_seconds * 2),
                about="Averages of the last 1024 requests.",
            ),
            curves(
                "Text in and out",
                "Bps",
                Query(f'sum(rate(haproxy_backend_bytes_in_total{{proxy="ollama"}}{RATE}))', "questions"),
                Query(f'sum(rate(haproxy_backend_bytes_out_total{{proxy="ollama"}}{RATE}))', "answers"),
            ),
        ],
        [
            curves(
                "Machine",
                "percent",
                Query(CPU, "processor"),
                Query(MEMORY, "memory"),
                maximum=100,
                steps=rising(limits.cpu_percent, limits.cpu_critical_percent),
            ),
            curves(
                "Memory of the loaded models",
                "bytes",
                Query("ollama_model_memory_bytes", "{{model}}" + at),
                Query("ollama_model_gpu_memory_bytes", "{{model}} on the graphics card" + at),
                about="A model that nobody asked for during aikit:ollama-keep-alive, or its own keep_alive, is unloaded.",
            ),
            curves(
                "Requests by server",
                "short",
                Query('haproxy_server_current_sessions{proxy="ollama"}', "{{server}}"),
                about=f"Each answers {chosen.requests_in_flight} at once at most.",
            ),
            curves(
                "Checks of Ollama that failed",
                "short",
                Query(
                    f'sum by (server) (increase(haproxy_server_check_failures_total{{proxy="ollama"}}{RATE}))',
                    "{{server}}",
                ),
                steps=NONE_ALLOWED,
            ),
        ],
    )
