"""The monitor against a running world, and a log that grows under a device."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from e2e.conftest import Device
from sottovoce.simulator.operator import LogClient, host_of
from sottovoce.simulator.state import WorldState
from sottovoce.simulator.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
REWRITE = ("rewrite", "wodekela cant make it")


def words(world: World, *more: object) -> tuple[str, ...]:
    where = ("--log", world.url("log"), "--artifacts", world.url("mirror"))
    return ("log", "monitor", *where, "--json", *map(str, more))


def test_nothing_is_found_and_a_missing_artifact_is(world: World, device: Device, tmp_path: Path) -> None:
    done = device.run(*REWRITE)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = tmp_path / "reports.json"
    assert device.run("report", "export", str(reports)).returncode == 0
    done = device.run(*words(world, "--reports", reports))
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
        done = device.run(*words(world))
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


def test_a_log_that_grew_costs_a_device_no_request(world: World, device: Device, tmp_path: Path) -> None:
    done = device.run(*REWRITE)
    assert done.returncode == 0, done.stdout + done.stderr
    state = WorldState(world.folder, now=0)
    client = LogClient(world.port("log"), state.secret)
    chip = state.vendor.make_chip(now=1_700_000_000)
    client.append(host_of("orchestrator-9", "orchestrator", chip).encode())
    assert not world.renew()
    # The directory's tree head is newer now than the one in the CVMs' papers.
    (device.home / "directory.json").unlink()
    done = device.run(*REWRITE)
    assert done.returncode == 0, done.stdout + done.stderr
    device.run("report", "export", str(tmp_path / "reports.json"))
    reports = json.loads((tmp_path / "reports.json").read_text())["reports"]
    (newest,) = [one for one in reports if one["time"] == max(each["time"] for each in reports)]
    found = {line["id"]: line["found"] for line in newest["verdict"]}
    for check in ("release-log-seen", "host-log-seen"):
        assert "proved to lead to size" in found[check]
