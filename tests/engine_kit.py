"""A server with vLLM's interface and no model, for tests: what it answers is told by the last message.

Paths, field names and values are those of vLLM 0.32.0 and 0.33.0 (vllm/entrypoints/openai/chat_completion/protocol.py, …/serve/engine/protocol.py,
…/serve/tokenize/protocol.py), and the answers as 0.32.0 gave them to a model of two layers on a CPU. It is started from a file
called `vllm`, so that its command line is one of vLLM's.
"""

import contextlib
import itertools
import json
import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11

MODEL = "tiny"
CONTROL = {"<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258, "<tool_call>": 259}
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "600",
}
FLAGS = (
    "--served-model-name",
    MODEL,
    "--load-format",
    "safetensors",
    "--no-enable-prefix-caching",
    "--no-enable-log-requests",
    "--disable-uvicorn-access-log",
)
CACHE = 'vllm:cache_config_info{block_size="128",enable_prefix_caching="False",engine="0"} 1.0\n'
_DONE = b"data: [DONE]\n\n"
_STREAM = [("content-type", "text/event-stream; charset=utf-8"), ("transfer-encoding", "chunked")]
_HEAD = {
    "id": "chatcmpl-b29f3256ee7db1bd",
    "object": "chat.completion.chunk",
    "created": 1795846007,
    "model": MODEL,
}


