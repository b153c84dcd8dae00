"""Snapshot -> HTTP answers: /health and its neighbours, and the two addresses that every POS screen polls."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, jsonify, request
from prometheus_client import CollectorRegistry
from werkzeug.exceptions import HTTPException

from kps.core.health import (
    ChildView,
    HealthStatus,
    PrinterView,
    QueueView,
    Snapshot,
    Verdict,
    alive,
    for_everybody,
    ready,
    success_rate,
    uptime_formatted,
    verdict,
)
from kps.web.metrics import KpsCollector, exposition

SERVICE_NAME = "Kitchen Printer Service"

Json = dict[str, Any]


def health_app(snapshot: Callable[[], Snapshot], *, token: str = "") -> Flask:
    """What probes, scrapers and people ask on HEALTH_CHECK_PORT. Reads memory only; nothing here can wait.

    With a `token`, /metrics and /status want `Authorization: Bearer <token>`; everything else is open, since a probe
    has no secrets, but says to those without it nothing of addresses, users and what exactly is wrong. Every route
    answers GET and HEAD, other methods 405.
    """
    app = _bare_app("kps-health")
    registry = CollectorRegistry()
    registry.register(KpsCollector(snapshot))

    def health() -> tuple[Response, int]:
        shown = _may_read(token)
        now = snapshot() if shown else for_everybody(snapshot())
        judged = verdict(now)
        return jsonify(_health(now, judged, addresses=shown)), 503 if judged.status is HealthStatus.UNHEALTHY else 200

    def healthz() -> tuple[Response, int]:
        return (_text("ok"), 200) if alive(snapshot()) else (_text("stuck"), 503)

    def readyz() -> tuple[Response, int]:
        able, reasons = ready(snapshot() if _may_read(token) else for_everybody(snapshot()))
        return jsonify({"ready": able, "reasons": list(reasons)}), 200 if able else 503

    def ping() -> Response:
        return jsonify({"status": "ok", "service": "kitchen_printer_service"})

    def metrics() -> Response:
        if not _may_read(token):
            return _ask_for_token()
        content_type, body = exposition(registry, request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    def status() -> Response:
        return jsonify(_status(snapshot())) if _may_read(token) else _ask_for_token()

    for route in (health, healthz, readyz, ping, metrics, status):
        _read_only(app, f"/{route.__name__}", route)
    return app


def widget_app(snapshot: Callable[[], Snapshot]) -> Flask:
    """What the POS screens ask on POS_WIDGET_PORT, from pages of another origin: CORS for everybody, no secrets."""
    app = _bare_app("kps-widget")

    def health() -> Response:
        now = snapshot()
        works = verdict(now).status is not HealthStatus.UNHEALTHY
        return jsonify(
            {
                "status": "ok" if works else "error",
                "agent_name": now.instance or SERVICE_NAME,
                "uptime_seconds": int(now.uptime_s),
                "tickets_processed": now.tickets_processed,
            }
        )

    def printers() -> Response:
        return jsonify(_widget_printers(snapshot().printers, datetime.now(UTC)))

    _read_only(app, "/health", health)
    _read_only(app, "/api/printers/status", printers)
    app.before_request(_answer_preflight)
    app.after_request(_allow_every_origin)
    return app


def _bare_app(name: str) -> Flask:
    app = Flask(name, static_folder=None, template_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the documented order is easier to read
    app.register_error_handler(HTTPException, _plain_error)
    app.after_request(_never_stored)
    return app


def _read_only(app: Flask, path: str, view: Callable[[], Any]) -> None:
    app.add_url_rule(path, view.__name__, view, methods=["GET"], provide_automatic_options=False)


def _plain_error(error: HTTPException) -> Response:
    answer = jsonify({"error": error.name})
    answer.status_code = error.code or 500
    if methods := getattr(error, "valid_methods", None):
        answer.headers["Allow"] = ", ".join(sorted(methods))
    return answer


def _never_stored(answer: Response) -> Response:
    answer.headers.setdefault("Cache-Control", "no-store")
    answer.headers.setdefault("X-Content-Type-Options", "nosniff")
    return answer


def _text(words: str) -> Response:
    return Response(words + "\n", mimetype="text/plain")


def _may_read(token: str) -> bool:
    if not token:
        return True
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # WSGI hands headers over as latin-1; as bytes, any token can be compared.
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), token.encode())


def _ask_for_token() -> Response:
    answer = jsonify({"error": "Unauthorized"})
    answer.status_code = 401
    answer.headers["WWW-Authenticate"] = 'Bearer realm="kps"'
    return answer


def _answer_preflight() -> Response | None:
    return Response(status=204) if request.method == "OPTIONS" else None


def _allow_every_origin(answer: Response) -> Response:
    answer.headers["Access-Control-Allow-Origin"] = "*"
    if request.method == "OPTIONS":
        answer.headers["Access-Control-Allow-Methods"] = "GET, HEAD, OPTIONS"
        answer.headers["Access-Control-Allow-Headers"] = "*"
        answer.headers["Access-Control-Max-Age"] = "600"
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            # A POS page from the internet may ask an address in the shop's own network only with this consent.
            answer.headers["Access-Control-Allow-Private-Network"] = "true"
    return answer


def _health(now: Snapshot, judged: Verdict, *, addresses: bool) -> Json:
    """The product's document fixes the keys down to `metrics`; the rest is ours."""
    hidden: Json = {} if addresses else {"ip": None, "port": None}
    return {
        "status": judged.status.value,
        "service": SERVICE_NAME,
        "version": now.version,
        "uptime_seconds": int(now.uptime_s),
        "uptime_formatted": uptime_formatted(now.uptime_s),
        "database": now.database,
        "last_poll": _utc_without_zone(now.last_poll),
        "metrics": {
            "tickets_processed": now.tickets_processed,
            "tickets_failed": now.tickets_failed,
            "success_rate": success_rate(now.tickets_processed, now.tickets_failed),
            "pending_tickets": now.queue.new,
            "printed_today": now.queue.printed_today,
            "failed_tickets": now.queue.failed_today,
        },
        "instance": now.instance,
        "reasons": list(judged.reasons),
        "notices": list(now.notices),
        "processes": [_process(child) for child in now.children],
        "printers": [_printer(printer) | hidden for printer in now.printers],
    }


