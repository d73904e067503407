"""A function for python3.13 with the handler app.handler."""

import logging

logger = logging.getLogger()
logger.setLevel(logging.INFO)


def handler(event, context):
    if not event.get("name"):
        raise ValueError("the event has no name")
    logger.info("greeting %s", event["name"])
    return {"message": f"Hello, {event['name']}!", "runtime": "python", "requestId": context.aws_request_id}