def write_model(folder: Path) -> Path:
    """The files of a tokenizer with ChatML's control tokens, as Hugging Face's libraries write them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [
        {"id": number, "content": text, "special": text != "<tool_call>", "normalized": False}
        for text, number in CONTROL.items()
    ]
    tokens.append({"id": 260, "content": "\n\n", "special": False, "normalized": False})
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": tokens}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "unk_token": None}))
    return folder


def tokens_of(text: str) -> list[int]:
    """One token a byte, and control tokens read wherever they stand, as every server does."""
    found, at = [], 0
    while at < len(text):
        mark = next((mark for mark in CONTROL if text.startswith(mark, at)), None)
        if mark:
            found.append(CONTROL[mark])
        else:
            found += list(text[at].encode())
        at += len(mark or "x")
    return found


def render(messages: Sequence[dict[str, str]], *, opened: bool) -> str:
    """ChatML. The last message stays open where the model is to go on with it."""
    text = "".join(f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in messages)
    return text.removesuffix("<|im_end|>\n") if opened else f"{text}<|im_start|>assistant\n"


# The server, in a process of its own.


class _Server:
    def __init__(self, listener: socket.socket, *, said: dict[str, str]) -> None:
        self._listener = listener
        self._said = said
        self._seen: list[dict[str, Any]] = []
        self._aborted = 0

    def run(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            threading.Thread(target=self._connection, args=(sock,), daemon=True).start()

    def _connection(self, sock: socket.socket) -> None:
        http = h11.Connection(h11.SERVER)
        with contextlib.suppress(OSError, h11.RemoteProtocolError, h11.LocalProtocolError), sock:
            while True:
                head, body = None, b""
                while not isinstance(event := http.next_event(), h11.EndOfMessage):
                    if isinstance(event, h11.Request):
                        head = event
                    elif isinstance(event, h11.Data):
                        body += bytes(event.data)
                    elif event is h11.NEED_DATA:
                        http.receive_data(sock.recv(65536))
                    else:
                        return
                assert head is not None
                if not self._answer(sock, http, head.target.decode(), json.loads(body or b"{}")):
                    return
                http.start_next_cycle()

    def _answer(self, sock: socket.socket, http: h11.Connection, target: str, asked: dict[str, Any]) -> bool:
        if target == "/v1/chat/completions":
            return self._chat(sock, http, asked)
        status, document = 200, self._document(target, asked)
        if document is None:
            status, document = 404, _error("Not Found", "NotFoundError", None, 404)
        data = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        _send(sock, http, status, b"application/json", data)
        return True

    def _document(self, target: str, asked: dict[str, Any]) -> Any:
        if target == "/v1/models":
            card = {
                "id": self._said.get("model", MODEL),
                "object": "model",
                "owned_by": "vllm",
                "max_model_len": 4096,
            }
            return {"object": "list", "data": [card]}
        if target == "/version":
            return {"version": self._said.get("version", "0.32.0")}
        if target == "/metrics":
            return self._said.get("metrics", CACHE)
        if target == "/tokenize":
            text = asked["prompt"]
            if "lenient" in self._said:  # a tokenizer that passes over spaces inside a mark
                text = text.replace("< ", "<")
            tokens = tokens_of(text) if "deaf" not in self._said else list(text.encode())
            return {"count": len(tokens), "max_model_len": 4096, "tokens": tokens, "token_strs": None}
        if target == "/seen":  # a test's own question
            return {"questions": self._seen, "aborted": self._aborted}
        return None

    def _constrained(self, asked: dict[str, Any], prompt: int) -> list[bytes]:
        """The answer where the grammar knows only one."""
        grammar = asked.get("structured_outputs", {}).get("grammar", "")
        only = re.fullmatch(r'root ::= "([a-z ]+)"\n', grammar)
        if only is None or "formless" in self._said:
            return []
        return [event(prompt, 1, only[1]), event(prompt, 2, "", "stop"), _DONE]

    def _chat(self, sock: socket.socket, http: h11.Connection, asked: dict[str, Any]) -> bool:
        self._seen.append(asked)
        text = render(asked["messages"], opened=bool(asked.get("continue_final_message")))
        said = next(one["content"] for one in reversed(asked["messages"]) if one["role"] == "user")
        prompt = len(tokens_of(text))
        if said in {"unanswered", "mute"}:
            time.sleep(600 if said == "mute" else 0)
            return False
        if refused := _refused(asked, said, prompt):
            _send(sock, http, refused[0], b"application/json", json.dumps(refused[1]).encode())
            return True
        head = h11.Response(status_code=200, headers=_STREAM)
        sock.sendall(http.send(head) or b"")
        try:
            for data in self._constrained(asked, prompt) or _stream(said, prompt, asked["max_tokens"]):
                if data is None:
                    return False
                sock.sendall(http.send(h11.Data(data=data)) or b"")
                if _left(sock):
                    raise BrokenPipeError
        except OSError:
            self._aborted += 1
            return False
        sock.sendall(http.send(h11.EndOfMessage()) or b"")
        return bool(said != "then close")


def _refused(asked: dict[str, Any], said: str, prompt: int) -> tuple[int, Any] | None:
    """The status and the document of a refusal."""
    if missing := {"cache_salt", "stream_options", "n"} - set(asked):
        return 400, _error(str(missing), "BadRequestError", None, 400)
    if prompt > 4000:
        words = (
            "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens, which"
            " exceeds this limit even without any output tokens. (parameter=input_tokens, value=4097)"
        )
        return 400, _error(words, "BadRequestError", "input_tokens", 400)
    if said in {"broken", "no stream"}:
        status = 500 if said == "broken" else 200
        return status, _error("Internal server error", "InternalServerError", None, 500)
    return None


def _left(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def _error(message: str, kind: str, param: str | None, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _send(sock: socket.socket, http: h11.Connection, status: int, kind: bytes, data: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(data))]
    sock.sendall(http.send(h11.Response(status_code=status, headers=headers)) or b"")
    sock.sendall((http.send(h11.Data(data=data)) or b"") + (http.send(h11.EndOfMessage()) or b""))


def event(prompt: int, said: int, text: str | None, end: str | None = None, **usage: Any) -> bytes:
    """A chunk of an answer, as vLLM sends it with continuous usage."""
    choice = {
        "index": 0,
        "delta": {"content": text},
        "logprobs": None,
        "finish_reason": end,
        "token_ids": None,
    }
    counts = {"prompt_tokens": prompt, "total_tokens": prompt + said, "completion_tokens": said, **usage}
    return _data({**_HEAD, "choices": [choice], "usage": counts})


def _data(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _stream(said: str, prompt: int, most: int) -> Iterator[bytes | None]:
    """The pieces of the answer to `said`; None closes the connection."""
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }
    counts = {"prompt_tokens": prompt, "total_tokens": prompt, "completion_tokens": 0}
    yield _data({**_HEAD, "choices": [choice], "usage": counts})
    if said == "endless":
        for number in range(most):
            yield event(prompt, number + 1, f" {number}")
            time.sleep(0.02)
        yield event(prompt, most, "", "length") + _DONE
        return
    for piece in _odd(prompt).get(said) or _ordinary(prompt, most):
        if isinstance(piece, float):
            time.sleep(piece)
        else:
            yield piece


def _last(prompt: int) -> bytes:
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + 3, "completion_tokens": 3}
    return (
        _data({**_HEAD, "choices": [], "usage": usage, "system_fingerprint": "vllm-0.32.0-ee03563a"}) + _DONE
    )


def _ordinary(prompt: int, most: int) -> list[bytes]:
    words = ["one", " two", " three"][:most]
    stopped = len(words) < most
    end = event(prompt, len(words) + stopped, "", "stop" if stopped else "length")
    return [*(event(prompt, number, word) for number, word in enumerate(words, start=1)), end, _last(prompt)]


def _odd(prompt: int) -> dict[str, Sequence[bytes | float | None]]:
    """What a last message asks for by its name: pieces, pauses in seconds, and None, which closes the connection."""
    one = event(prompt, 1, "one")
    whole = one + event(prompt, 2, " two") + event(prompt, 3, "", "stop") + _last(prompt)
    failed = _data(_error("EngineCore encountered an issue.", "InternalServerError", None, 500))
    return {
        "hang": [one, 600.0],
        "die": [one, None],
        "cut": [one],
        "no end": [one, _DONE],
        "error": [one, failed, _DONE],
        "abort": [event(prompt, 1, "one", "abort"), _DONE],
        "nonsense": [b"data: {]\n\n"],
        "other form": [_data({"choices": "one"})],
        "half": [b"data: {"],
        "cached": [event(prompt, 1, "one", prompt_tokens_details={"cached_tokens": 16})],
        "after": [event(prompt, 1, "one", "stop") + _DONE + event(prompt, 2, "two")],
        "flood": [b": " + b"x" * (1 << 20) + b"\n"] * 9,
        "many at once": [
            b": keep-alive\n\n"
            + event(prompt, 3, "one two three")
            + event(prompt, 3, "", "length")
            + _last(prompt)
        ],
        "bytes": [whole[at : at + 1] for at in range(len(whole))],
        "windows": [(event(prompt, 1, "one", "stop") + _DONE).replace(b"\n", b"\r\n")],
    }


def main(argv: Sequence[str]) -> None:
    """Serve as the command line says."""
    given = dict(itertools.pairwise(argv))
    said = json.loads((Path(argv[2]) / "said.json").read_text())
    if "cores" not in said:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if "--uds" in given:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(given["--uds"])
    else:
        listener = socket.socket()
        listener.bind(("0.0.0.0" if "wide" in said else "127.0.0.1", int(given["--port"])))  # noqa: S104 - it must be refused
    listener.listen(64)
    if "forks" in said and os.fork() == 0:
        time.sleep(600)
    _Server(listener, said=said).run()


# Starting it, from a test.


@dataclass
class Engine:
    """A running server and where it listens."""

    process: "subprocess.Popen[bytes]"
    address: str | tuple[str, int]
    model: Path


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    port: int | None = None,
    flags: Sequence[str] = FLAGS,
    environment: dict[str, str] | None = None,
    output: int = subprocess.DEVNULL,
    said: dict[str, str] | None = None,
) -> Iterator[Engine]:
    """Start the server in `folder`; returns when it listens. `said` is what it says otherwise than vLLM would."""
    program, model = folder / "vllm", write_model(folder / "model")
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport engine_kit\nengine_kit.main(sys.argv)\n"
    )
    (model / "said.json").write_text(json.dumps(said or {}))
    where = ["--uds", str(folder / "engine.sock")] if port is None else ["--port", str(port)]
    command = [sys.executable, str(program), "serve", str(model), *flags, *where]
    process = subprocess.Popen(
        command,
        env=environment or ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    address: str | tuple[str, int] = str(folder / "engine.sock") if port is None else ("127.0.0.1", port)
    try:
        _await(address, process)
        yield Engine(process, address, model)
    finally:
        process.kill()
        process.wait()


def _await(address: str | tuple[str, int], process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 100
    while True:
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock,
        ):
            sock.connect(address)
            return
        assert time.monotonic() < end, "it does not listen"
        assert process.poll() is None, "it ended"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