def _status(now: Snapshot) -> Json:
    judged = verdict(now)
    able, why_not = ready(now)
    counted = _nested(now.counters)
    return {
        "status": judged.status.value,
        "reasons": list(judged.reasons),
        "notices": list(now.notices),
        "ready": able,
        "not_ready_because": list(why_not),
        "draining": now.draining,
        "version": now.version,
        "instance": now.instance,
        "uptime_seconds": int(now.uptime_s),
        "supervisor": {"tick_age_seconds": _finite(now.tick_age_s), "loop_lag_seconds": _finite(now.loop_lag_s)},
        "database": {"ok": now.database_ok, "state": now.database, "snapshot_age_seconds": _finite(now.snapshot_age_s)},
        "dispatcher": {
            "ok": now.dispatcher_ok,
            "crash_loop": now.dispatcher_crash_loop,
            "last_poll": _utc(now.last_poll),
        },
        "config_reload_ok": now.config_reload_ok,
        "queue": _queue(now.queue),
        "tickets": {"processed": now.tickets_processed, **counted.pop("tickets", {})},
        "counters": {
            **counted.pop("counters", {}),
            "reconciled": now.counters.get("released.reconcile", 0),
            "failovers": sum(now.failovers.values()),
            "held_tickets": now.held_tickets,
            "listener_proven": int(now.listener_proven),
        },
        **counted,
        "failovers": [{"from": here, "to": there, "count": n} for (here, there), n in now.failovers.items()],
        "processes": [_process(child) | _process_details(child) for child in now.children],
        "template": _template(now.template) if now.template is not None else None,
        "printers": [_printer(printer) | _printer_details(printer) for printer in now.printers],
    }


