from ..other import VALUE


def handler(event, context):
    return VALUE
