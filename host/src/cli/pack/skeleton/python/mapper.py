# What becomes of one delivery. Import at the top: once built, there are no files to import from.
import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.mapper import Delivery, Event, MapError_InvalidPayload, MapError_Skip


class Mapper(exports.Mapper):
    def transform(self, delivery: Delivery) -> list[Event]:
        payload = json.loads(delivery.payload)
        if not isinstance(payload, dict):
            raise Err(MapError_InvalidPayload("the payload is not an object"))
        if payload.get("test") is True:
            raise Err(MapError_Skip("a test"))
        event = {"trigger": delivery.context.trigger, "received": payload}
        return [Event(payload=json.dumps(event), key=None)]
