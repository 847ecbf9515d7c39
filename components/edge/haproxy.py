"""HAProxy: the only way in, and the queue in front of the models."""

import hashlib
import json

from components.ai import ollama
from components.context import HTTPS, Platform
from components.data import redis
from components.identity import sign_in_proxy
from components.images import HAPROXY, Image
from components.service import (
    FILES,
    SECRETS,
    TEMPORARY,
    Container,
    Health,
    Metrics,
    Network,
    PublishedPort,
    Route,
    Service,
    http_health,
)
from settings import ROOT, Role, Settings

METRICS_PORT = 8405
MODELS_METRICS_PATH = "/models/metrics"
QUEUE_PORT = 11434
"""Port of the models' queue: Ollama's own, so that clients need no other setting."""

ASSETS = ("/_app/", "/static/", "/assets/", "/resources/", "/public/", "/icons/")
"""Files that belong to a page. They do not count as requests: one page of the chat has more of them than the limit."""

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""For TLS 1.2: Mozilla's intermediate list without the slow ones."""

API_HOST = "api"

USER = "X-OpenWebUI-User-Id"
"""Header in which the chat says whose request it is."""

BATCH = 10
"""Class of requests that no person waits for; lower ones are served first."""

TURN_MILLISECONDS = 5000
"""How much later a request counts for each other one of the same person or program; HAProxy takes at most 524287 in all."""

INFORMATION = ("/api/ps", "/api/show", "/api/tags", "/api/version", "/v1/models")
"""Calls of Ollama that compute nothing. They need not wait until a model has answered others."""

SERVER = "server"
"""Parameter of such a call's address that names the server whose answer is wanted."""

BEGINNING = 4096
"""How many bytes of a request are waited for to learn which model it asks."""

EMBEDDINGS = ("/api/embed", "/api/embeddings", "/v1/embeddings")
"""Calls of Ollama whose answer to the same question is always the same."""

GENERATIONS = {
    "$.options": ("/api/chat", "/api/generate"),
    "$": ("/v1/chat/completions", "/v1/completions"),
}
"""Calls of Ollama whose answers differ, unless their options, which are there in the question, forbid it."""

KEPT_PORT = 6379
"""Where the proxy itself reaches Redis."""

QUESTIONS = (*EMBEDDINGS, *(path for group in GENERATIONS.values() for path in group), "/v1/messages", "/v1/responses")
"""Calls of Ollama that a model answers. These and ``INFORMATION`` are all that there is: others change models, which are the
deployment's business, and more may come with the next release of Ollama."""

PAGE = """\
HTTP/1.0 {status}\r
Content-Type: text/html; charset=utf-8\r
Cache-Control: no-store\r
Retry-After: {retry}\r
Connection: close\r
\r
<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{font:16px/1.6 system-ui,sans-serif;max-width:32em;margin:20vh auto;padding:0 1em;color:#222;background:#fafafa}}
@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}}}</style>
<h1>{title}</h1><p>{text}</p></html>
"""