def _process(child: ChildView) -> Json:
    return {
        "name": child.name,
        "kind": child.kind,
        "state": child.state,
        "pid": child.pid,
        "generation": child.generation,
        "restarts": child.restarts,
        "heartbeat_age_seconds": _finite(child.heartbeat_age_s),
    }


def _template(template: ChildView) -> Json:
    return {
        "state": template.state,
        "pid": template.pid,
        "generation": template.generation,
        "restarts": template.restarts,
        "started_at": _utc(template.started_at),
        "last_exit": template.last_exit,
        **_nested(template.counted.counters),
    }


def _process_details(child: ChildView) -> Json:
    return {
        "started_at": _utc(child.started_at),
        "ticket": child.ticket,
        "last_exit": child.last_exit,
        "connected": child.connected,
        **_nested(child.counted.counters),
        "print_seconds": {
            "count": max(child.counted.print_seconds_buckets.values(), default=0),
            "sum": _finite(child.counted.print_seconds_sum),
        },
    }


def _nested(counters: Mapping[str, int]) -> Json:
    """`printed.none` -> `none` in `printed`."""
    found: Json = {}
    for place, count in counters.items():
        *above, name = place.split(".")
        inner = found
        for key in above:
            inner = inner.setdefault(key, {})
        inner[name] = count
    return found


def _printer(printer: PrinterView) -> Json:
    return {
        "id": printer.id,
        "name": printer.name,
        "station": printer.station,
        "ip": printer.ip,
        "port": printer.port,
        "active": printer.active,
        "is_online": printer.able,
        "state": printer.state,
        "reason": printer.reason,
        "paper": printer.paper,
        "cover": printer.cover,
        "cutter": printer.cutter,
        "queued": printer.queued,
        "owner": printer.owner,
    }


def _printer_details(printer: PrinterView) -> Json:
    return {
        "brand_id": printer.brand_id,
        "priority": printer.priority,
        "usable": printer.usable,
        "key": printer.key,
        "mine": printer.mine,
        "state_since": _utc(printer.state_since),
        "proof": printer.proof,
        "proof_lost": printer.proof_lost,
        "may_have_printed": list(printer.may_have_printed),
        "response_ms": printer.response_ms,
        "checked_at": _utc(printer.checked_at),
        "total_prints": printer.total_prints,
        "failed_prints": printer.failed_prints,
    }


def _queue(queue: QueueView) -> Json:
    return {
        "new": queue.new,
        "printing": queue.printing,
        "printed_today": queue.printed_today,
        "failed_today": queue.failed_today,
        "oldest_new_age_seconds": _finite(queue.oldest_new_age_s),
    }


def _widget_printers(printers: Iterable[PrinterView], now: datetime) -> Json:
    """Active rows only: an inactive row is switched off on purpose and must not turn every POS screen red."""
    shown = [printer for printer in printers if printer.active]
    online = sum(1 for printer in shown if printer.able)
    offline = sum(1 for printer in shown if printer.able is False)
    looked_at = [printer.checked_at for printer in shown if printer.checked_at is not None]
    return {
        "overall": _overall(len(shown), online, offline),
        "counts": {"total": len(shown), "online": online, "offline": offline},
        "last_check": _utc(max(looked_at, default=None)),
        "timestamp": _utc(now),
        "printers": [
            {
                "id": printer.id,
                "station_code": printer.station,
                "printer_name": printer.name,
                "printer_ip": printer.ip,
                "printer_port": printer.port,
                "is_online": printer.able,
                "response_time_ms": printer.response_ms,
                "error_message": printer.reason,
                "checked_at": _utc(printer.checked_at),
            }
            for printer in shown
        ],
    }


def _overall(total: int, online: int, offline: int) -> str:
    """One state for all printers. `unknown` is never folded into a known state."""
    if total and online == total:
        return "online"
    if total and offline == total:
        return "offline"
    return "partial" if offline else "unknown"


def _finite(value: float | None) -> float | None:
    """JSON has no infinity: what was never measured is null."""
    return round(value, 3) if value is not None and math.isfinite(value) else None


def _utc(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else None


def _utc_without_zone(moment: datetime | None) -> str | None:
    # The product's document shows this one without a zone.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") if moment else None
