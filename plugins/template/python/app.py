"""my-sensor: a sensor that counts up, as a start. Replace what `run` does by what yours measures.

Configuration: `full`, in mm, where it begins again; default 1000.
"""

import json

from wit_world.exports import sensor
from wit_world.imports import config, types

GOOD = types.Quality(types.Severity.GOOD, 0)
POINTS = [
    types.Point("level", "Level of the tank", types.ValueKind.REAL, types.PointClass.GAUGE, "mm", None, []),
    types.Point("polls", "Polls since the start", types.ValueKind.UNSIGNED, types.PointClass.COUNTER, "", None, []),
]

full = 1000.0
polls = 0


class Sensor:
    def check(self, config: str):
        """Everything that is wrong with a configuration; `outstation check` shows it at its line."""
        problems = []
        for key, value in json.loads(config).items():
            if key != "full":
                problems.append(sensor.Problem("/" + key, f"unknown key `{key}`", "it takes `full`"))
            elif not isinstance(value, (int, float)) or value <= 0:
                problems.append(sensor.Problem("/full", "a number above 0 belongs here", "full = 1000.0"))
        return problems

    def describe(self):
        """The points; readings name them by their place in the list."""
        return sensor.About("my-sensor", "0.1.0", "", POINTS, [])

    def init(self):
        """Called once. What is wrong is raised: Err(sensor.Failure_Unavailable("the device is away"))."""
        global full
        full = json.loads(config.document()).get("full", 1000.0)

    def run(self, trigger, now, deadline):
        """Takes the readings: at the start, then by schedule."""
        global polls
        polls += 1
        readings = [
            types.Reading(0, types.Value_Real(polls * 12.5 % full), GOOD, None),
            types.Reading(1, types.Value_Unsigned(polls), GOOD, None),
        ]
        return sensor.Outcome(readings, None, False)

    def stop(self):
        """The end: the last chance to write state."""