class Haproxy(Service):
    """The reverse proxy: TLS, routing by host name, limits, health of the services."""

    name = "haproxy"
    area = "edge"

    @property
    def image(self) -> Image:
        """HAProxy 3.0, the long-term release."""
        return HAPROXY

    def routes(self) -> tuple[Route, ...]:
        """Return the address at which people's and the settings' programs use the models: the queue, behind the sign-in."""
        return (
            Route(
                host=API_HOST,
                port=QUEUE_PORT,
                health_path="/healthz",
                title="API of the models",
                path="/v1/models",
                roles=tuple(Role),
                programs=True,
            ),
        )

    def metrics(self) -> tuple[Metrics, ...]:
        """Return HAProxy's own metrics, and those of the models' answers that pass it."""
        return (Metrics(port=METRICS_PORT), Metrics(port=METRICS_PORT, path=MODELS_METRICS_PATH))

    def container(self, platform: Platform) -> Container:
        """Return the proxy's container. It starts first and finds the services by name when they come."""
        settings = self.settings
        return Container(
            command=("haproxy", "-W", "-db", "-f", f"{FILES}/haproxy.cfg"),
            files={
                "haproxy.cfg": configuration(platform),
                "models.lua": (ROOT / "services" / "haproxy" / "models.lua").read_text(encoding="utf-8"),
                "answers.lua": (ROOT / "services" / "haproxy" / "answers.lua").read_text(encoding="utf-8"),
                "keep-alive": _keep_alives(settings),
                "unavailable.http": PAGE.format(
                    status="503 Service Unavailable",
                    retry=10,
                    title="Not available just now",
                    text="This service is starting or being repaired. Please try again in a moment.",
                ),
                "busy.http": PAGE.format(
                    status="503 Service Unavailable",
                    retry=10,
                    title="The models are busy",
                    text="Too many requests are waiting for an answer. Please try again in a moment.",
                ),
            },
            secrets={
                "certificate.pem": platform.certificates.bundle,
                "answers-password": platform.secret(redis.ANSWERS_PASSWORD),
            },
            health=Health(command=http_health(METRICS_PORT, "/healthz"), interval_seconds=5, start_seconds=20),
            networks=(Network.EDGE, Network.APPLICATIONS, Network.CACHE, Network.MODELS, Network.OBSERVABILITY),
            aliases=tuple(sorted({platform.host(route.host) for route in platform.routes()})),
            ports=(
                PublishedPort(internal=settings.http_port, external=settings.http_port, address="0.0.0.0"),  # noqa: S104
                PublishedPort(internal=settings.https_port, external=settings.https_port, address="0.0.0.0"),  # noqa: S104
            ),
            user="99",
            memory_mb=settings.edge.memory_mb,
            temporary={TEMPORARY: 8},
            stop_seconds=10,
        )


def _server(service: Service, route: Route) -> str:
    """Return name and address of what answers at a host."""
    if route.roles:
        return f"{sign_in_proxy.SignInProxy.name} {sign_in_proxy.SignInProxy.name}:{sign_in_proxy.PORT}"
    return f"{service.name} {service.name}:{route.port}"


def _open(route: Route) -> str:
    """Return the name of the backend of what is reached past the sign-in proxy."""
    return f"{route.host}-open"


def _chosen(platform: Platform, route: Route) -> str:
    """Return the lines that choose a backend for the requests to a host."""
    named = f"{{ hdr(host),field(1,:) -i {platform.host(route.host)} }}"
    past = f"    use_backend {_open(route)} if {named} {{ path_beg {' '.join(route.open_paths)} }}\n"
    return (past if route.open_paths else "") + f"    use_backend {route.host} if {named}"


def _backend(platform: Platform, route: Route, name: str, server: str, rules: str = "") -> str:
    return f"""
backend {name}
    option httpchk
    http-check send meth GET uri {route.health_path} ver HTTP/1.1 hdr Host {platform.host(route.host)}
    http-check expect status 200
{rules}    server {server}
"""


def _measurements_hidden(service: Service, route: Route) -> str:
    """Return the line that keeps measurements inside where a service shows them at the port of its pages."""
    paths = sorted({metrics.path for metrics in service.metrics() if metrics.port == route.port})
    return (
        f"    http-request deny deny_status 404 if {{ path {' '.join(paths)} }}\n" if paths and not route.roles else ""
    )


def _keep_alives(settings: Settings) -> str:
    """Return the file that says how long models stay in memory, for those that differ from the others."""
    return "".join(f"{model} {time}\n" for model, time in ollama.keep_alives(settings.models).items())


def _models(settings: Settings) -> str:
    """Return a text that differs when the models' answers may: those kept before count no more."""
    names = ("name", "file", "url", "sha256", "digest", "context_length", "temperature", "answer_tokens")
    models = [[getattr(model, name) for name in names] for model in settings.models]
    shared = [settings.ollama.context_length, settings.ollama.flash_attention, settings.ollama.cache_type]
    return hashlib.sha256(json.dumps([models, shared]).encode()).hexdigest()[:16]


