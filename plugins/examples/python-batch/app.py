"""A batch counter: pieces of the present batch, and how many batches were finished. It survives restarts.

Commands: `start {"batch": "A-17", "pieces": 100}`, `count {"pieces": 5}` (without arguments: 1), `finish {}`.
Configuration: none but `pieces`, the size of a batch that `start` does not name.
"""

import json

import wit_world
from componentize_py_types import Err
from wit_world.exports import commands, sensor
from wit_world.imports import config, state, types


def point(id, title, kind, point_class, unit=""):
    return types.Point(id, title, kind, point_class, unit, None, [])


POINTS = [
    point("batch", "Present batch", types.ValueKind.TEXT, types.PointClass.STATE),
    point("pieces", "Pieces of it", types.ValueKind.UNSIGNED, types.PointClass.GAUGE),
    point("target", "Pieces that it is to have", types.ValueKind.UNSIGNED, types.PointClass.GAUGE),
    point("batches", "Finished batches", types.ValueKind.UNSIGNED, types.PointClass.COUNTER),
]
KEY = "batch"


class Counter:
    """What is known, and kept."""

    def __init__(self):
        kept = state.get(KEY)
        self.values = json.loads(bytes(kept)) if kept else {"batch": "", "pieces": 0, "target": 0, "batches": 0}

    def keep(self):
        state.set(KEY, json.dumps(self.values).encode())


counter = None


class Sensor:
    def check(self, config: str):
        problems = []
        for key, value in json.loads(config).items():
            if key != "pieces":
                problems.append(sensor.Problem("/" + key, f"unknown key `{key}`", "it takes `pieces`"))
            elif not isinstance(value, int) or value < 1:
                problems.append(sensor.Problem("/pieces", "a whole number from 1 on belongs here", "pieces = 100"))
        return problems

    def describe(self):
        return sensor.About("batch", "0.1.0", "", POINTS, [])

    def init(self):
        global counter
        counter = Counter()

    def run(self, trigger, now, deadline):
        good = types.Quality(types.Severity.GOOD, 0)
        values = counter.values
        readings = [types.Reading(0, types.Value_Text(values["batch"]), good, None)]
        for index, key in enumerate(["pieces", "target", "batches"], start=1):
            readings.append(types.Reading(index, types.Value_Unsigned(values[key]), good, None))
        return sensor.Outcome(readings, None, False)

    def stop(self):
        pass


class Commands:
    def execute(self, cmd: commands.Command) -> str:
        try:
            args = json.loads(cmd.args)
        except ValueError as error:
            raise Err(commands.Rejection_Invalid(f"args: {error}"))
        if not isinstance(args, dict):
            raise Err(commands.Rejection_Invalid("args are an object"))
        values = counter.values
        if cmd.name == "start":
            batch = args.get("batch")
            if not isinstance(batch, str) or not batch:
                raise Err(commands.Rejection_Invalid("`batch` is missing"))
            pieces = args.get("pieces", json.loads(config.document()).get("pieces", 100))
            values.update(batch=batch, pieces=0, target=self.number(pieces))
        elif cmd.name == "count":
            if not values["batch"]:
                raise Err(commands.Rejection_Failed("no batch was started"))
            values["pieces"] += self.number(args.get("pieces", 1))
        elif cmd.name == "finish":
            if not values["batch"]:
                raise Err(commands.Rejection_Failed("no batch was started"))
            values.update(batch="", pieces=0, target=0, batches=values["batches"] + 1)
        else:
            raise Err(commands.Rejection_Unknown())
        counter.keep()
        return json.dumps(values)

    @staticmethod
    def number(value):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 32:
            raise Err(commands.Rejection_Invalid("`pieces` is a whole number from 1 on"))
        return value
