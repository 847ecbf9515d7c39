"""Performance of the models: how many requests, how quickly they are answered, and how many fail."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards.panels import (
    RATE,
    Column,
    Query,
    Sources,
    Steps,
    board,
    curves,
    falling,
    number,
    rising,
    rows,
)

RESPONSES = "haproxy_backend_http_responses_total"
ANSWERED = "sum(increase(ollama_answer_seconds_count[$__range]))"
ALL = f'({ANSWERED} + (sum(increase({RESPONSES}{{proxy="ollama",code="5xx"}}[$__range])) or vector(0)))'
TOKENS = f"sum by (model) (rate(ollama_generated_tokens_total{RATE}))"
GENERATING = f"sum by (model) (rate(ollama_generated_seconds_total{RATE}))"


def share(part: float, of: str, label: str = "model") -> str:
    """Return within how many seconds a part of all requests came so far, by model or by who asked."""
    return f"histogram_quantile({part}, sum by (le, {label}) (rate({of}_bucket{RATE})))"


def dashboard(sources: Sources) -> Dashboard:
    """Return the dashboard. Requests are measured where they pass, in the models' queue."""
    slow = sources.settings.monitoring.answer_seconds
    quickness = rising(slow / 2, slow)
    average = 'haproxy_backend_response_time_average_seconds{proxy="ollama"}'
    longest = 'haproxy_backend_max_response_time_seconds{proxy="ollama"}'
    return board(
        "ai-models-performance",
        "Performance of the models",
        "How many requests the models answer, how quickly, and how many fail.",
        [
            number("Answered", ANSWERED, "short", about="In the time span that is shown."),
            number("Answered of all", f"100 * {ANSWERED} / ({ALL} > 0)", "percent", falling(99, 99.9)),
            number("First byte after", average, "s", quickness, "Average of the last 1024 requests."),
            number("Longest wait for it", longest, "s", quickness, "Since the proxy was started."),
            number(
                "In all",
                'haproxy_backend_total_time_average_seconds{proxy="ollama"}',
                "s",
                about="Average of the last 1024.",
            ),
            number(
                "Bytes answered", 'sum(increase(haproxy_backend_bytes_out_total{proxy="ollama"}[$__range]))', "bytes"
            ),
        ],
        [
            curves(
                "Requests an hour",
                "short",
                Query(f'sum by (code) (3600 * rate({RESPONSES}{{proxy="ollama",code=~"[245]xx"}}{RATE}))', "{{code}}"),
                stacked=True,
                about="2xx was answered, 4xx refused for what it asked, 5xx failed or found the queue full.",
            ),
            curves(
                "Time to the first byte",
                "s",
                Query(average, "average"),
                Query('haproxy_server_response_time_average_seconds{proxy="ollama"}', "{{server}}"),
                steps=quickness,
            ),
        ],
        [
            curves(
                "Tokens a second",
                "short",
                Query(f"{TOKENS} / {GENERATING}", "{{model}}"),
                about="Of one answer: what is generated, by the time that this takes.",
            ),
            curves(
                "First byte by model",
                "s",
                *(Query(share(part, "ollama_first_byte_seconds"), f"{{{{model}}}} {part:.0%}") for part in (0.5, 0.95)),
                steps=quickness,
                about="Half of the answers, and 19 of 20, begin within this time. Waiting in the queue is part of it.",
            ),
            curves(
                "Whole answer by model",
                "s",
                *(Query(share(part, "ollama_answer_seconds"), f"{{{{model}}}} {part:.0%}") for part in (0.5, 0.95)),
            ),
        ],
        [
            curves(
                "Answers an hour by model",
                "short",
                Query(f"sum by (model) (3600 * rate(ollama_answer_seconds_count{RATE}))", "{{model}}"),
                stacked=True,
            ),
            curves(
                "Time in the queue by who asks",
                "s",
                Query(share(0.95, "ollama_queue_seconds", "consumer"), "{{consumer}}"),
                about="19 of 20 waited less. People at the chat come before programs.",
            ),
            rows(
                "Models",
                "model",
                "model",
                Column("answers", "sum by (model) (increase(ollama_answer_seconds_count[$__range]))", "short"),
                Column("tokens read", "sum by (model) (increase(ollama_prompt_tokens_total[$__range]))", "short"),
                Column(
                    "tokens generated", "sum by (model) (increase(ollama_generated_tokens_total[$__range]))", "short"
                ),
                Column("loading", "sum by (model) (increase(ollama_load_seconds_total[$__range]))", "s"),
                about="In the time span that is shown.",
            ),
        ],
        [
            curves(
                "Given up by the asking side",
                "short",
                Query(f'sum(increase(haproxy_backend_client_aborts_total{{proxy="ollama"}}{RATE}))', "given up"),
                about="People who closed the page or stopped an answer.",
            ),
            curves(
                "Failures on the way",
                "short",
                Query(
                    f'sum(increase(haproxy_backend_connection_errors_total{{proxy="ollama"}}{RATE}))', "no connection"
                ),
                Query(
                    f'sum(increase(haproxy_backend_response_errors_total{{proxy="ollama"}}{RATE}))', "broken answers"
                ),
                Query(f'sum(increase(haproxy_backend_retry_warnings_total{{proxy="ollama"}}{RATE}))', "tried again"),
                steps=Steps("green", ((1, "red"),)),
            ),
            curves(
                "Forbidden",
                "short",
                Query(f'sum(increase(haproxy_frontend_requests_denied_total{{proxy="models"}}{RATE}))', "requests"),
                about="Calls that would change the models, which only the deployment does.",
            ),
        ],
        [
            curves(
                "The chat's own requests",
                "reqps",
                Query(
                    f'sum by (code) (rate(haproxy_backend_http_responses_total{{proxy="chat",code=~"[2345]xx"}}{RATE}))',
                    "{{code}}",
                ),
                stacked=True,
            ),
            curves(
                "The chat's answering times",
                "s",
                Query('haproxy_backend_response_time_average_seconds{proxy="chat"}', "first byte"),
                Query('haproxy_backend_total_time_average_seconds{proxy="chat"}', "in all"),
                steps=rising(1, 2),
                about="The aim is less than 2 s.",
            ),
        ],
    )
