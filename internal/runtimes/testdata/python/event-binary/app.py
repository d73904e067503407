def handler(event, context):
    return str(event)
