"""Which servers are refused: by their rules, one rule at a time, and by what the kernel says of a real process."""

import os
import resource
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_kit import ENVIRONMENT, FLAGS, free_port, running
from sottovoce.core.errors import ConfigError
from sottovoce.tee.engines import servers
from sottovoce.tee.engines.rules import RULES
from sottovoce.tee.engines.servers import Identity, Server, judge, look, model_path, owner, reach

MODEL = "/models/it"
VLLM = ("/usr/bin/python3", "-I", "/usr/bin/vllm", "serve", MODEL, *FLAGS)
SGLANG = (
    *(
        "/usr/bin/python3.12",
        "-m",
        "sglang.launch_server",
        "--model-path",
        MODEL,
        "--served-model-name",
        "it",
    ),
    *(
        "--load-format",
        "safetensors",
        "--disable-radix-cache",
        "--log-level-http",
        "warning",
        "--host=127.0.0.1",
    ),
)
LLAMA = (
    *(
        "/usr/bin/llama-server",
        "--model",
        "/models/it.gguf",
        "--alias",
        "it",
        "--host",
        "/run/sottovoce/engine.sock",
    ),
    *(
        "--no-cache-prompt",
        "--cache-ram",
        "0",
        "--ctx-checkpoints",
        "0",
        "--no-slots",
        "--log-disable",
        "--no-ui",
    ),
    "--offline",
)
SGLANG_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "SGLANG_TIMEOUT_KEEP_ALIVE": "900",
    "SGLANG_CUDA_COREDUMP_BEFORE_CRASH": "0",
    "SGLANG_PYSPY_DUMP_BEFORE_CRASH": "0",
}


def server(kind: str, **changes: Any) -> Server:
    """A server that is as it must be, with `changes`."""
    programs = {"vllm": "/usr/bin/python3.12", "sglang": "/usr/bin/python3.12", "llama-server": LLAMA[0]}
    found = Server(
        identity=Identity(pid=7, began=7),
        program=programs[kind],
        command={"vllm": VLLM, "sglang": SGLANG, "llama-server": LLAMA}[kind],
        environment={"vllm": ENVIRONMENT, "sglang": SGLANG_ENVIRONMENT, "llama-server": {"PATH": "/usr/bin"}}[
            kind
        ],
        outputs=("/dev/null", "/dev/null"),
        core="0/0",
        exposed=False,
        swap=False,
    )
    return replace(found, **changes)


def refusal(kind: str, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        judge(kind, server(kind, **changes))
    assert caught.value.hint
    return str(caught.value)


def without(words: tuple[str, ...], flag: str) -> tuple[str, ...]:
    name, _, value = flag.partition("=")
    at = words.index(name)
    return words[:at] + words[at + 1 + bool(value) :]


@pytest.mark.parametrize("kind", RULES)
def test_as_it_must_be(kind: str) -> None:
    judge(kind, server(kind))


@pytest.mark.parametrize(
    ("kind", "flag"), [(kind, need.one_of) for kind, rules in RULES.items() for need in rules.needs]
)
def test_each_flag_is_needed(kind: str, flag: tuple[str, ...]) -> None:
    missing = without(server(kind).command, flag[0])
    assert refusal(kind, command=missing).count("is missing") == 1


@pytest.mark.parametrize(
    ("kind", "names"),
    [(kind, need.one_of) for kind, rules in RULES.items() for need in rules.environment_needs],
)
def test_each_variable_is_needed(kind: str, names: tuple[str, ...]) -> None:
    variables = [name.partition("=")[0] for name in names]
    kept = {name: value for name, value in server(kind).environment.items() if name not in variables}
    assert f"{names[0]} is missing" in refusal(kind, environment=kept)
    wrong = {**server(kind).environment, **dict.fromkeys(variables, "2")}
    assert f"{names[0]} is missing" in refusal(kind, environment=wrong)


@pytest.mark.parametrize(
    ("kind", "flag"), [(kind, flag) for kind, rules in RULES.items() for flag in rules.refused]
)
def test_each_refused_flag_with_its_reason(kind: str, flag: str) -> None:
    for more in ([flag], [flag, "x"], [f"{flag}=x"]):
        assert f"{flag} is refused ({RULES[kind].refused[flag]})" in refusal(
            kind, command=(*server(kind).command, *more)
        )


@pytest.mark.parametrize("kind", RULES)
@given(word=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_word_more_is_refused(kind: str, word: str) -> None:
    with pytest.raises(ConfigError):
        judge(kind, server(kind, command=(*server(kind).command, word)))


@pytest.mark.parametrize("kind", RULES)
@given(name=st.from_regex(r"[A-Z]{2,3}(_[A-Z]{2,8}){1,3}", fullmatch=True))
def test_a_variable_more_is_refused(kind: str, name: str) -> None:
    if name in {"LC_ALL", "LC_CTYPE", "HF_HOME"}:
        return
    with pytest.raises(ConfigError, match=name):
        judge(kind, server(kind, environment={**server(kind).environment, name: "1"}))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ("--enable-prefix", "x"),
            "--enable-prefix is not among the flags",
        ),  # argparse takes what a flag begins with
        (("--max_num_seqs", "8"), "an argument is not among the flags"),
        (("--host", "0.0.0.0"), "--host has a value that is refused"),  # noqa: S104 - it must be
        (("--load-format", "pt"), "--load-format is given twice"),
        (("--disable-uvicorn-access-log=false",), "is given twice"),
        (("--dtype",), "--dtype lacks its value"),
        (("--dtype", "--enable-log-requests"), "--dtype lacks its value"),
        (("--enforce-eager=1",), "--enforce-eager has a value that is refused"),
        (("/another/model",), "an argument is not among the flags"),
        (("--uvicorn-log-level", "trace"), "--uvicorn-log-level has a value that is refused"),
    ],
)
def test_command_lines_that_are_refused(more: tuple[str, ...], words: str) -> None:
    assert words in refusal("vllm", command=(*VLLM, *more))


