"""Optimisation of Ollama: what its settings are, and what they do to waiting times and memory."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards.panels import (
    CPU,
    MEMORY,
    NONE_ALLOWED,
    RATE,
    Query,
    Sources,
    bars,
    board,
    curves,
    note,
    number,
    rising,
    state,
)
from settings import Ollama


def dashboard(sources: Sources) -> Dashboard:
    """Return the dashboard."""
    limits, chosen = sources.settings.monitoring, sources.settings.ollama
    places = chosen.requests_in_flight * chosen.replicas
    in_use = f'100 * haproxy_backend_current_sessions{{proxy="ollama"}} / {places}'
    return board(
        "ollama-optimization-monitoring",
        "Optimisation of Ollama",
        "Whether more requests at once, more loaded models or a longer queue would help.",
        [
            state("Ollama", 'max(haproxy_server_status{proxy="ollama",state="UP"})'),
            number("Places in use", in_use, "percent", rising(80, 100), "Of the requests that are answered at once."),
            number(
                "Longest queue",
                'haproxy_backend_max_queue{proxy="ollama"}',
                "none",
                rising(1, limits.waiting_requests),
                "Since the proxy was started.",
            ),
            number(
                "Longest wait",
                'haproxy_backend_max_queue_time_seconds{proxy="ollama"}',
                "s",
                rising(chosen.queue_timeout_seconds / 2, chosen.queue_timeout_seconds),
                "In the queue, since the proxy was started.",
            ),
            number(
                "Refused in a day",
                'sum(increase(haproxy_backend_http_responses_total{proxy="ollama",code="5xx"}[24h]))',
                "short",
                NONE_ALLOWED,
            ),
            number(
                "Answers not computed",
                'sum(increase(ollama_kept_answers_total{result="hit"}[24h]))',
                "short",
                about="In a day: they cannot differ from an earlier one, which Redis had kept.",
            ),
        ],
        [
            curves("Places in use", "percent", Query(in_use, "in use"), steps=rising(80, 100), maximum=100),
            curves(
                "Waiting",
                "s",
                Query('haproxy_backend_queue_time_average_seconds{proxy="ollama"}', "in the queue"),
                Query('haproxy_backend_response_time_average_seconds{proxy="ollama"}', "to the first byte"),
                steps=rising(limits.answer_seconds / 2, limits.answer_seconds),
                about="A model that is loaded for a request makes the first byte late: try a longer aikit:ollama-keep-alive.",
            ),
        ],
        [
            bars(
                "Machine",
                "percent",
                Query(
                    f'label_replace({CPU}, "what", "processor", "", "") or label_replace({MEMORY}, "what", "memory", "", "")',
                    "{{what}}",
                ),
                rising(limits.memory_percent, limits.memory_critical_percent),
            ),
            curves("Processor and memory", "percent", Query(CPU, "processor"), Query(MEMORY, "memory"), maximum=100),
            curves(
                "Read from the disk",
                "Bps",
                Query(f"sum(rate(node_disk_read_bytes_total{RATE}))", "read"),
                about="Loading a model reads it as a whole.",
            ),
        ],
        [note("Settings", _settings(chosen))],
        hours=6,
    )


def _settings(chosen: Ollama) -> str:
    """Return the settings in force, as a table in Markdown."""
    lines = {
        "ollama-replicas": chosen.replicas,
        "ollama-max-loaded-models": chosen.max_loaded_models,
        "ollama-parallel-requests": chosen.parallel_requests,
        "ollama-requests-in-flight": chosen.requests_in_flight,
        "ollama-queue-length": chosen.queue_length,
        "ollama-keep-alive": chosen.keep_alive,
        "ollama-kept-answer-minutes": chosen.kept_answer_minutes,
        "ollama-context-length": chosen.context_length,
        "ollama-flash-attention": chosen.flash_attention,
        "ollama-cache-type": chosen.cache_type,
        "ollama-memory-mb": chosen.memory_mb,
        "ollama-cpus": chosen.cpus,
    }
    return "\n".join(
        ["| setting | value |", "|---|---|", *(f"| aikit:{name} | {value} |" for name, value in lines.items())]
    )
