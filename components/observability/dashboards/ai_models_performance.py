"""Performance of the models: how many requests, how quickly they are answered, and how many fail."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability.dashboards.panels import (
    RATE,
    Query,
    Sources,
    Steps,
    board,
    curves,
    falling,
    number,
    rising,
)

RESPONSES = "haproxy_frontend_http_responses_total"
ANSWERED = f'sum(increase({RESPONSES}{{proxy="models",code="2xx"}}[$__range]))'
ALL = f'sum(increase({RESPONSES}{{proxy="models",code=~"2xx|5xx"}}[$__range]))'


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
                Query(f'sum by (code) (3600 * rate({RESPONSES}{{proxy="models",code=~"[245]xx"}}{RATE}))', "{{code}}"),
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
