import logging

logger = logging.getLogger("shop")


def handler(event, context):
    logger.debug("below the level")
    logger.info("sold", extra={"sku": "é1", "count": 2, "none": None})
    logger.log(45, "between levels")
    try:
        1 / 0
    except ZeroDivisionError:
        logger.exception("failed\ntwice")
    raise ValueError("no")