@pytest.mark.parametrize(
    ("kind", "command", "program"),
    [
        ("vllm", ("VLLM::APIServer_0",), "/usr/bin/python3.12"),
        ("vllm", ("python3", "/usr/bin/vllm", "bench", MODEL, *FLAGS), "/usr/bin/python3.12"),
        ("vllm", ("python3", "-c", "vllm serve"), "/usr/bin/python3.12"),
        ("vllm", ("python3", "-X", "dev", "/usr/bin/vllm", "serve", MODEL, *FLAGS), "/usr/bin/python3.12"),
        ("vllm", VLLM, "/usr/bin/vllm"),
        ("vllm", ("",), "/usr/bin/python3.12"),
        ("vllm", SGLANG, "/usr/bin/python3.12"),
        ("sglang", VLLM, "/usr/bin/python3.12"),
        ("llama-server", LLAMA, "/usr/bin/python3.12"),
        ("llama-server", ("other", *LLAMA[1:]), LLAMA[0]),
    ],
)
def test_other_programs(kind: str, command: tuple[str, ...], program: str) -> None:
    assert "its command line is not that of such a server" in refusal(kind, command=command, program=program)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outputs": ("/dev/null", "pipe:[1]")}, "must be /dev/null"),
        ({"outputs": ("/var/log/x", "/dev/null")}, "must be /dev/null"),
        ({"core": "0/unlimited"}, "core files"),
        ({"exposed": True}, "beyond this machine"),
        ({"swap": True}, "swap"),
    ],
)
def test_what_is_around_it(kind: str, change: dict[str, Any], words: str) -> None:
    assert words in refusal(kind, **change)


@pytest.mark.parametrize("seconds", [None, "5", "599", "", "x", "-1", "1e9"])
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, rules in RULES.items() for name in rules.numbers]
)
def test_idle_connections_stay_open(kind: str, name: str, seconds: str | None) -> None:
    kept = {one: value for one, value in server(kind).environment.items() if one != name}
    assert f"{name} must be at least 600" in refusal(
        kind, environment=kept | ({name: seconds} if seconds is not None else {})
    )


def test_everything_that_is_wrong_is_told_at_once_and_no_value_of_it() -> None:
    text = refusal(
        "vllm",
        command=("python3", "/usr/bin/vllm", "serve", MODEL, "--api-key", "canary-1", "canary-2"),
        environment={"LD_PRELOAD": "canary-3", "canary 4": "x"},
    )
    assert text.count(";") >= 8
    assert "canary" not in text


def test_where_its_model_is(tmp_path: Path) -> None:
    root = tmp_path / "7" / "root"
    assert model_path("vllm", server("vllm"), proc=tmp_path) == root / "models/it"
    assert model_path("sglang", server("sglang"), proc=tmp_path) == root / "models/it"
    assert model_path("llama-server", server("llama-server"), proc=tmp_path) == root / "models/it.gguf"
    other = server("vllm", command=(*VLLM, "--tokenizer", "/models/words"))
    assert model_path("vllm", other, proc=tmp_path) == root / "models/words"
    with pytest.raises(ConfigError):
        model_path("vllm", server("vllm", command=("python3", "vllm", "serve", "org/model", *FLAGS)))


