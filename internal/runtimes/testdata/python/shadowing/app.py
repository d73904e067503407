import calendar
import json
import logging


def handler(event, context):
    return [json.dumps("the library's"), logging.__name__, calendar.MINE]
