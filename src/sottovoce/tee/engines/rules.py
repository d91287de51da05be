"""How a server has to be started so that it keeps nothing of a session and shares nothing between two (docs/engines.md).

A command line is judged by an allow-list: what is not named here is refused, as a flag that nobody has looked at may log, cache or send.
What protects is asked for in so many words, so that no default of a later version can turn it off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["KEEP_ALIVE", "RULES", "Flag", "Need", "Rules"]

KEEP_ALIVE: Final = 600
"""Seconds for which a server must leave an idle connection open: as long as a session may last (`LIMITS.session_total`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A known flag: whether a value follows, and which ones are allowed if not all."""

    value: bool = True
    only: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One of these must be there: flags as `--name` or `--name=value`, environment variables as `NAME=value`."""

    one_of: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules for one kind of server.

    Attributes:
        starts: how its command line begins after the interpreter: the last part of a path, or `-m` and a module.
        python: whether an interpreter runs it.
        version_at: where it tells its version, if it does.
        versions: the first two numbers of the versions that were read.
        positional: whether the model may be the argument after the command.
        flags: every flag that it may be started with.
        needs: the flags that it must be started with.
        refused: flags of which the message says more than that they are unknown.
        environment: the variables that it may have, beside `COMMON`, with the values allowed if not all.
        environment_needs: the variables that it must have.
        numbers: variables that must be a whole number of at least so much.
        salted: whether it takes `cache_salt`.
        grammar: the fields, each in the one before, in which it takes a grammar.
        states: what it must say of itself: where, then field by field.
        metric: how a line of `/metrics` begins, of which there is at least one, and what must stand in each.
        idle: seconds after which an idle connection must still be open, where no variable says for how long it is.
        wires: connections of a session. An answer that is left early costs one, as only its end tells the server to stop.
    """

    starts: tuple[tuple[str, ...], ...]
    python: bool
    version_at: str = ""
    versions: tuple[str, ...] = ()
    positional: bool = False
    flags: Mapping[str, Flag]
    needs: tuple[Need, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, frozenset[str]] = field(default_factory=dict)
    environment_needs: tuple[Need, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    salted: bool
    grammar: tuple[str, ...]
    states: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    metric: tuple[str, ...] = ()
    idle: float = 0.0
    wires: int = 4


_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_CACHE: Final = "it shares a cache between sessions"
_MOVES: Final = "it moves or publishes what sessions leave in the cache"
_LOGS: Final = "it logs requests or traces them"
_SPECULATES: Final = "speculation keeps state between requests"
_CODE: Final = "it runs code that comes with the model, or that nobody has read"
_HIDES: Final = "it takes flags from where they cannot be seen"


def _flags(
    values: str, switches: str = "", *, only: Mapping[str, frozenset[str]] | None = None
) -> dict[str, Flag]:
    found = {f"--{name}": Flag() for name in values.split()}
    found |= {f"--{name}": Flag(value=False) for name in switches.split()}
    return found | {f"--{name}": Flag(only=allowed) for name, allowed in (only or {}).items()}


def _refused(*reasons: tuple[str, str]) -> dict[str, str]:
    return {f"--{name}": reason for reason, names in reasons for name in names.split()}


def _any(names: str) -> dict[str, frozenset[str]]:
    return dict.fromkeys(names.split(), frozenset())


COMMON: Final[Mapping[str, frozenset[str]]] = _any(
    "PATH HOME USER LOGNAME SHELL PWD OLDPWD SHLVL _ HOSTNAME LANG LANGUAGE LC_ALL LC_CTYPE TZ TERM TMPDIR VIRTUAL_ENV"
    " INVOCATION_ID SYSTEMD_EXEC_PID MEMORY_PRESSURE_WATCH MEMORY_PRESSURE_WRITE"
    " OMP_NUM_THREADS CUDA_HOME CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES LD_LIBRARY_PATH"
)
_PYTHON: Final[Mapping[str, frozenset[str]]] = _any(
    "PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE PYTHONHASHSEED PYTHONNOUSERSITE XDG_CACHE_HOME HF_HOME"
    " TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR DO_NOT_TRACK HF_HUB_DISABLE_TELEMETRY HF_HUB_OFFLINE TRANSFORMERS_OFFLINE"
)
_OFFLINE: Final = Need(one_of=("HF_HUB_OFFLINE=1",), why="the model hub is asked otherwise")
_SAFETENSORS: Final = Need(
    one_of=("--load-format=safetensors",), why="other formats can hold code that runs when they are loaded"
)

# vLLM 0.32.0 and 0.33.0 (wheels on PyPI): vllm/entrypoints/common/cli_args.py, vllm/engine/arg_utils.py, vllm/envs.py,
# vllm/usage/usage_lib.py.
_VLLM: Final = Rules(
    starts=(("vllm", "serve"), ("-m", "vllm.entrypoints.openai.api_server")),
    python=True,
    version_at="/version",
    versions=("0.32", "0.33"),
    positional=True,
    flags=_flags(
        "model served-model-name tokenizer port uds dtype max-model-len quantization seed generation-config kv-cache-dtype"
        " tensor-parallel-size pipeline-parallel-size device-ids gpu-memory-utilization kv-cache-memory-bytes block-size"
        " max-num-seqs max-num-batched-tokens chat-template chat-template-content-format default-chat-template-kwargs"
        " max-logprobs reasoning-parser optimization-level",
        "enable-expert-parallel disable-custom-all-reduce enable-chunked-prefill no-enable-chunked-prefill enforce-eager"
        " no-enforce-eager async-scheduling no-async-scheduling disable-fastapi-docs language-model-only"
        " no-enable-prefix-caching no-enable-log-requests disable-uvicorn-access-log",
        only={
            "host": _LOOPBACK,
            "load-format": frozenset({"safetensors"}),
            "distributed-executor-backend": frozenset({"mp", "uni"}),
            "uvicorn-log-level": frozenset({"critical", "error", "warning", "info"}),
        },
    ),
    needs=(
        Need(one_of=("--no-enable-prefix-caching",), why=_CACHE),
        Need(one_of=("--no-enable-log-requests",), why=_LOGS),
        Need(one_of=("--disable-uvicorn-access-log",), why=_LOGS),
        _SAFETENSORS,
    ),
    refused=_refused(
        (_CACHE, "enable-prefix-caching enable-mamba-shared-prefix-checkpoint kv-sharing-fast-prefill"),
        (
            _MOVES,
            "kv-transfer-config kv-events-config kv-offloading-size kv-offloading-backend ec-transfer-config",
        ),
        (
            _LOGS,
            "enable-log-requests enable-log-outputs enable-request-id-headers log-config-file logging-config",
        ),
        (_LOGS, "otlp-traces-endpoint collect-detailed-traces profiler-config log-error-stack"),
        (_SPECULATES, "speculative-config spec-method spec-model spec-tokens"),
        (_CODE, "trust-remote-code middleware tool-server io-processor-plugin logits-processors worker-cls"),
        (_HIDES, "config"),
    ),
    environment={
        **_PYTHON,
        **_any(
            "VLLM_NO_USAGE_STATS VLLM_DO_NOT_TRACK VLLM_HTTP_TIMEOUT_KEEP_ALIVE VLLM_WORKER_MULTIPROC_METHOD VLLM_CACHE_ROOT"
            " VLLM_CONFIG_ROOT VLLM_CPU_KVCACHE_SPACE VLLM_CPU_OMP_THREADS_BIND"
        ),
        "VLLM_LOGGING_LEVEL": frozenset({"INFO", "WARNING", "ERROR"}),
    },
    environment_needs=(
        Need(
            one_of=("VLLM_NO_USAGE_STATS=1", "VLLM_DO_NOT_TRACK=1", "DO_NOT_TRACK=1"),
            why="it reports its use otherwise",
        ),
        _OFFLINE,
    ),
    numbers={"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": KEEP_ALIVE},
    salted=True,
    grammar=("structured_outputs", "grammar"),
    metric=("vllm:cache_config_info{", 'enable_prefix_caching="False"'),
)

# SGLang 0.5.23 (wheel on PyPI): sglang/srt/arg_groups/fields/*.py, sglang/srt/environ.py, sglang/srt/entrypoints/http_server.py.
_SGLANG: Final = Rules(
    starts=(("-m", "sglang.launch_server"), ("sglang", "serve")),
    python=True,
    version_at="/server_info",
    versions=("0.5",),
    flags=_flags(
        "model-path tokenizer-path served-model-name port dtype context-length quantization kv-cache-dtype tp-size"
        " mem-fraction-static max-running-requests max-total-tokens chunked-prefill-size chat-template device random-seed"
        " attention-backend sampling-defaults reasoning-parser",
        "disable-radix-cache disable-cuda-graph skip-server-warmup",
        only={
            "host": _LOOPBACK,
            "load-format": frozenset({"safetensors"}),
            "log-level": frozenset({"info", "warning", "error"}),
            "log-level-http": frozenset({"warning", "error"}),
        },
    ),
    needs=(
        Need(one_of=("--disable-radix-cache",), why=_CACHE),
        Need(one_of=("--log-level-http=warning", "--log-level-http=error"), why=_LOGS),
        _SAFETENSORS,
    ),
    refused=_refused(
        (
            _CACHE,
            "enable-session-radix-cache radix-cache-backend enable-streaming-session enable-response-store",
        ),
        (
            _MOVES,
            "enable-hierarchical-cache enable-lmcache enable-flexkv kv-events-config disaggregation-mode",
        ),
        (_LOGS, "log-requests log-requests-level log-requests-target crash-dump-folder enable-trace"),
        (_LOGS, "export-metrics-to-file debug-tensor-dump-output-folder enable-request-time-stats-logging"),
        (_SPECULATES, "speculative-algorithm speculative-draft-model-path"),
        (_CODE, "trust-remote-code forward-hooks sidecar tool-server"),
        (_HIDES, "config"),
    ),
    environment={
        **_PYTHON,
        **_any("SGLANG_TIMEOUT_KEEP_ALIVE SGLANG_CUDA_COREDUMP_BEFORE_CRASH SGLANG_PYSPY_DUMP_BEFORE_CRASH"),
    },
    environment_needs=(
        _OFFLINE,
        Need(
            one_of=("SGLANG_CUDA_COREDUMP_BEFORE_CRASH=0",),
            why="it writes the GPU's memory to a file otherwise",
        ),
        Need(one_of=("SGLANG_PYSPY_DUMP_BEFORE_CRASH=0",), why="it prints its stacks otherwise"),
    ),
    numbers={"SGLANG_TIMEOUT_KEEP_ALIVE": KEEP_ALIVE},
    salted=True,
    grammar=("ebnf",),
    states={
        "/server_info": {
            "disable_radix_cache": True,
            "enable_hierarchical_cache": False,
            "enable_lmcache": False,
            "enable_response_store": False,
            "enable_streaming_session": False,
            "log_requests": False,
            "crash_dump_folder": None,
            "enable_trace": False,
            "export_metrics_to_file": False,
            "kv_events_config": None,
            "speculative_algorithm": None,
            "disaggregation_mode": "null",
        }
    },
)

# llama.cpp as vendored by llama-cpp-python 0.3.36 (sdist on PyPI): common/arg.cpp, tools/server/server-context.cpp, server-http.cpp.
_LLAMA_SERVER: Final = Rules(
    starts=(("llama-server",),),
    python=False,
    flags=_flags(
        "model alias port ctx-size parallel threads threads-batch threads-http batch-size ubatch-size n-gpu-layers split-mode"
        " tensor-split main-gpu device flash-attn timeout chat-template chat-template-file host load-mode",
        "no-cache-prompt no-slots no-ui log-disable offline no-context-shift no-cache-idle-slots no-warmup jinja"
        " kv-unified no-kv-unified",
        only={"cache-ram": frozenset({"0"}), "ctx-checkpoints": frozenset({"0"})},
    ),
    needs=(
        Need(one_of=("--no-cache-prompt",), why=_CACHE),
        Need(one_of=("--cache-ram=0",), why=_CACHE),
        Need(one_of=("--ctx-checkpoints=0",), why=_CACHE),
        Need(one_of=("--no-slots",), why="it shows what other sessions ask"),
        Need(one_of=("--log-disable",), why=_LOGS),
        Need(one_of=("--no-ui",), why="it serves a web page otherwise"),
        Need(one_of=("--offline",), why="it looks for models on the network otherwise"),
    ),
    refused=_refused(
        (_CACHE, "cache-prompt cache-reuse slots slot-save-path cache-idle-slots"),
        (_MOVES, "rpc"),
        (_LOGS, "log-file log-prompts-dir verbose log-verbose log-verbosity"),
        (_SPECULATES, "model-draft spec-type spec-default lookup-cache-static lookup-cache-dynamic"),
        (_CODE, "tools props"),
    ),
    salted=False,
    grammar=("grammar",),
    states={
        "/props": {"endpoint_slots": False, "endpoint_props": False, "ui": False, "cors_proxy_enabled": False}
    },
    # Its library's own limit is 5 seconds, set when it is compiled (vendor/cpp-httplib/httplib.h).
    idle=6.0,
    # It closes a connection after each streamed answer, so these are all the answers that a session can have.
    wires=24,
)

RULES: Final[Mapping[str, Rules]] = {"vllm": _VLLM, "sglang": _SGLANG, "llama-server": _LLAMA_SERVER}
