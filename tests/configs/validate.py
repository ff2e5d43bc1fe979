"""Holds documents against a JSON schema: `{"schema": .., "documents": {NAME: ..}}` comes in, `{NAME: [PLACE ..]}` goes out.

A place is the path of what is wrong, `/source/a/every`; an unknown or a missing key is a fault of the table around it.
"""

import json
import sys

from jsonschema import Draft202012Validator

asked = json.load(sys.stdin)
schema = asked["schema"]
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)


def places(document):
    return sorted({"".join(f"/{part}" for part in error.absolute_path) for error in validator.iter_errors(document)})


json.dump({name: places(document) for name, document in asked["documents"].items()}, sys.stdout)