def _kept(settings: Settings) -> str:
    """Return the lines that answer from what was kept, before a question takes a place in the queue."""
    if not settings.ollama.kept_answer_minutes:
        return ""
    lines = [
        "filter lua.answers",
        # All of the question: as much as fits into the proxy's memory for it.
        f"http-request wait-for-body time 10s if METH_POST {{ path {' '.join(QUESTIONS)} }}",
        f"http-request lua.find-answer if METH_POST {{ path {' '.join(EMBEDDINGS)} }}",
    ]
    for options, group in GENERATIONS.items():
        asked = f"METH_POST {{ path {' '.join(group)} }}"
        lines += [
            f"http-request lua.find-answer if {asked} {{ req.body,json_query('{options}.temperature') -m str 0 0.0 }}",
            f"http-request lua.find-answer if {asked} !{{ var(txn.question) -m found }} !{{ var(txn.answer) -m found }}"
            f" {{ req.body,json_query('{options}.seed') -m found }}",
        ]
    lines.append("http-request use-service lua.kept-answer if { var(txn.answer) -m found }")
    return "".join(f"    {line}\n" for line in lines)


def _asked(server: str) -> str:
    """Return the condition that a call names a server of Ollama."""
    return f"{{ url_param({SERVER}) -m str {server} }}"


