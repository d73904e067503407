import json


class Empty(Exception):
    pass


def handler(event, context):
    if event == "chained":
        try:
            json.loads("{")
        except ValueError as e:
            raise RuntimeError("bad input") from e
    if event == "empty":
        raise Empty()
    raise KeyError("key")