# A real process.


def checked(address: Any) -> Server:
    """What the kernel says, without what this machine may have: swap."""
    with reach(address, timeout=5) as sock:
        return replace(look(owner(sock)), swap=False)


@pytest.mark.parametrize("tcp", [False, True])
def test_a_process_that_listens(tmp_path: Path, *, tcp: bool) -> None:
    with running(tmp_path, port=free_port() if tcp else None) as engine:
        found = checked(engine.address)
        assert found.identity.pid == engine.process.pid
        judge("vllm", found)
        assert model_path("vllm", found).resolve() == engine.model.resolve()


def test_a_process_with_other_flags(tmp_path: Path) -> None:
    with running(tmp_path, flags=(*FLAGS[1:], "--enable-log-requests")) as engine, pytest.raises(ConfigError):
        judge("vllm", checked(engine.address))


def test_a_process_with_another_environment(tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, "VLLM_SERVER_DEV_MODE": "1"}
    with running(tmp_path, environment=environment) as engine, pytest.raises(ConfigError, match="DEV_MODE"):
        judge("vllm", checked(engine.address))


def test_a_process_whose_output_goes_somewhere(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, running(tmp_path, output=log.fileno()) as engine:
        found = checked(engine.address)
    with pytest.raises(ConfigError, match="/dev/null"):
        judge("vllm", found)


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="core files are off here")
def test_a_process_that_may_leave_a_core(tmp_path: Path) -> None:
    with running(tmp_path, said={"cores": ""}) as engine, pytest.raises(ConfigError, match="core"):
        judge("vllm", checked(engine.address))


def test_a_port_beyond_this_machine(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, port=port, said={"wide": ""}) as engine, reach(engine.address, timeout=5) as sock:
        with pytest.raises(ConfigError, match="beyond this machine"):
            owner(sock)
        alone = (
            len(Path("/proc/net/dev").read_text().splitlines()) == 3
        )  # this machine has loopback and nothing else
        assert servers._exposed(engine.process.pid, Path("/proc")) is not alone


def test_a_port_that_a_child_has_too(tmp_path: Path) -> None:
    with running(tmp_path, port=free_port(), said={"forks": ""}) as engine:
        assert checked(engine.address).identity.pid == engine.process.pid
        children = Path(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), 9)


def test_a_port_without_a_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, reach(listener.getsockname(), timeout=5) as sock:
        assert owner(sock).pid == os.getpid()
        net = tmp_path / "net"
        net.mkdir()
        (net / "tcp").write_text(Path("/proc/net/tcp").read_text())
        with pytest.raises(ConfigError, match="no process"):
            owner(sock, proc=tmp_path)


def test_another_process_with_the_same_number() -> None:
    own = servers._identity(Path("/proc"), os.getpid())
    assert look(own).program == str(Path("/proc/self/exe").readlink())
    with pytest.raises(ConfigError, match="started again"):
        look(replace(own, began=own.began + 1))


def test_a_process_that_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    own = servers._identity(Path("/proc"), child.pid)
    child.wait()
    with pytest.raises(ConfigError, match="cannot be looked at"):
        look(own)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("0100007F", True),
        ("0101007F", True),
        ("00000000", False),
        ("0100000A", False),
        ("00000000000000000000000001000000", True),
        ("00000000000000000000000000000000", False),
        ("0000000000000000FFFF00000100007F", True),
        ("0000000000000000FFFF000000000000", False),
        ("000080FE00000000FF00AC0601000000", False),
    ],
)
def test_addresses_as_the_kernel_writes_them(host: str, *, loopback: bool) -> None:
    assert servers._is_loopback(host) is loopback


def test_the_page_says_what_is_asked() -> None:
    page = (Path(__file__).parents[4] / "docs" / "engines.md").read_text()
    for rules in RULES.values():
        for need in (*rules.needs, *rules.environment_needs):
            assert need.one_of[0].replace("=", " " if need.one_of[0].startswith("-") else "=") in page
        assert all(f"`{name}`, {least} or more" in page for name, least in rules.numbers.items())
        assert all(version in page for version in rules.versions)
