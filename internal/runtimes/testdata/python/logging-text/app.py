import logging

logger = logging.getLogger()
logger.warning("at import")
logger.info("not shown: the root level is WARNING")


def handler(event, context):
    logger.setLevel(logging.DEBUG)
    logger.debug("debug %s", "é")
    logging.getLogger("a.b").error("two\nlines")
    try:
        1 / 0
    except ZeroDivisionError:
        logger.exception("failed")
    logging.basicConfig(level=logging.ERROR)
    logger.critical("basicConfig does nothing, there is a handler")
