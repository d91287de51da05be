"""The monitor against a running world, and a log that grows under a device."""

import json
import signal
import subprocess

import pytest

from e2e.conftest import Device
from sottovoce.edge.logclient import LogClient
from sottovoce.simulator.operator import host_of
from sottovoce.simulator.state import WorldState
from sottovoce.simulator.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def words(world: World, *more: object) -> tuple[str, ...]:
    return ("log", "monitor", "--log", world.url("log"), "--json", *map(str, more))


def test_nothing_is_found_and_a_missing_artifact_is(world: World, fresh: Device) -> None:
    done = fresh.run(*words(world))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["findings"], report["artifacts_verified"]) == ([], 1)
    assert report["entries"]["artifact"] == 2
    (blob, *_) = (world.folder / "mirror").glob("sha256-*")
    data = blob.read_bytes()
    for changed, code in ((None, "artifact-missing"), (data[:-1] + b" ", "artifact-mismatch")):
        blob.unlink()
        if changed is not None:
            blob.write_bytes(changed)
        done = fresh.run(*words(world))
        assert done.returncode == 1
        assert [finding["code"] for finding in json.loads(done.stdout)["findings"]] == [code]
        blob.write_bytes(data)


def test_it_follows_until_it_is_interrupted(world: World, fresh: Device) -> None:
    command = fresh.command(*words(world, "--follow", "--every", "1"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=fresh.variables) as running:
        assert running.stdout is not None
        first, second = (json.loads(running.stdout.readline()) for _ in range(2))
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    assert (first["new_entries"] > 0, second["new_entries"]) == (True, 0)


def test_a_log_that_grew_does_not_wait_for_new_papers(world: World, fresh: Device) -> None:
    def live() -> dict[str, str]:
        address = f"tcp://127.0.0.1:{world.port('orchestrator-1')}"
        done = fresh.run("verify", "live", address, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return {line["id"]: line["found"] for line in json.loads(done.stdout)["checks"]}

    before = live()["release-log-seen"]
    state = WorldState(world.folder, now=0)
    entry = host_of("orchestrator-9", "orchestrator", state.vendor.make_chip(now=1_700_000_000)).encode()
    LogClient(world.url("log"), state.secret).append(entry)
    assert not world.renew()
    # The directory's tree head is newer now than the one in the CVMs' papers.
    (fresh.home / "directory.json").unlink()
    found = live()
    for check in ("release-log-seen", "host-log-seen"):
        assert found[check].startswith(f"{before}, proved to lead to size ")
