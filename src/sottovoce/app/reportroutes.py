"""Reports: listed, shown beside what was sent, verified again, exported, deleted."""

import asyncio
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sottovoce.app.desk import Desk
from sottovoce.app.pages import compared
from sottovoce.app.wire import Change, Page
from sottovoce.app.words import in_words
from sottovoce.attest.verdict import gained
from sottovoce.core.errors import SottovoceError, UsageError
from sottovoce.device.recheck import is_empty, recheck
from sottovoce.device.reports import Report

__all__ = ["ReportRoutes"]

_PAGE: Final = 50
"""Reports on one page of their list."""


class ReportRoutes:
    """The addresses of reports."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def pages(self) -> dict[str, Page]:
        """What is shown."""
        return {
            "/reports": self._list,
            "/reports/export": self._export,
            "/reports/{id}": self._report,
        }

    def changes(self) -> dict[str, Change]:
        """What is changed."""
        return {"/reports/{id}/verify": self._verify, "/reports/{id}/delete": self._delete}

    async def _list(self, request: Request) -> Response:
        feature, outcome, page = (
            request.query_params.get(name, "") for name in ("feature", "outcome", "page")
        )
        trouble = None
        try:
            every = await asyncio.to_thread(self._desk.reports.list)
        except SottovoceError as error:
            every, trouble = (), in_words(error)
        found = [
            one for one in reversed(every) if feature in ("", one.feature) and outcome in ("", one.outcome)
        ]
        pages = max(1, -(-len(found) // _PAGE))
        number = min(int(page), pages) if page.isascii() and page.isdigit() and 0 < len(page) < 9 else 1  # noqa: PLR2004
        number = max(1, number)
        return await self._desk.page(
            "reports.html",
            page="reports",
            reports=found[(number - 1) * _PAGE : number * _PAGE],
            number=number,
            pages=pages,
            count=len(found),
            feature=feature,
            outcome=outcome,
            features=sorted({one.feature for one in every}),
            outcomes=sorted({one.outcome for one in every}),
            trouble=trouble,
        )

    async def _report(self, request: Request) -> Response:
        report = self._desk.reports.get(request.path_params["id"])
        verdict = [
            {**msgspec.to_builtins(line), "gain": gained(line.status, line.risk)} for line in report.verdict
        ]
        return await self._desk.page(
            "report.html",
            page="reports",
            report=report,
            verdict=verdict,
            compared=compared(report),
            sent=self._texts(report),
        )

    async def _export(self, request: Request) -> Response:
        name = "sottovoce-reports.json"
        data = await asyncio.to_thread(self._desk.reports.export, request.query_params.get("id"))
        return Response(
            data,
            media_type="application/json",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )

    async def _verify(self, request: Request) -> Any:
        report = self._desk.reports.get(request.path_params["id"])
        if is_empty(report):
            raise UsageError("that session ended before there was anything to verify; nothing was sent")
        environment = self._desk.client.environment
        verdict = await asyncio.to_thread(recheck, report, environment, environment.session_policy())
        return {
            "accepted": verdict.accepted,
            "checks": [{**check.to_json(), "gain": check.gain} for check in verdict.checks],
        }

    async def _delete(self, request: Request) -> Any:
        self._desk.reports.delete(request.path_params["id"])

    def _texts(self, report: Report) -> list[str]:
        """What a report's session sent, as long as its answer is open."""
        for asking in self._desk.askings.all():
            if asking.report == report.id and report.size_class:
                draft = [f"Draft: {asking.draft}"] if asking.draft else []
                return [asking.sent[one] for one in report.messages if one in asking.sent] + draft
        return []
