"""`sottovoce proxy` as a person starts it, with the real `openai` client in front and every party behind it."""

from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest

from e2e.conftest import Device, serving
from sottovoce.device.reports import ReportStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
ASK: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Name a colour."}]


@contextmanager
def proxy(device: Device) -> Iterator[openai.OpenAI]:
    """The proxy of `device`, and a client that was told what it printed."""
    words = device.command("proxy", "--port", "0")
    told = r"SIMULATED[\s\S]*export OPENAI_BASE_URL=(\S+)\s+export OPENAI_API_KEY=(\S+)"
    with (
        serving(words, device.variables, told) as found,
        openai.OpenAI(base_url=found.group(1), api_key=found.group(2), max_retries=0) as client,
    ):
        yield client


def test_a_conversation_through_every_party(device: Device) -> None:
    with proxy(device) as client:
        (model,) = [one.id for one in client.models.list()]
        answer = client.chat.completions.create(model=model, messages=ASK, temperature=0, max_tokens=12)
        said = answer.choices[0].message.content
        assert said
        stream = client.chat.completions.create(
            model=model, messages=ASK, temperature=0, max_tokens=12, stream=True
        )
        assert "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices) == said
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="another", messages=ASK)
    reports = ReportStore(device.home).list()
    assert {(report.feature, report.outcome) for report in reports} == {("chat", "done")}
    assert len(reports) == 4
    # One session each, verified each time.
    assert len({report.exporter for report in reports}) == 4
    assert all(line.status == "pass" for report in reports for line in report.verdict)


def test_not_opted_in(fresh: Device) -> None:
    with (
        proxy(fresh) as client,
        pytest.raises(openai.PermissionDeniedError, match="private processing is off"),
    ):
        client.chat.completions.create(model="any", messages=ASK)
    assert ReportStore(fresh.home).list() == ()
