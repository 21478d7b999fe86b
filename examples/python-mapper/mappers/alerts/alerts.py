"""Makes one event of each alert in an Alertmanager notification.

Import at the top of the file: the built component has no files left to import from.
"""

import json
from dataclasses import dataclass

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.mapper import Delivery, Event, MapError_Failed, MapError_InvalidPayload, MapError_Skip


class Mapper(exports.Mapper):
    def transform(self, delivery: Delivery) -> list[Event]:
        severity = Severity.of(json.loads(delivery.context.settings))
        notification = json.loads(delivery.payload)
        try:
            alerts = notification["alerts"]
            wanted = [alert for alert in alerts if severity.matters(alert["labels"].get("severity"))]
            events = [event(alert, notification) for alert in wanted]
        except (KeyError, TypeError, AttributeError) as error:
            raise Err(MapError_InvalidPayload(f"not an Alertmanager notification: {error!r}"))
        if not events:
            raise Err(MapError_Skip(f"{len(alerts)} alerts, none of them {severity.least} or worse"))
        return events


@dataclass
class Severity:
    """The order of severities, and the mildest that is wanted."""

    order: list[str]
    least: str

    @classmethod
    def of(cls, settings: dict) -> "Severity":
        order = settings.get("severities", ["info", "warning", "critical"])
        least = settings.get("min_severity", order[0])
        if least not in order:
            raise Err(MapError_Failed(f"settings: min_severity is {least!r}, severities are {order}"))
        return cls(order, least)

    def matters(self, severity: str | None) -> bool:
        """An alert whose severity nobody has ranked is kept: better one too many than one lost."""
        return severity not in self.order or self.order.index(severity) >= self.order.index(self.least)


def event(alert: dict, notification: dict) -> Event:
    labels, notes = alert["labels"], alert.get("annotations", {})
    payload = {
        "alert": labels["alertname"],
        "status": alert["status"],
        "severity": labels.get("severity"),
        "summary": notes.get("summary") or notes.get("description"),
        "started_at": alert["startsAt"],
        "labels": {name: value for name, value in labels.items() if name not in ("alertname", "severity")},
        "group": notification["groupKey"],
        "graph": alert.get("generatorURL"),
    }
    # While an alert fires, endsAt is Go's zero time, the year 1, or a guess.
    if alert["status"] == "resolved":
        payload["ended_at"] = alert["endsAt"]
    # Alertmanager repeats what still fires, each time with the same three.
    key = f"{alert['fingerprint']} {alert['status']} {alert['startsAt']}"
    return Event(payload=json.dumps(payload), key=key)