def configuration(platform: Platform) -> str:
    """Return ``haproxy.cfg``; it holds no secret."""
    settings = platform.settings
    edge = settings.edge
    routes = [(service, route) for service in platform.services.values() for route in service.routes()]
    hosts = "\n".join(_chosen(platform, route) for _, route in routes)
    backends = "\n".join(
        _backend(platform, route, route.host, _server(service, route), _measurements_hidden(service, route))
        for service, route in routes
    )
    backends += "\n".join(
        _backend(platform, route, _open(route), f"{service.name} {service.name}:{route.port}")
        for service, route in routes
        if route.open_paths
    )
    hsts = (
        f'    http-response set-header Strict-Transport-Security "max-age={edge.hsts_days * 86400}"\n'
        if edge.hsts_days
        else ""
    )
    servers = ollama.servers(settings.ollama)
    models = "\n".join(
        f"    server {name} {name}:{QUEUE_PORT} maxconn {settings.ollama.requests_in_flight}" for name in servers
    )
    information = "\n".join(
        (
            # No other server may answer in the place of one that is down.
            *(
                f"    http-request return status 503 if {_asked(name)} !{{ srv_is_up(ollama/{name}) }}"
                for name in servers
            ),
            *(f"    use-server {name} if {_asked(name)}" for name in servers),
            *(f"    server {name} {name}:{QUEUE_PORT} no-check track ollama/{name}" for name in servers),
        )
    )
    places = settings.ollama.requests_in_flight * len(servers)
    half = -(-settings.ollama.queue_length // 2)
    # The beginning of a request names the model; it is needed before the length of the request, which changes, is passed on.
    told = (
        f"    http-request wait-for-body time 10s at-least {BEGINNING} if METH_POST\n" if _keep_alives(settings) else ""
    )
    port = f":{settings.https_port}" if settings.https_port != HTTPS else ""
    return f"""\
global
    maxconn 4096
    log stdout format raw local0 info
    lua-load {FILES}/models.lua {FILES}/keep-alive
    lua-load {FILES}/answers.lua {KEPT_PORT} {SECRETS}/answers-password {settings.ollama.kept_answer_minutes * 60} {_models(settings)}
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
    ssl-default-bind-ciphers {":".join(CIPHERS)}

resolvers docker
    nameserver docker 127.0.0.11:53
    resolve_retries 3
    timeout retry 1s
    hold valid 10s
    hold obsolete 10s

defaults
    mode http
    log global
    option httplog
    option dontlognull
    option redispatch
    retries 3
    timeout connect 5s
    timeout http-request 10s
    timeout http-keep-alive 10s
    timeout queue 30s
    timeout client {edge.server_timeout_seconds}s
    timeout server {edge.server_timeout_seconds}s
    timeout tunnel {edge.tunnel_timeout_seconds}s
    errorfile 503 {FILES}/unavailable.http
    # A server that accepts connections and says nothing is out after three times 2 s with 1 s between them.
    timeout check 2s
    default-server check inter 3s fastinter 1s fall 3 rise 2 init-addr none resolvers docker resolve-prefer ipv4

frontend http
    bind :{settings.http_port}
    http-request redirect code 308 location https://%[hdr(host),field(1,:)]{port}%[capture.req.uri]

frontend https
    bind :{settings.https_port} ssl crt {SECRETS}/certificate.pem alpn h2,http/1.1
    http-request capture hdr(host) len 64
    stick-table type ipv6 size 100k expire 30s store http_req_rate(10s)
    http-request track-sc0 src unless {{ path_beg {" ".join(ASSETS)} }}
    acl too_many sc_http_req_rate(0) gt {edge.requests_per_10_seconds}
    # Denied and not returned: only those are counted.
    http-request deny deny_status 429 content-type text/plain string "Too many requests." hdr Retry-After 10 if too_many
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-Host %[hdr(host)]
    http-request set-header X-Forwarded-Port {settings.https_port}
    http-request del-header Forwarded
    # Who asks is for the services to say, not for whoever comes from outside.
    http-request del-header {USER}
    http-request del-header {sign_in_proxy.USER}
{hsts}    http-response set-header X-Content-Type-Options nosniff
{hosts}
    default_backend unknown

backend unknown
    http-request return status 404 content-type text/plain string "No service has this name."
{backends}
frontend models
    bind :{QUEUE_PORT}
    monitor-uri /healthz
    monitor fail if {{ nbsrv(ollama) lt 1 }}
    filter lua.models
    http-request deny deny_status 403 unless {{ path / {" ".join((*INFORMATION, *QUESTIONS))} }} or {{ path_beg /v1/models/ }}
{_kept(settings)}{told}    use_backend ollama-information unless {{ path {" ".join(QUESTIONS)} }}
    default_backend ollama

backend ollama
    # People at the chat come before programs, and between people, and between programs, a turn each: who has requests under way
    # already, waits as if each of them had come later.
    stick-table type string len 64 size 10k expire 10m store conn_cur
    acl person req.hdr({USER}) -m found
    acl program req.hdr({sign_in_proxy.USER}) -m found
    http-request track-sc1 req.hdr({USER}) if person
    http-request track-sc1 req.hdr({sign_in_proxy.USER}) if program !person
    # Services of the platform say nobody: each of them is known by its address.
    http-request track-sc1 src if !person !program
    http-request set-priority-class int({BATCH}) unless person
    http-request set-priority-offset sc_conn_cur(1),sub(1),mul({TURN_MILLISECONDS})
    # Half of the queue's places are for people, and nobody may have more than half.
    acl full queue(ollama) ge {settings.ollama.queue_length}
    acl half-full queue(ollama) ge {half}
    acl many sc_conn_cur(1) gt {half + places}
    http-request return status 503 content-type text/plain string "The queue is full." hdr Retry-After 10 if full
    http-request return status 503 content-type text/plain string "The queue is full." hdr Retry-After 10 if half-full !person
    http-request return status 503 content-type text/plain string "Too many of your questions wait." hdr Retry-After 10 if many
    # Who has left does not wait any more.
    option abortonclose
    timeout queue {settings.ollama.queue_timeout_seconds}s
    errorfile 503 {FILES}/busy.http
    option httpchk GET /api/version
    # Where the fewest are under way. Who finds all servers busy waits in one queue for them all.
    balance leastconn
{models}

backend ollama-information
    timeout server 10s
    # Always the same one where nobody asks for another, so that answers do not change to and fro.
    balance first
{information}

# For answers.lua: the proxy finds Redis and knows whether it is there, which a script cannot without holding up everything.
listen kept-answers
    bind 127.0.0.1:{KEPT_PORT}
    mode tcp
    no log
    timeout connect 200ms
    timeout client 10s
    timeout server 10s
    server redis redis:{redis.PORT} check

frontend statistics
    bind :{METRICS_PORT}
    option dontlog-normal
    monitor-uri /healthz
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request use-service lua.models-metrics if {{ path {MODELS_METRICS_PATH} }}
    stats enable
    stats uri /stats
"""
