"""How each gateway is started: one that serves `MODEL` from the upstream, on one core, without a log of requests."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from gateways.bodies import MODEL
from gateways.install import CACHE

KEY = "sk-bench-1234"
NGINX = """
worker_processes 1; daemon off; master_process off; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log off; client_max_body_size 50m; client_body_buffer_size 128k;
  client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000; keepalive_timeout 3600;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; keepalive_timeout 3600; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""
LOOPBACK = """
import net from "node:net"
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, _, ...rest) { return listen.call(this, port, "127.0.0.1", ...rest) }
"""
"""Portkey would listen on every address."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a gateway is to be: its port, a second one for those who insist on it, the upstream's, an empty folder."""

    port: int
    second_port: int
    upstream: int
    folder: Path


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How to start it and what to tell it. `headers` is called once it answers."""

    command: list[str]
    environment: dict[str, str] = {}
    headers: Callable[[], dict[str, str]] = dict


def bearer() -> dict[str, str]:
    return {"authorization": f"Bearer {KEY}"}


def narthex(place: Place) -> Launch:
    """As users start it: supervisor, one worker, keys in its store. Only the embedded models are left out."""
    settings = {
        "engine": {"default": None},
        "embedder": {"default": None},
        "providers": {"bench": {"base_url": f"http://127.0.0.1:{place.upstream}/v1", "api_key": "sk-upstream"}},
        "models": [{"name": MODEL, "deployments": [f"bench/{MODEL}"]}],
    }
    config = place.folder / "narthex.yaml"
    config.write_text(json.dumps(settings))
    data = place.folder / "data"
    key = data / "admin.key"
    command = [sys.executable, "-m", "narthex", "serve", "--data", str(data), "--config", str(config)]

    def headers() -> dict[str, str]:
        return {"authorization": f"Bearer {key.read_text().strip()}"} if key.exists() else {}

    return Launch(command=[*command, "--port", str(place.port)], headers=headers)


def floor(place: Place) -> Launch:
    return Launch(command=[sys.executable, "-m", "gateways.floor", str(place.port), str(place.upstream)])


def nginx(place: Place) -> Launch:
    """A bare reverse proxy: no keys, no JSON."""
    config = place.folder / "nginx.conf"
    config.write_text(NGINX.format(folder=place.folder, port=place.port, upstream=place.upstream))
    binary = CACHE / "nginx" / "usr" / "sbin" / "nginx"
    return Launch(command=[str(binary), "-c", str(config), "-p", str(place.folder), "-e", "stderr"])


def litellm(place: Place) -> Launch:
    to = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{place.upstream}/v1", "api_key": "sk-upstream"}
    settings = {
        "model_list": [{"model_name": MODEL, "litellm_params": to}],
        "litellm_settings": {"request_timeout": 600, "telemetry": False},
        "general_settings": {"master_key": KEY},
        "router_settings": {"num_retries": 0},
    }
    config = place.folder / "litellm.yaml"
    config.write_text(json.dumps(settings))
    command = [str(CACHE / "litellm" / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    return Launch(
        command=[*command, "--port", str(place.port), "--num_workers", "1"],
        environment={
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would fetch it
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_TELEMETRY": "False",
            "NO_PROXY": "*",
        },
        headers=bearer,
    )


def portkey(place: Place) -> Launch:
    """It knows no keys of its own: callers say where to and with which."""
    loopback = place.folder / "loopback.mjs"
    loopback.write_text(LOOPBACK)
    script = CACHE / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    to = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{place.upstream}/v1"}
    return Launch(
        command=["node", "--import", str(loopback), str(script), "--headless", f"--port={place.port}"],
        environment={"NODE_ENV": "production"},
        headers=lambda: {"authorization": "Bearer sk-upstream", **to},
    )


def vllm_router(place: Place) -> Launch:
    return Launch(
        command=[
            str(CACHE / "vllm-router" / "bin" / "vllm-router"),
            *("--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(place.second_port)),
            *("--worker-urls", f"http://127.0.0.1:{place.upstream}", "--policy", "round_robin"),
            *("--log-level", "error", "--api-key", KEY),
        ],
        environment={"TOKIO_WORKER_THREADS": "1"},
        headers=bearer,
    )


def smg(place: Place) -> Launch:
    return Launch(
        command=[
            *(str(CACHE / "smg" / "bin" / "smg"), "launch", "--backend", "openai"),
            *("--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(place.second_port)),
            *("--worker-urls", f"http://127.0.0.1:{place.upstream}", "--policy", "round_robin"),
            *("--log-level", "error", "--history-backend", "none", "--max-concurrent-requests", "2000"),
        ],
        environment={"TOKIO_WORKER_THREADS": "1", "OPENAI_API_KEY": "sk-upstream"},
        headers=bearer,
    )


OURS = "narthex"
PEERS: dict[str, Callable[[Place], Launch]] = {
    "floor": floor,
    "nginx": nginx,
    "vllm-router": vllm_router,
    "smg": smg,
    "portkey": portkey,
    "litellm": litellm,
}
SIDES: dict[str, Callable[[Place], Launch]] = {OURS: narthex, **PEERS}
